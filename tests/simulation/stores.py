"""A file store on a simulated disk, and its oracle: the store in memory.

Every operation is done to both stores. After a crash the file store must show exactly what the
memory store showed before the operation that was cut short, or after it; nothing between, and
nothing else. LMDB lives on the real disk; its commits are atomic, and count as calls.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import lmdb

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.memory_store import StreamStore
from durastream.engine.options import KIB, MIB, FileStoreOptions, Limits
from durastream.engine.store import Store

from .disk import PowerLoss, SimulatedDisk

PATHS = ["/a", "/b", "/c", "/d"]
PRODUCERS = ["p", "q"]
LIMITS = Limits(body_size_max=24 * KIB)
OPTIONS = FileStoreOptions(
    wal_file_size=96 * KIB,
    wal_size_max=4 * MIB,
    slab_size=8 * KIB,
    flush_size=1 * MIB,
    flush_age=1e9,
    sweep_interval=1e9,
    idle_watermark_delay=0.0,
    lmdb_map_size=64 * MIB,
    reserve_size=0,
)


class Clock:
    """Both stores' clock; it stands still during an operation, so that both see one instant."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, ms: int) -> None:
        self.now += ms


def new_disk(seed: int) -> SimulatedDisk:
    disk = SimulatedDisk(seed)
    disk.make_directory("/")
    return disk


def open_store(
    disk: SimulatedDisk,
    metadata: Path,
    clock: Callable[[], int],
    options: FileStoreOptions = OPTIONS,
) -> Any:
    """Open without threads: the only calls are those that a test makes."""
    store = FileBackedStreamStore(
        "/data",
        limits=LIMITS,
        options=options,
        disk=DelegatedDisk(disk),
        metadata_path=metadata,
        clock=clock,
        threads=False,
    )
    commit = store._engine.metadata.commit

    def counted(*args: Any) -> None:
        try:
            disk._call("lmdb commit", "meta.lmdb", changes=True)
        except PowerLoss:
            raise
        except OSError as error:
            raise lmdb.DiskError(str(error)) from error
        commit(*args)
        disk._done()

    store._engine.metadata.commit = counted  # type: ignore[method-assign]
    return store


def abandon(store: Any) -> None:
    """Let go of what outlives a power loss in this process: LMDB's lock."""
    store._engine.metadata.close()


def observe(store: Store) -> dict[str, Any]:
    """Everything that users can see, producers included."""
    end_expired(store)
    seen: dict[str, Any] = {"list": list(store.list())}
    for path in PATHS:
        found = store.get(path)
        if found is None:
            continue
        state = [
            found.content_type, found.current_offset, found.closed, found.closed_by,
            found.last_seq, found.ttl_seconds, found.forked_from, found.fork_offset,
            found.ref_count, found.soft_deleted,
        ]  # fmt: skip
        if not found.soft_deleted:
            state.append(contents(store, path))
            state.append([store.get_producer_epoch(path, name) for name in PRODUCERS])
        seen[path] = state
    return seen


def end_expired(store: Store) -> None:
    """Streams whose time is over end when they are asked for; until then sources wait for them."""
    for path in PATHS:
        store.get(path)


def copy_of(oracle: StreamStore) -> StreamStore:
    """A store in memory that goes its own way from here; what never changes is shared."""
    streams = oracle._streams
    values: list[Any] = [streams._limits, streams._clock]
    for stream in streams._by_id.values():
        values += [stream.state, *stream.producers.values(), *stream._appends._batches]
        values += [batch for span in stream._inherited for batch in span.appends._batches]
    copied = StreamStore(limits=oracle.limits, clock=streams._clock)
    copied._streams = deepcopy(streams, {id(value): value for value in values})
    return copied


def contents(store: Store, path: str) -> list[tuple[bytes, str]]:
    messages, at = [], None
    while True:
        result = store.read(path, at)
        messages += [(message.data, message.offset) for message in result.messages]
        at = result.next_offset
        if result.up_to_date:
            return messages
