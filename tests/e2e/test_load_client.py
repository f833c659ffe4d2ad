"""The load client of the benchmarks counts what a server answers, whole, and nothing else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from side_by_side.client import fill, get, head, play, post, put, readers
from support.server_process import ServerProcess

EMPTY = b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n"
)
TO_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
REFUSAL = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
TOO_MUCH = EMPTY + b"?"


@contextmanager
def server(answer: bytes, slice_size: int) -> Iterator[int]:
    """Gives each request ``answer``, in slices of so many bytes; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while connection.recv(65536):
                for at in range(0, len(answer), slice_size):
                    connection.sendall(answer[at : at + slice_size])

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("slice_size", [1, 7, 1000])
@pytest.mark.parametrize("answer", [EMPTY, WHOLE, CHUNKED], ids=["empty", "whole", "chunked"])
def test_an_answer_ends_where_it_ends(answer, slice_size):
    with server(answer, slice_size) as port:
        figures = play(port, [get("s", "-1")] * 5, connections=2)
    assert figures["requests"] == 5
    assert figures["received"] == 5 * len(answer)
    assert (figures["refused"], figures["broken"]) == (0, 0)


def test_an_answer_to_head_has_no_body():
    with server(TO_HEAD, 1000) as port:
        assert play(port, [head("s")] * 3)["requests"] == 3


def test_a_refusal_is_counted():
    with server(REFUSAL, 1000) as port:
        figures = play(port, [get("s", "-1")] * 3)
        assert (figures["refused"], figures["first_refusal"]) == (3, 503)
        with pytest.raises(RuntimeError, match="refused"):
            fill(port, [put("s", "text/plain")])


def test_more_than_was_asked_for_is_no_answer():
    with server(TOO_MUCH, 1000) as port:
        figures = play(port, [get("s", "-1")] * 3)
    assert (figures["requests"], figures["broken"]) == (0, 3)


def test_a_latency_counts_from_the_moment_when_the_request_was_due():
    """One connection, 20 requests due at once: the last has waited for all before it."""
    with server(EMPTY, 1) as port:
        figures = play(port, [get("s", "-1")] * 20, connections=1, interval=1e-9)
    assert figures["requests"] == 20
    assert figures["max_ms"] >= 0.9 * 1e3 * figures["seconds"]
    assert figures["p50_ms"] < figures["max_ms"]


def test_readers_get_every_message_from_a_real_server(tmp_path):
    with ServerProcess(tmp_path / "data") as process:
        fill(process.port, [put("s", "text/plain"), post("s", "text/plain", b"before")], 1)
        arguments = ["--connections", "20", "--messages", "30"]
        with readers("readers", process.port, "s", *arguments) as client:
            figures = json.loads(client.communicate()[0])
        assert figures["delivered"] == figures["expected"] == 600
        assert (figures["lost"], figures["refusal"]) == (0, 0)
        with readers("idle", process.port, "s", "--connections", "100") as client:
            assert json.loads(client.communicate()[0]) == {"ready": 100, "lost": 0}
