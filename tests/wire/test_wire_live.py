"""Long-poll and server-sent events over real connections: sections 4.6 and 9."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest

from durastream.server import event_stream
from support.wire import Client, Connection, request_bytes, wait_until

CONTROL = re.compile(rb"event: control\ndata:(\{[^{}\n]*\})\n\n")
ZERO = "0000000000000000_0000000000000000"


class EventReader:
    """An event stream, one network chunk at a time."""

    def __init__(self, port: int, path: str, query: str = "offset=-1") -> None:
        self.connection = Connection(port)
        self.connection.send(request_bytes("GET", f"{path}?{query}&live=sse"))
        self.status, headers = self.connection.head()
        self.headers = dict(headers)

    def pair(self) -> tuple[bytes, dict]:
        """The data event (empty if none) and the control of the next write but heartbeats."""
        chunk = b":\n\n"
        while chunk == b":\n\n":
            chunk = self.connection.chunk()
        assert chunk, "the event stream ended"
        control = CONTROL.search(chunk)
        assert control is not None, chunk
        assert control.end() == len(chunk), "a control event ends each write"
        return chunk[: control.start()], json.loads(control[1])

    def is_ended(self) -> bool:
        return self.connection.chunk() == b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def follow(server, path, query="offset=-1") -> EventReader:
    return EventReader(server.port, path, query)


def waiting_count(server) -> int:
    service = server._serving._app._service
    return len(service.readers)


# -- long-poll -----------------------------------------------------------------------------


def poll(connect, path, query="offset=-1"):
    connection = connect()
    connection.send(request_bytes("GET", f"{path}?{query}&live=long-poll"))
    return connection


def test_a_long_poll_is_answered_by_the_append(client, connect, server, path):
    client.put(path)
    waiting = [poll(connect, path) for _ in range(5)]
    wait_until(lambda: waiting_count(server) == 5)
    tail = client.post(path, b"news")["stream-next-offset"]
    for connection in waiting:
        answer = connection.answer()
        assert (answer.status, answer.body) == (200, b"news")
        assert answer["stream-next-offset"] == tail
        assert answer["stream-up-to-date"] == "true"
        assert answer["stream-cursor"].isdecimal()
        assert answer["etag"]
    assert waiting_count(server) == 0


def test_a_long_poll_that_times_out(client, path):
    client.put(path, b"old")
    answer = client("GET", f"{path}?offset=now&live=long-poll")
    assert (answer.status, answer["stream-up-to-date"]) == (204, "true")
    assert answer["stream-next-offset"] == client("HEAD", path)["stream-next-offset"]
    assert "stream-closed" not in answer
    again = client("GET", f"{path}?offset=now&live=long-poll&cursor={answer['stream-cursor']}")
    assert int(again["stream-cursor"]) > int(answer["stream-cursor"])


def test_a_close_with_data_is_seen_with_its_data(client, connect, server, path):
    client.put(path)
    connection = poll(connect, path, "offset=now")
    wait_until(lambda: waiting_count(server) == 1)
    client.post(path, b"last", stream_closed="true")
    answer = connection.answer()
    assert (answer.status, answer.body, answer["stream-closed"]) == (200, b"last", "true")


def test_a_close_without_data_is_204(client, connect, server, path):
    client.put(path, b"all")
    connection = poll(connect, path, "offset=now")
    wait_until(lambda: waiting_count(server) == 1)
    client("POST", path, b"", stream_closed="true")
    answer = connection.answer()
    assert (answer.status, answer["stream-closed"]) == (204, "true")
    assert "stream-cursor" not in answer
    at_once = client("GET", f"{path}?offset=now&live=long-poll")
    assert (at_once.status, at_once["stream-closed"]) == (204, "true")


@pytest.mark.parametrize(("with_fork", "status"), [(False, 404), (True, 410)])
def test_a_delete_ends_the_wait(client, connect, server, path, with_fork, status):
    client.put(path)
    if with_fork:
        client.put(f"{path}/fork", stream_forked_from=path)
    connection = poll(connect, path)
    wait_until(lambda: waiting_count(server) == 1)
    client("DELETE", path)
    assert connection.answer().status == status


def test_json_long_polls_answer_one_array(client, connect, server, path):
    client.put(path, content_type="application/json")
    connection = poll(connect, path)
    wait_until(lambda: waiting_count(server) == 1)
    client("POST", path, b' [ 1.0 , {"a" : 2} ] ', content_type="application/json")
    assert connection.answer().body == b'[1.0,{"a" : 2}]'


def test_a_reader_that_leaves_is_forgotten(client, connect, server, path):
    client.put(path)
    connections = [poll(connect, path) for _ in range(3)]
    reader = follow(server, path)
    reader.pair()
    wait_until(lambda: waiting_count(server) == 4)
    for connection in [*connections, reader.connection]:
        connection.close()
    wait_until(lambda: waiting_count(server) == 0)


def test_a_reader_that_leaves_behind_a_pipelined_request_is_forgotten(
    client, start_server, path, caplog
):
    server = start_server(sse_heartbeat=0.05, sse_max_age=600.0)
    client.put(path)
    with follow(server, path) as reader:
        reader.connection.send(request_bytes("HEAD", path))
        reader.pair()
        assert waiting_count(server) == 1
    wait_until(lambda: not server._serving.server_state.tasks and not waiting_count(server))
    assert not caplog.records  # it was told, not broken by writing to nobody


# -- server-sent events --------------------------------------------------------------------


def test_the_head_of_an_event_stream(client, server, path):
    client.put(path)
    with follow(server, path) as reader:
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.headers["cache-control"] == "no-cache"
        assert reader.headers["x-accel-buffering"] == "no"
        assert "content-length" not in reader.headers
        assert "etag" not in reader.headers
        assert "stream-sse-data-encoding" not in reader.headers


def test_stored_then_live_data_in_pairs(client, server, path):
    client.put(path, b"one")
    with follow(server, path) as reader:
        data, control = reader.pair()
        assert data == b"event: data\ndata:one\n\n"
        assert control["upToDate"] is True
        assert control["streamCursor"].isdecimal()
        offset = control["streamNextOffset"]
        tail = client.post(path, b"two")["stream-next-offset"]
        data, control = reader.pair()
        assert data == b"event: data\ndata:two\n\n"
        assert control["streamNextOffset"] == tail > offset
    with follow(server, path, f"offset={offset}") as reader:
        assert reader.pair()[0] == b"event: data\ndata:two\n\n"


def test_an_empty_stream_tells_its_real_offset(client, server, path):
    client.put(path)
    for offset in ["-1", "now", ZERO]:
        with follow(server, path, f"offset={offset}") as reader:
            data, control = reader.pair()
            assert data == b""
            assert control["streamNextOffset"] == ZERO
            assert control["upToDate"] is True


@pytest.mark.parametrize("closing", [b"the end", b""])
def test_the_close_comes_after_the_last_data(client, server, path, closing):
    client.put(path)
    with follow(server, path) as reader:
        reader.pair()
        client("POST", path, closing, content_type="text/plain", stream_closed="true")
        data, control = reader.pair()
        assert data == (b"event: data\ndata:the end\n\n" if closing else b"")
        assert control["streamClosed"] is True
        assert control["upToDate"] is True
        assert "streamCursor" not in control
        assert reader.is_ended()
    with follow(server, path) as reader:
        assert reader.pair()[1]["streamClosed"] is True
        assert reader.is_ended()


def test_binary_is_base64(client, server, path):
    client.put(path, bytes(range(256)), content_type="application/x-thing")
    with follow(server, path) as reader:
        assert reader.headers["stream-sse-data-encoding"] == "base64"
        assert reader.pair()[0].startswith(b"event: data\ndata:AAECAwQF")


def test_json_is_an_array_and_injects_nothing(client, server, path):
    client.put(path, content_type="application/json")
    body = b'["a\\n\\nevent: control",\n{"x":\r\n1}]'
    client("POST", path, body, content_type="application/json")
    with follow(server, path) as reader:
        data, _ = reader.pair()
    lines = data.removeprefix(b"event: data\n").removesuffix(b"\n\n").split(b"\n")
    assert all(line.startswith(b"data:") for line in lines)
    payload = b"\n".join(line.removeprefix(b"data:") for line in lines)
    assert json.loads(payload) == json.loads(body)


def test_a_long_backlog_comes_in_several_pairs(client, server, path):
    client.put(path)
    for number in range(6):
        client.post(path, b"%d" % number * 200_000)
    with follow(server, path) as reader:
        offsets, data, control = [], b"", {}
        while not control.get("upToDate"):
            event, control = reader.pair()
            data += event.removeprefix(b"event: data\ndata:").removesuffix(b"\n\n")
            offsets.append(control["streamNextOffset"])
    assert data == b"".join(b"%d" % number * 200_000 for number in range(6))
    assert offsets == sorted(set(offsets))
    assert len(offsets) > 1


def test_a_character_cut_by_appends_is_whole_in_events(client, server, path):
    text = "a\u00e9\u20ac\U0001f600".encode()
    client.put(path)
    with follow(server, path) as reader:
        reader.pair()
        client.post(path, text[:-1])
        client.post(path, text[-1:] + b"!")
        data, control = reader.pair()
        assert data == b"event: data\ndata:%b!\n\n" % text
        assert control["streamNextOffset"] == client("HEAD", path)["stream-next-offset"]


def test_a_character_that_stays_cut_is_replaced(client, server, path, monkeypatch):
    monkeypatch.setattr(event_stream, "CHARACTER_HOLD", 0.05)
    client.put(path, b"x\xf0\x9f")
    with follow(server, path) as reader:
        data, control = reader.pair()
        assert data == "event: data\ndata:x\ufffd\n\n".encode()
        assert control["upToDate"] is True


def test_a_delete_ends_the_events(client, server, path):
    client.put(path)
    with follow(server, path) as reader:
        reader.pair()
        client("DELETE", path)
        assert reader.is_ended()


def test_a_successor_at_the_same_path_is_not_mixed_in(client, server, path):
    client.put(path, b"abc")
    with follow(server, path) as reader:
        reader.pair()
        client("DELETE", path)
        client.put(path, b"other data")
        assert reader.is_ended()


def test_a_successor_is_not_mixed_into_a_backlog(client, server, path):
    def write(byte: bytes) -> None:
        client.put(path)
        for _ in range(40):  # more than the socket buffers hold
            client.post(path, byte * 200_000)

    write(b"a")
    with follow(server, path) as reader:
        reader.pair()
        client("DELETE", path)
        write(b"b")  # the same offsets name other bytes now
        while chunk := reader.connection.chunk():
            assert b"data:b" not in chunk


def test_expiry_ends_the_events(client, server, path):
    soon = time.gmtime(time.time() + 2)
    client.put(path, stream_expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", soon))
    with follow(server, path) as reader:
        reader.pair()
        assert reader.is_ended()
    assert client("GET", path).status == 404


def test_old_connections_end_with_a_control(client, start_server, path):
    server = start_server(sse_max_age=0.3, sse_heartbeat=0.1)
    client.put(path)
    with follow(server, path) as reader:
        _, first = reader.pair()
        assert reader.connection.chunk() == b":\n\n"
        _, last = reader.pair()
        assert int(last["streamCursor"]) >= int(first["streamCursor"])
        assert last["streamNextOffset"] == first["streamNextOffset"]
        assert reader.is_ended()


def test_cursors_of_a_connection_never_fall(client, server, path):
    client.put(path)
    ahead = int(client("GET", f"{path}?offset=-1&live=long-poll")["stream-cursor"]) + 1000
    with follow(server, path, f"offset=-1&cursor={ahead}") as reader:
        cursors = [int(reader.pair()[1]["streamCursor"])]
        for _ in range(5):
            client.post(path, b"x")
            cursors.append(int(reader.pair()[1]["streamCursor"]))
    assert cursors[0] > ahead
    assert cursors == sorted(cursors)


def test_a_slow_reader_holds_back_nobody(client, server, path):
    client.put(path)
    with follow(server, path) as slow, follow(server, path) as quick:
        slow.pair()
        quick.pair()
        for number in range(60):  # more than any socket buffer holds
            client.post(path, b"%02d" % number * 100_000)
            while (
                quick.pair()[1]["streamNextOffset"] != (client("HEAD", path)["stream-next-offset"])
            ):
                pass
        received = b""
        while received.count(b"0") + received.count(b"5") == 0 or not received.endswith(b"59"):
            data, _ = slow.pair()
            received += data.removeprefix(b"event: data\ndata:").removesuffix(b"\n\n")
    assert received == b"".join(b"%02d" % number * 100_000 for number in range(60))


@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.002, 0.005])
def test_no_data_is_lost_when_the_close_races(client, server, path, delay):
    client.put(path)
    writer = Client(server.port)

    def write() -> None:
        time.sleep(delay)
        writer.post(path, b"final", stream_closed="true")
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    received = b""
    with follow(server, path) as reader:
        control: dict = {}
        while "streamClosed" not in control:
            data, control = reader.pair()
            received += data
    thread.join()
    assert received == b"event: data\ndata:final\n\n"


def test_stopping_answers_those_who_wait(client, start_server, path):
    server = start_server(long_poll_timeout=60.0, sse_max_age=600.0)
    client.put(path, b"data")
    with follow(server, path) as reader, Connection(server.port) as polling:
        reader.pair()
        polling.send(request_bytes("GET", f"{path}?offset=now&live=long-poll"))
        wait_until(lambda: waiting_count(server) == 2)
        started = time.monotonic()
        server.__exit__(None, None, None)
        assert time.monotonic() - started < 5
        answer = polling.answer()
        assert (answer.status, answer["stream-up-to-date"]) == (204, "true")
        assert answer["connection"] == "close"
        assert reader.is_ended()
    server.__enter__()  # the fixture stops it again
