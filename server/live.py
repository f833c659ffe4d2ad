"""A client that waits: it ends with its connection, or when the server is about to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from .asgi_types import Receive
from .service import Service

T = TypeVar("T")


class LiveReader:
    """Registers a waiting client and watches its connection, as an async context manager.

    Attributes:
        is_gone: the client has left; what is sent goes nowhere.
        has_ended: it has left, or the server drains: do not wait again.
    """

    def __init__(self, service: Service, receive: Receive) -> None:
        self._service = service
        self._receive = receive
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watch: asyncio.Task[None] | None = None
        self.is_gone = False

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    def end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def wait(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The outcome of ``work``, or None, and ``work`` cancelled, if the reader ended first."""
        task = asyncio.create_task(work)
        try:
            both: set[asyncio.Future[Any]] = {task, self._ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()

    async def __aenter__(self) -> Self:
        self._service.readers.add(self)
        self._watch = asyncio.create_task(self._until_disconnect())
        if self._service.is_draining:
            self.end()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._service.readers.discard(self)
        if self._watch is not None:
            self._watch.cancel()

    async def _until_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self.end()
