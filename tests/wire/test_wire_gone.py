"""A client gone at every moment of a request and of its answer: all or nothing, and no trace."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest

from support.wire import Connection, request_bytes, wait_until

TYPE = "text/plain"


def chunked(path, *chunks):
    head = request_bytes("POST", path, None, content_type=TYPE, transfer_encoding="chunked")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


def leave(connection, how):
    if how == "reset":  # unsent and unread bytes are dropped, and the peer gets an error
        linger = struct.pack("ii", 1, 0)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


def descriptors():
    return len(os.listdir("/dev/fd"))


class Traces:
    """What requests leave in a server while they last: all of it must go with the client."""

    def __init__(self, server):
        self._serving = server._serving
        self._store = server.store
        self._loop = server._thread._loop
        self.before = self.now()
        self._descriptors = descriptors()

    def now(self):
        async def tasks():
            return len(asyncio.all_tasks()) - 1  # without this one

        service, state = self._serving._app._service, self._serving.server_state
        engine = getattr(self._store, "_engine", None)
        return {
            "tasks": asyncio.run_coroutine_threadsafe(tasks(), self._loop).result(10),
            "requests": len(state.tasks),
            "connections": len(state.connections),
            "readers": len(service.readers),
            "parked": len(engine.parked) if engine else 0,
            "memory for bodies": service.budget._size_left,
        }

    def vanish(self):
        try:
            wait_until(lambda: self.now() == self.before)
        except AssertionError:
            assert self.now() == self.before
        wait_until(lambda: descriptors() <= self._descriptors + 3)  # the store may open a file


@pytest.fixture
def traces(client, start_server, path):
    """A server of its own, at rest, beside the one that ``client`` is connected to."""
    assert client("HEAD", path).status == 404
    return Traces(start_server(long_poll_timeout=20.0, sse_heartbeat=0.05))


@pytest.fixture
def port(traces):
    return traces._serving.servers[0].sockets[0].getsockname()[1]


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("kind", ["append", "append and close", "chunked", "put", "fork"])
def test_a_request_cut_off_after_each_byte(client, traces, port, path, kind, how):
    client.put(path, b"begun;")
    target = path + "/new" if kind in ("put", "fork") else path
    request = {
        "append": request_bytes("POST", path, b"whole;", content_type=TYPE),
        "append and close": request_bytes(
            "POST", path, b"whole;", content_type=TYPE, stream_closed="true"
        ),
        "chunked": chunked(path, b"who", b"le;"),
        "put": request_bytes("PUT", target, b"whole;", content_type=TYPE),
        "fork": request_bytes("PUT", target, b"whole;", stream_forked_from=path),
    }[kind]
    for cut in range(len(request)):
        connection = Connection(port)
        connection.send(request[:cut])
        leave(connection, how)
    traces.vanish()
    assert client("GET", path).body == b"begun;"
    assert "stream-closed" not in client("HEAD", path)
    if target != path:
        assert client("HEAD", target).status == 404
    assert client("DELETE", path).status == 204
    assert client("HEAD", path).status == 404  # not 410: no reference of a fork is left


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_whole_requests_of_clients_that_do_not_wait(client, traces, port, path, how):
    """Each is carried out once and whole, or not at all."""
    client.put(path)
    for number in range(60):
        connection = Connection(port)
        connection.send(request_bytes("POST", path, b"%03d;" % number, content_type=TYPE))
        leave(connection, how)
    traces.vanish()
    # Behind all that is being committed; nobody waits for those answers any more.
    client.post(path, b"end;", content_type=TYPE)
    parts = client("GET", path).body.removesuffix(b"end;").split(b";")
    assert parts.pop() == b""
    assert len(set(parts)) == len(parts)
    assert set(parts) <= {b"%03d" % number for number in range(60)}
    if how == "closed":  # the bytes arrive all the same
        assert len(parts) == 60


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("query", ["offset=-1", "offset=-1&live=long-poll", "offset=-1&live=sse"])
def test_an_answer_left_after_each_byte(client, traces, port, path, query, how):
    client.put(path, b"abc")
    request = request_bytes("GET", f"{path}?{query}")
    with Connection(port) as connection:
        connection.send(request)
        size = len(connection.until(b"abc"))
    for cut in range(0, size, 3):
        connection = Connection(port)
        connection.send(request)
        left = cut
        while left:
            left -= len(connection.socket.recv(left))
        leave(connection, how)
    traces.vanish()


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("live", ["long-poll", "sse"])
def test_waiting_clients_that_leave_before_their_data(client, traces, port, path, live, how):
    client.put(path)
    connections = [Connection(port) for _ in range(20)]
    for connection in connections:
        connection.send(request_bytes("GET", f"{path}?offset=now&live={live}"))
    wait_until(lambda: traces.now()["readers"] == 20)
    for connection in connections:
        leave(connection, how)
    client.post(path, b"for nobody")
    traces.vanish()


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_large_answer_left_in_the_middle(client, traces, port, path, how):
    client.put(path)
    for _ in range(16):
        client.post(path, bytes(256 * 1024))
    for size in (0, 1, 100_000, 1_000_000):
        connection = Connection(port)
        connection.send(request_bytes("GET", path))
        left = size
        while left:
            left -= len(connection.socket.recv(min(left, 65536)))
        leave(connection, how)
    traces.vanish()


def test_a_client_gone_behind_pipelined_requests(client, traces, port, path):
    client.put(path)
    connection = Connection(port)
    append = request_bytes("POST", path, b"x", content_type=TYPE)
    poll = request_bytes("GET", f"{path}?offset=now&live=long-poll")
    connection.send(append + poll + append)
    wait_until(lambda: traces.now()["readers"] == 1)
    leave(connection, "closed")
    traces.vanish()
    assert client("GET", path).body in (b"x", b"xx")
