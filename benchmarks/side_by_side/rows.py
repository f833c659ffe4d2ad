"""The rows of the side-by-side table: what is filled, what is played, what is counted.

A row gets a running server and leaves it running; its streams are its own. Every server gets the
same bytes in the same order.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .client import ROOT, Figures, fill, get, head, play, post, put, readers
from .measured import Measured

BINARY, JSON, TEXT = "application/octet-stream", "application/json", "text/plain"
KIB, MIB = 1024, 1024 * 1024
SMALL = b"x" * 100
SMALL_JSON = b'{"n":1000001,"p":"' + b"x" * 80 + b'"}'
assert len(SMALL_JSON) == 100


@dataclass(frozen=True, slots=True)
class Load:
    """How long a row is measured, and what it counts at most."""

    seconds: float = 8.0
    readers: int = 500
    messages: int = 2000
    paced_messages: int = 60
    idle_readers: int = 10_000
    large_messages: int = 600_000


Work = Callable[[Measured, Load], Figures]


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    work: str
    run: Work
    counts: str = "requests/s"


def _play(server: Measured, load: Load, requests: list[bytes], connections: int) -> Figures:
    # Before it counts: connections, caches and the processor's clock.
    play(server.port, requests, connections=connections, seconds=min(1.0, load.seconds / 4))
    return server.measure(
        lambda: play(server.port, requests, connections=connections, seconds=load.seconds)
    )


# -- appends -------------------------------------------------------------------------------


def _append(connections: int) -> Work:
    def run(server: Measured, load: Load) -> Figures:
        path = f"append-{connections}"
        fill(server.port, [put(path, BINARY)])
        return _play(server, load, [post(path, BINARY, SMALL)], connections)

    return run


def _append_100(server: Measured, load: Load) -> Figures:
    paths = [f"hundred-{number}" for number in range(100)]
    fill(server.port, [put(path, JSON) for path in paths])
    return _play(server, load, [post(path, JSON, SMALL_JSON) for path in paths], 32)


def many_path(number: int) -> str:
    return f"many/{number % 100:02}/{number}"


def fill_many(server: Measured, numbers: range) -> None:
    """Each stream is created and gets ten messages in one append."""
    fill(server.port, (put(many_path(number), JSON) for number in numbers), 256)
    body = b"[" + b",".join([SMALL_JSON] * 10) + b"]"
    fill(server.port, (post(many_path(number), JSON, body) for number in numbers), 256)


def append_many(server: Measured, load: Load, count: int) -> Figures:
    requests = [post(many_path(number), JSON, SMALL_JSON) for number in range(count)]
    return _play(server, load, requests, 256)


# -- reads ---------------------------------------------------------------------------------


def _read_whole(server: Measured, load: Load) -> Figures:
    fill(server.port, [put("whole", BINARY)])
    fill(server.port, [post("whole", BINARY, b"r" * KIB)] * 1000, 1)
    figures = _play(server, load, [get("whole", "-1")], 8)
    figures["mb_per_s"] = figures["received"] / figures["seconds"] / 1e6
    return figures


def _read_tail(
    path: str, bodies: Callable[[Load], Iterator[bytes]], content_type: str = BINARY
) -> Work:
    """The last KiB, behind ``bodies``."""

    def run(server: Measured, load: Load) -> Figures:
        last = b"t" * KIB if content_type == BINARY else b'"' + b"t" * (KIB - 3) + b'"'
        fill(server.port, [put(path, content_type)])
        offset = _append_each(server.port, path, content_type, bodies(load))
        _append_each(server.port, path, content_type, iter([last]))
        return _play(server, load, [get(path, offset)], 8)

    return run


def _append_each(port: int, path: str, content_type: str, bodies: Iterator[bytes]) -> str:
    """One after another; the offset behind the last."""
    connection, offset = http.client.HTTPConnection("127.0.0.1", port, timeout=120), ""
    for body in bodies:
        connection.request("POST", ROOT + path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        answer.read()
        if answer.status // 100 != 2:
            raise RuntimeError(f"an append to {path} was answered with {answer.status}")
        offset = str(answer.getheader("Stream-Next-Offset"))
    connection.close()
    return offset


def _megabytes(count: int) -> Callable[[Load], Iterator[bytes]]:
    return lambda load: iter([b"y" * MIB] * count)


def _many_small(load: Load) -> Iterator[bytes]:
    """64 MiB in 600,000 messages, of which 1,000 come in each append."""
    message = json.dumps("s" * (64 * MIB // 600_000 - 3)).encode()
    return iter([b"[" + b",".join([message] * 1000) + b"]"] * (load.large_messages // 1000))


def _head(server: Measured, load: Load) -> Figures:
    fill(server.port, [put("head", BINARY), post("head", BINARY, SMALL)], 1)
    return _play(server, load, [head("head")], 32)


# -- readers of events ---------------------------------------------------------------------


def _fan_out(name: str, paced: bool) -> Work:
    def run(server: Measured, load: Load) -> Figures:
        fill(server.port, [put(name, TEXT)])
        messages = load.paced_messages if paced else load.messages
        arguments = ["--connections", str(load.readers), "--messages", str(messages)]
        arguments += ["--interval", "0.05"] if paced else ["--seconds", "25"]
        with readers("readers", server.port, name, *arguments) as process:
            return server.measure(lambda: dict(json.loads(process.communicate()[0])))

    return run


def _idle_readers(server: Measured, load: Load) -> Figures:
    fill(server.port, [put("idle", TEXT), post("idle", TEXT, SMALL)], 1)
    before = server.memory()
    count = ("--connections", str(load.idle_readers))
    with readers("idle", server.port, "idle", *count):
        time.sleep(2)
        held = server.memory() - before
    return {"bytes_per_reader": held / load.idle_readers, "rss_mb": (before + held) / 1e6}


FRESH_ROWS = (
    Row("append", "append 100 B, one stream, 32 connections", _append(32)),
    Row("append-100", "append 100 B of JSON, 100 streams, 32 connections", _append_100),
    Row("one-writer", "append 100 B, one connection", _append(1)),
    Row("append-c8", "append 100 B, one stream, 8 connections", _append(8)),
    Row("append-c128", "append 100 B, one stream, 128 connections", _append(128)),
    Row("append-c512", "append 100 B, one stream, 512 connections", _append(512)),
    Row("read-1mib", "read a whole stream of 1,000 messages of 1 KiB, 8 connections", _read_whole),
    Row("tail-2k", "read the last 1 KiB of 2 KiB", _read_tail("t2", lambda _: iter([b"y" * KIB]))),
    Row("tail-1m", "read the last 1 KiB of 1 MiB", _read_tail("t1m", _megabytes(1))),
    Row("tail-65", "read the last 1 KiB of 64 MiB, 65 messages", _read_tail("t65", _megabytes(64))),
    Row(
        "tail-600k",
        "read the last 1 KiB of 64 MiB, 600,000 messages",
        _read_tail("t600k", _many_small, JSON),
    ),
    Row("head", "HEAD, 32 connections", _head),
    Row("fan-out", "500 readers of events, writer at full speed", _fan_out("f1", False), "msg/s"),
    Row("fan-out-paced", "the same, 20 messages a second", _fan_out("f2", True), "msg/s"),
    Row("idle-readers", "10,000 readers of events that wait", _idle_readers, ""),
)


def append_many_row(count: int) -> Row:
    name = f"append-{count // 1000}k" if count % 1000 == 0 else f"append-{count}s"
    return Row(
        name,
        f"append 100 B of JSON, {count:,} streams, 256 connections",
        lambda server, load: append_many(server, load, count),
    )


START_ROWS = {
    "start-warm": "start with {count:,} streams",
    "start-cold": "the same, page cache dropped",
    "start-killed": "the same, after SIGKILL",
}
