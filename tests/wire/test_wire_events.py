"""Event streams of many readers: everyone gets every byte once, in order, whoever is slow."""

from __future__ import annotations

import json
import re

import pytest

from support.wire import Connection, request_bytes, wait_until

EVENT = re.compile(rb"event: data\n((?:data:[^\n]*\n)+)\n")
CONTROL = re.compile(rb"event: control\ndata:(\{[^{}\n]*\})\n\n")


class Follower:
    """An event stream as one receives it, joined."""

    def __init__(self, port: int, path: str, query: str = "offset=-1", **headers: str) -> None:
        self.connection = Connection(port)
        self.connection.send(request_bytes("GET", f"{path}?{query}&live=sse", **headers))
        status, self.headers = self.connection.head()
        assert status == 200
        self.data = b""
        self.control: dict = {}

    def read_to(self, offset: str) -> bytes:
        """All data up to an offset that a control event tells."""
        while self.control.get("streamNextOffset") != offset:
            self.read_chunk()
        return self.data

    def read_chunk(self) -> bytes:
        chunk = self.connection.chunk()
        for event in EVENT.findall(chunk):
            self.data += event.removesuffix(b"\n").removeprefix(b"data:")
        for control in CONTROL.findall(chunk):
            self.control = json.loads(control)
        return chunk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def waiting_count(server) -> int:
    return len(server._serving._app.service.readers)


def follow_all(server, path, count, query="offset=-1") -> list[Follower]:
    return [Follower(server.port, path, query) for _ in range(count)]


def test_every_reader_gets_every_byte_once(client, server, path):
    client.put(path, b"first ")
    followers = follow_all(server, path, 50)
    written = b"first "
    for number in range(200):
        piece = b"%d " % number
        tail = client.post(path, piece)["stream-next-offset"]
        written += piece
        if number % 40 == 0:
            followers += follow_all(server, path, 2)
    late = Follower(server.port, path, f"offset={tail}")
    tail = client.post(path, b"last")["stream-next-offset"]
    for follower in followers:
        assert follower.read_to(tail) == written + b"last"
        follower.connection.close()
    assert late.read_to(tail) == b"last"
    late.connection.close()
    wait_until(lambda: waiting_count(server) == 0)


def test_readers_come_and_go_while_events_are_written(client, server, path):
    client.put(path)
    staying = follow_all(server, path, 20)
    written = b""
    for number in range(60):
        leaving = follow_all(server, path, 3)
        tail = client.post(path, b"%d " % number)["stream-next-offset"]
        written += b"%d " % number
        for follower in leaving:
            follower.connection.close()
    for follower in staying:
        assert follower.read_to(tail) == written
        follower.connection.close()
    wait_until(lambda: waiting_count(server) == 0)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "x/binary"])
def test_who_falls_behind_gets_all_and_then_goes_on_as_before(client, server, path, content_type):
    """More than the sockets hold, and more than one event may."""
    piece = b"1" * 100_000
    client.put(path, content_type=content_type)
    with Follower(server.port, path) as slow:
        slow.read_chunk()
        for _ in range(60):
            tail = client.post(path, piece, content_type=content_type)["stream-next-offset"]
        slow.read_to(tail)
        tail = client.post(path, b"2", content_type=content_type)["stream-next-offset"]
        chunk = b":\n\n"
        while chunk == b":\n\n":
            chunk = slow.read_chunk()
        assert slow.control["streamNextOffset"] == tail
        assert waiting_count(server) == 1
    wait_until(lambda: waiting_count(server) == 0)


def test_a_reader_that_takes_nothing_is_cut_off_when_it_leaves(client, server, path):
    client.put(path)
    with Follower(server.port, path) as deaf:
        for _ in range(60):
            client.post(path, b"x" * 100_000)
        assert waiting_count(server) == 1
        deaf.connection.close()
    for _ in range(3):
        client.post(path, b"y")
    wait_until(lambda: waiting_count(server) == 0)


def test_the_connection_serves_on_behind_the_last_event(client, server, path):
    client.put(path, b"all")
    with Follower(server.port, path) as follower:
        follower.connection.send(request_bytes("HEAD", path))  # it has to wait
        client.post(path, b"!", stream_closed="true")
        while "streamClosed" not in follower.control:
            follower.read_chunk()
        assert follower.data == b"all!"
        assert follower.connection.chunk() == b""
        answer = follower.connection.answer(head_only=True)
        assert (answer.status, answer["stream-closed"]) == (200, "true")
        follower.connection.send(request_bytes("GET", f"{path}?offset=-1&live=sse"))
        assert follower.connection.head()[0] == 200
        assert b"all!" in follower.connection.chunk()
        assert follower.connection.chunk() == b""


def test_readers_whose_cursors_differ_share_the_data(client, server, path):
    client.put(path)
    with Follower(server.port, path) as plain, Follower(server.port, path) as other:
        plain.read_chunk()
        other.read_chunk()
        cursor = int(plain.control["streamCursor"]) + 5000
        with Follower(server.port, path, f"offset=-1&cursor={cursor}") as ahead:
            tail = client.post(path, b"shared")["stream-next-offset"]
            for follower in (plain, other, ahead):
                assert follower.read_to(tail) == b"shared"
            assert int(plain.control["streamCursor"]) < cursor
            assert int(ahead.control["streamCursor"]) > cursor


def test_a_stream_under_retention_loses_readers_that_fell_behind(client, start_server, path):
    server = start_server(sse_max_age=600.0)
    client.put(path, stream_retention_bytes="100")
    with Follower(server.port, path, "offset=now") as follower:
        follower.read_chunk()
        tail = client.post(path, b"x" * 60)["stream-next-offset"]
        assert follower.read_to(tail) == b"x" * 60


def test_deleting_ends_all_and_a_successor_has_its_own(client, server, path):
    client.put(path, b"old")
    followers = follow_all(server, path, 40)
    for follower in followers:
        follower.read_chunk()
    client("DELETE", path)
    client.put(path, b"new")
    with Follower(server.port, path) as successor:
        successor.read_chunk()
        assert successor.data == b"new"
        for follower in followers:
            while follower.read_chunk():
                pass
            assert follower.data == b"old"
            follower.connection.close()
        tail = client.post(path, b"er")["stream-next-offset"]
        assert successor.read_to(tail) == b"newer"


def test_heartbeats_and_the_end_of_many(client, start_server, path):
    server = start_server(sse_heartbeat=0.1, sse_max_age=0.5)
    client.put(path)
    followers = follow_all(server, path, 30)
    for follower in followers:
        chunks = []
        while chunk := follower.read_chunk():
            chunks.append(chunk)
        assert chunks[1] == b":\n\n"
        assert b"event: control" in chunks[0]
        assert b"event: control" in chunks[-1]
        follower.connection.close()
    wait_until(lambda: waiting_count(server) == 0)
