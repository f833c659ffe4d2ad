"""What all handlers share: the store, the configuration, and the readers that wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..engine.store import AsyncStore, Store
from ..protocol.errors import StreamError, StreamGone, StreamNotFound
from .config import ServerConfig
from .hooks import LifecycleHooks
from .request import BodyBudget, Request

if TYPE_CHECKING:
    from .live import LiveReader


class Service:
    def __init__(self, store: Store, config: ServerConfig, hooks: LifecycleHooks) -> None:
        self.store = store
        self.config = config
        self.hooks = hooks
        self.readers: set[LiveReader] = set()
        self.is_draining = False
        self.budget = BodyBudget(config.bodies_size_max)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._aio: AsyncStore | None = None

    @property
    def aio(self) -> AsyncStore:
        """The store for the running event loop."""
        loop = asyncio.get_running_loop()
        if self._aio is None or loop is not self._loop:
            self._loop, self._aio = loop, self.store.aio
        return self._aio

    def drain(self) -> None:
        """End all waiting readers, now and from now on: the server is about to stop."""
        self.is_draining = True
        for reader in list(self.readers):
            reader.end()

    async def body(self, request: Request) -> bytes:
        return await request.body(
            size_max=self.config.limits.body_size_max,
            idle_timeout=self.config.body_idle_timeout,
            budget=self.budget,
        )

    async def refuse(self, path: str, error: StreamError) -> StreamError:
        """``error``, unless the stream's absence outranks it (sections 4.5 and 21, 1)."""
        stream = await self.aio.get(path)
        if stream is None:
            return StreamNotFound(path)
        if stream.soft_deleted:
            return StreamGone(path)
        return error
