"""All stores, by name: what the contract, stateful and wire tests run over.

A new store is one line in ``STORES``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from durastream.engine.errors import StoreClosed
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.memory_store import StreamStore
from durastream.engine.options import MIB, FileStoreOptions, Limits
from durastream.engine.store import Store

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class StoreKind:
    """How to open a store; ``is_durable`` if what it holds is there when opened again."""

    open: Callable[[Path, Clock, Limits], Store]
    is_durable: bool


# Files of the log are filled with zeroes when they are made: small ones make tests quick.
SMALL_FILES = FileStoreOptions(
    wal_file_size=10 * MIB, wal_size_max=40 * MIB, lmdb_map_size=1024 * MIB, reserve_size=0
)


def open_file_store(path: Path, clock: Clock, limits: Limits) -> FileBackedStreamStore:
    """A file store at ``path``; a body may have some 9 MiB, so that a file of its log holds it."""
    limits = replace(limits, body_size_max=min(limits.body_size_max, 9 * MIB))
    return FileBackedStreamStore(path, limits=limits, options=SMALL_FILES, clock=clock)


# For tests of the file store itself, which flush and sweep when they want.
SMALL_STORE = FileStoreOptions(
    wal_file_size=8 * MIB,
    wal_size_max=32 * MIB,
    flush_age=3600.0,
    sweep_interval=3600.0,
    lmdb_map_size=256 * MIB,
    reserve_size=0,
)
SMALL_LIMITS = Limits(body_size_max=7 * MIB)

STORES: dict[str, StoreKind] = {
    "memory": StoreKind(lambda _, clock, limits: StreamStore(limits=limits, clock=clock), False),
    "file": StoreKind(open_file_store, True),
}


def contents(store: Store, path: str) -> bytes:
    """All bytes of a stream, read chunk by chunk."""
    data, at = b"", None
    while True:
        result = store.read(path, at)
        data += bytes(result)
        at = result.next_offset
        if result.up_to_date:
            return data


def fill_spare(store: FileBackedStreamStore) -> None:
    """Close a store without threads, and have its log go on in a file that is filled.

    Else the log leaves its file for a filled one as soon as there is one, at any moment.
    """
    while store._engine.log.prepare_spare_step():
        pass
    store.close()


def crash(store: FileBackedStreamStore) -> None:
    """Leave a store as a killed process does: nothing is flushed, the lock is let go."""
    engine = store._engine
    store._scrubber.stop()
    store._maintenance.stop()
    engine.stop_committing()
    with engine.lock:
        engine._refuse(StoreClosed("crashed"))
    store.aio.release()
    engine.release()


class ManualClock:
    """A clock that only moves when told to; Unix time in ms."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += round(1000 * seconds)


class BlockingFace:
    """``store.aio`` behind blocking calls, so that one test covers both faces of a store."""

    def __init__(self, store: Store) -> None:
        self._aio = store.aio
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._aio, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._runner.run(self._awaited(method, *args, **kwargs))

        return call

    async def _awaited(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    def close(self) -> None:
        try:
            self._runner.run(self._aio.close())
        finally:
            self._runner.close()
