"""A file store on a simulated disk, and its oracle: the store in memory.

Every operation is done to both stores. After a crash the file store must show exactly what the
memory store showed before the operation that was cut short, or after it; nothing between, and
nothing else. LMDB lives on the real disk; its commits are atomic, and count as calls.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import KIB, MIB, FileStoreOptions, Limits
from durastream.engine.store import Store

from .disk import PowerLoss, SimulatedDisk
from .oracle import Clock, copy_of
from .workload import PATHS, PRODUCERS

__all__ = ["Clock", "abandon", "contents", "copy_of", "new_disk", "observe", "open_store"]

LMDB_GROWTH = 8 * KIB  # what a commit takes, about; its file is not on the simulated disk
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


def new_disk(seed: int) -> SimulatedDisk:
    disk = SimulatedDisk(seed)
    disk.make_directory("/")
    disk.parents.add("/")
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
            disk.require_room("lmdb commit", "meta.lmdb", LMDB_GROWTH)
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
            found.created_at, found.content_type, found.current_offset, found.closed,
            found.closed_by, found.last_seq, found.ttl_seconds, found.forked_from,
            found.fork_offset, found.ref_count, found.soft_deleted,
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


def contents(store: Store, path: str) -> list[tuple[bytes, str]]:
    messages, at = [], None
    while True:
        result = store.read(path, at)
        messages += [(message.data, message.offset) for message in result.messages]
        at = result.next_offset
        if result.up_to_date:
            return messages


def differences(seen: dict[str, Any], possible: list[dict[str, Any]]) -> str:
    """What is shown at each path that differs from the last possibility."""
    lines = []
    for number, expected in enumerate(possible):
        for path in sorted(seen.keys() | expected.keys()):
            if seen.get(path) != expected.get(path):
                lines.append(f"\n  {number}: {path}")
                lines.append(f"    shown    {shorten(seen.get(path))}")
                lines.append(f"    expected {shorten(expected.get(path))}")
    return "".join(f"{line}\n" for line in lines)


def shorten(value: Any) -> str:
    text = repr(value)
    while "xxxx" in text:
        text = text.replace("xxxx", "x")
    return text if len(text) < 1500 else text[:700] + " … " + text[-700:]
