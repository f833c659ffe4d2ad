"""Lifecycle hooks: code that runs when a stream was created or deleted (section 18).

A hook runs before the answer is sent. Its failure is logged and never reaches the client:
the stream exists, whatever the hook makes of it.
"""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..engine.store import Store
from ..protocol.headers import CONTENT_TYPE_DEFAULT
from .config import ROOT_DEFAULT

logger = logging.getLogger("durastream.server")

REGISTRY_NAME = "__registry__"


@dataclass(frozen=True, slots=True)
class StreamLifecycleEvent:
    """What happened to which stream. ``timestamp`` is a Unix time in ms."""

    type: Literal["created", "deleted"]
    path: str
    timestamp: int
    content_type: str | None = None  # of created


# A plain function runs on the event loop: it must not block.
StreamLifecycleHook: TypeAlias = Callable[[StreamLifecycleEvent], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class LifecycleHooks:
    """Called once for each 201 and for each successful DELETE, not on expiry."""

    on_stream_created: StreamLifecycleHook | None = None
    on_stream_deleted: StreamLifecycleHook | None = None

    async def created(self, path: str, content_type: str) -> None:
        if self.on_stream_created is not None:
            event = StreamLifecycleEvent("created", path, _now_ms(), content_type)
            await _run(self.on_stream_created, event)

    async def deleted(self, path: str) -> None:
        if self.on_stream_deleted is not None:
            await _run(self.on_stream_deleted, StreamLifecycleEvent("deleted", path, _now_ms()))


def create_registry_hooks(
    store: Store, server_url: str = "", *, root: str = ROOT_DEFAULT
) -> LifecycleHooks:
    """Hooks that keep a stream listing all streams: ``__registry__`` below ``root``.

    Its entries are change events of the durable-state format, its own creation the first.
    They are written into ``store`` itself; ``server_url`` is taken for the signature's sake
    and no request is made to it.
    """
    registry = _Registry(store, root)
    return LifecycleHooks(registry.on_created, registry.on_deleted)


class _Registry:
    def __init__(self, store: Store, root: str) -> None:
        self._store = store
        self._root = root
        self._path = root + REGISTRY_NAME

    async def on_created(self, event: StreamLifecycleEvent) -> None:
        if event.path != self._path:
            await self._ensure()
        await self._append(_insertion(self._name(event.path), event))

    async def on_deleted(self, event: StreamLifecycleEvent) -> None:
        if event.path == self._path:
            return  # recording its own deletion would bring it back
        await self._ensure()
        name = self._name(event.path)
        await self._append({"type": "stream", "key": name, "headers": {"operation": "delete"}})

    async def _ensure(self) -> None:
        aio = self._store.aio
        if await aio.has(self._path):
            return
        stream = await aio.create(self._path, content_type="application/json")
        if stream.created:
            event = StreamLifecycleEvent(
                "created", self._path, stream.created_at, "application/json"
            )
            await self._append(_insertion(REGISTRY_NAME, event))

    async def _append(self, entry: dict[str, Any]) -> None:
        await self._store.aio.append(self._path, json.dumps(entry).encode())

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root)


def _insertion(name: str, event: StreamLifecycleEvent) -> dict[str, Any]:
    value = {
        "path": name,
        "contentType": event.content_type or CONTENT_TYPE_DEFAULT,
        "createdAt": event.timestamp,
    }
    return {"type": "stream", "key": name, "value": value, "headers": {"operation": "insert"}}


async def _run(hook: StreamLifecycleHook, event: StreamLifecycleEvent) -> None:
    try:
        outcome = hook(event)
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:
        logger.exception("the hook for %s of %s failed", event.type, event.path)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
