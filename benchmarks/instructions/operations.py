"""The operations whose instructions are counted, each as a function that does it once.

python -P operations.py NAME    under the counter, which the signals are for
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from durastream import FileBackedStreamStore, StreamStore, create_app
from durastream._native.offset_index import OffsetIndex
from durastream.server.serving import ServeOptions, Serving

WARM_UP = 300
PATH = "/v1/stream/counted"
BODY = b"x" * 100
BINARY = "application/octet-stream"

Once = Callable[[], object]


CALLS, WINDOWS = 4, 6


def calls_and_windows(name: str) -> tuple[int, int]:
    """Of how many calls a window consists, and how many windows there are.

    The quickest window counts: in the others, threads of the store took the interpreter's lock.
    Through the application a call is so long that this does not show.
    """
    return (1, 2) if name.startswith("asgi") else (CALLS, WINDOWS)


@contextmanager
def nothing() -> Iterator[Once]:
    """What counting itself costs; taken off the others."""
    yield lambda: None


@contextmanager
def append() -> Iterator[Once]:
    """Decide on and log an append of 100 B; the committer is another thread."""
    with _fast_path() as fast:
        path, kind = PATH.encode(), BINARY.encode()
        yield lambda: _needed(fast.try_append(path, kind, BODY))


@contextmanager
def read() -> Iterator[Once]:
    """1 KiB from an offset to the tail, from memory."""
    with _fast_path() as fast:
        path = PATH.encode()
        for _ in range(20):
            _needed(fast.try_append(path, BINARY.encode(), BODY))
        offset = b"0000000000000000_%016d" % 1000
        yield lambda: fast.try_read(path, offset)


@contextmanager
def look_up() -> Iterator[Once]:
    """One position among a million messages."""
    index = OffsetIndex(array("Q", (100 * n << 1 | 1 for n in range(1, 1_000_001))))
    wanted, found = array("Q", [76_543_210]), array("q", [0])
    yield lambda: index.look_up(wanted, found)


@contextmanager
def asgi_post() -> Iterator[Once]:
    """One POST through the ASGI application, over a store in memory."""
    headers = [(b"content-type", BINARY.encode()), (b"content-length", b"100")]
    with _asgi("POST", headers, BODY) as once:
        yield once


@contextmanager
def asgi_get() -> Iterator[Once]:
    with _asgi("GET", [], b"") as once:
        yield once


@contextmanager
def front_post() -> Iterator[Once]:
    """Scan a POST that has arrived, and log it; the answer is sent when it is durable."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Type: {BINARY}\r\n"
    request = f"{head}Content-Length: 100\r\n\r\n".encode() + BODY
    with _front() as (connect, transport):
        # One each, since none is answered, and a connection may only have so many under way.
        waiting = iter([connect() for _ in range(WARM_UP + CALLS * WINDOWS)])
        yield lambda: next(waiting).data_received(request)
        assert transport.written == 0, "that was not the path of hot requests"


@contextmanager
def front_get() -> Iterator[Once]:
    """Scan a GET that has arrived, and answer it from memory."""
    request = f"GET {PATH}?offset=-1 HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    with _front() as (connect, transport):
        connection = connect()
        yield lambda: connection.data_received(request)
        assert transport.written > WARM_UP * 200, "that was not the path of hot requests"


OPERATIONS = {
    f.__name__: f
    for f in (nothing, append, read, look_up, front_post, front_get, asgi_post, asgi_get)
}


@contextmanager
def _fast_path() -> Iterator[Any]:
    class Listener:
        def committed(self) -> None: ...
        def failed(self, error: object) -> None: ...

    async def enter() -> Any:
        await store.aio.create(PATH, content_type=BINARY)
        await store.aio.append(PATH, BODY)
        return store.aio.fast_path(listener)

    listener = Listener()
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner() as runner,
        FileBackedStreamStore(Path(folder) / "data") as store,
    ):
        yield runner.run(enter())


class Sink(asyncio.Transport):
    """Takes what is written, and drops it."""

    written = 0

    def write(self, data: object) -> None:
        self.written += len(data)

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return False


@contextmanager
def _front() -> Iterator[tuple[Callable[[], Any], Sink]]:
    """Connections of the compiled front end, on a loop that does not run meanwhile."""

    async def enter() -> None:
        await store.aio.create(PATH, content_type=BINARY)
        await store.aio.append(PATH, BODY)
        serving.config.load()
        connect()  # the first makes what all share, on this loop

    def connect() -> Any:
        config = serving.config
        connection = config.http_protocol_class(config, serving.server_state, {}, loop)
        connection.connection_made(transport)
        return connection

    transport = Sink({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner() as runner,
        FileBackedStreamStore(Path(folder) / "data") as store,
    ):
        loop = runner.get_loop()
        serving = Serving(create_app(store), ServeOptions())
        runner.run(enter())
        yield connect, transport


@contextmanager
def _asgi(method: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Iterator[Once]:
    store = StreamStore()
    store.create(PATH, content_type=BINARY)
    store.append(PATH, BODY)
    app = create_app(store)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    statuses = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses[:] = [message["status"]]

    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        def once() -> None:
            loop.run_until_complete(app(dict(scope), receive, send))
            assert statuses[0] in (200, 204), statuses

        yield once


def _needed(result: object) -> None:
    assert result is not None, "that is not the path of hot requests"


def main(name: str) -> None:
    with OPERATIONS[name]() as once:
        for _ in range(WARM_UP):
            once()
        gc.collect()
        gc.disable()
        calls, windows = map(range, calls_and_windows(name))
        for _ in windows:
            signal.raise_signal(signal.SIGUSR1)
            for _ in calls:
                once()
            signal.raise_signal(signal.SIGUSR2)


if __name__ == "__main__":
    main(sys.argv[1])
