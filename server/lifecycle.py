"""A server in this process: for programs and tests that bring their own durable streams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from ..engine.store import Store
from ..protocol.cursor import CursorOptions
from .app import DurableStreamApp, create_app
from .config import ROOT_DEFAULT
from .cors import OPEN_TO_ALL, Cors
from .hooks import LifecycleHooks
from .serving import ServeOptions, Serving
from .sockets import base_url, listen_tcp

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class DurableStreamServer:
    """Serves a store over HTTP/1.1 on a port of its own.

    Either on the running event loop, ``await server.start()`` and ``await server.stop()``
    (or ``async with``), or on a thread of its own, with a plain ``with``.

    Args:
        port: 0 takes any that is free.
        store: what to serve; it stays the caller's to close.
        data_dir: opens a ``FileBackedStreamStore`` there, closed by ``stop``. Without store
            and data_dir the streams are kept in memory and vanish with the server.
        hooks, cors, cursor_options, long_poll_timeout, sse_max_age, sse_heartbeat, root,
        public_url, cache_scope: see ``create_app``.
        shutdown_timeout: seconds that ``stop`` gives to answers under way.
        limit_concurrency: requests at once, waiting readers included; beyond, 503.
        front: "asgi" has the application answer everything, as under another ASGI server;
            "fast", the default, answers the usual requests without it, and alike.

    Raises: ValueError for options that exclude each other; from ``start`` AddressError and
    the store's OpenError.
    """

    def __init__(
        self,
        port: int = 4437,
        host: str = "127.0.0.1",
        *,
        store: Store | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        hooks: LifecycleHooks | None = None,
        cors: Cors | None = OPEN_TO_ALL,
        cursor_options: CursorOptions | None = None,
        long_poll_timeout: float = 30.0,
        sse_max_age: float = 60.0,
        sse_heartbeat: float = 15.0,
        root: str = ROOT_DEFAULT,
        public_url: str | None = None,
        cache_scope: Literal["public", "private"] = "public",
        shutdown_timeout: float = 10.0,
        limit_concurrency: int | None = None,
        front: Literal["fast", "asgi"] = "fast",
    ) -> None:
        if store is not None and data_dir is not None:
            raise ValueError("store and data_dir exclude each other")
        self.host = host
        self._wanted_port = port
        self._data_dir = data_dir
        self._store = store
        self._owns_store = store is None
        self._options = ServeOptions(
            shutdown_timeout=shutdown_timeout, limit_concurrency=limit_concurrency, front=front
        )
        self._make_app: Callable[[Store], DurableStreamApp] = lambda opened: create_app(
            opened,
            root=root,
            hooks=hooks,
            cors=cors,
            cursor_options=cursor_options,
            long_poll_timeout=long_poll_timeout,
            sse_max_age=sse_max_age,
            sse_heartbeat=sse_heartbeat,
            public_url=public_url,
            cache_scope=cache_scope,
        )
        self._listeners: list[socket.socket] = []
        self._base_url: str | None = None
        self._serving: Serving | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: _LoopThread | None = None

    # -- facts -----------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The store served; opens that of ``data_dir`` (blocking) if it is not yet."""
        if self._store is None:
            self._store = _open(self._data_dir)
        return self._store

    @property
    def base_url(self) -> str:
        """Scheme, host and port. Raises: RuntimeError if the server is not running."""
        if self._base_url is None:
            raise RuntimeError("the server is not running: start it first")
        return self._base_url

    @property
    def url(self) -> str:
        """``base_url``, by the Node package's name."""
        return self.base_url

    @property
    def port(self) -> int:
        """The port listened on; before ``start`` the one asked for."""
        return self._wanted_port if self._base_url is None else int(self._base_url.split(":")[-1])

    def clear(self) -> None:
        """Delete every stream; blocks until that is durable."""
        self.store.clear()

    # -- on the running event loop ---------------------------------------------------------

    async def start(self) -> str:
        """Listen and serve; returns the base URL once connections are accepted."""
        if self._serving is not None:
            raise RuntimeError("the server is running already")
        store = await asyncio.to_thread(lambda: self.store)
        try:
            listeners = listen_tcp(self.host, self._wanted_port)
        except OSError:
            await self._close_store()
            raise
        self._base_url = base_url(listeners[0], tls=False)
        self._serving = Serving(self._make_app(store), self._options)
        self._task = asyncio.create_task(self._serving.run_on(listeners))
        while not self._serving.started and not self._task.done():
            await asyncio.sleep(0)
        if self._task.done():
            await self._task
        return self._base_url

    async def stop(self) -> None:
        """End waiting readers, finish answers under way, release the port and an own store."""
        serving, task = self._serving, self._task
        if serving is None or task is None:
            return
        serving.stop()
        await task
        self._serving = self._task = self._base_url = None
        await self._close_store()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _close_store(self) -> None:
        if self._owns_store and self._store is not None:
            store, self._store = self._store, None
            await asyncio.to_thread(store.close)

    # -- on a thread of its own ------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread = _LoopThread()
        try:
            self._thread.run(self.start())
        except BaseException:
            self._thread.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._thread is not None
        try:
            self._thread.run(self.stop())
        finally:
            self._thread.close()
            self._thread = None


class DurableStreamTestServer(DurableStreamServer):
    """``DurableStreamServer`` on any free port, by the Node package's name."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1", **options: Any) -> None:
        super().__init__(port, host, **options)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed: it writes buffers without joining them."""
    with contextlib.suppress(ImportError):
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


class _LoopThread:
    """An event loop that runs on a thread of its own."""

    def __init__(self) -> None:
        self._loop = new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="durastream-server", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[object, object, object]) -> None:
        """Run ``work`` there; returns, or raises, when it is done."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _open(data_dir: str | os.PathLike[str] | None) -> Store:
    if data_dir is None:
        from ..engine.memory_store import StreamStore

        return StreamStore()
    from ..engine.file_store import FileBackedStreamStore

    return FileBackedStreamStore(path=data_dir)
