"""A file store on a simulated disk, a workload for it, and the oracle: the store in memory.

Every step of a workload is done to both stores. After a crash the file store must show exactly
what the memory store showed before the step that was cut short, or after it; nothing between,
and nothing else. LMDB lives on the real disk; its commits are atomic, and count as calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import StorageError
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.memory_store import StreamStore
from durastream.engine.options import KIB, MIB, FileStoreOptions, Limits
from durastream.engine.store import Store
from durastream.protocol.errors import StreamError

from .disk import SimulatedDisk

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

Step = Callable[[Store], Any]


def new_disk(seed: int) -> SimulatedDisk:
    disk = SimulatedDisk(seed)
    disk.make_directory("/")
    return disk


def open_store(disk: SimulatedDisk, metadata: Path, clock: Callable[[], int]) -> Any:
    """Open without threads: the only calls are those that a test makes."""
    store = FileBackedStreamStore(
        "/data",
        limits=LIMITS,
        options=OPTIONS,
        disk=DelegatedDisk(disk),
        metadata_path=metadata,
        clock=clock,
        threads=False,
    )
    commit = store._engine.metadata.commit

    def counted(*args: Any) -> None:
        disk._call("lmdb commit", "meta.lmdb", changes=True)
        commit(*args)
        disk._done()

    store._engine.metadata.commit = counted  # type: ignore[method-assign]
    return store


def abandon(store: Any) -> None:
    """Let go of what outlives a power loss in this process: LMDB's lock."""
    store._engine.metadata.close()


def observe(store: Store) -> dict[str, Any]:
    """Everything that users can see, producers included."""
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


def contents(store: Store, path: str) -> list[tuple[bytes, str]]:
    messages, at = [], None
    while True:
        result = store.read(path, at)
        messages += [(message.data, message.offset) for message in result.messages]
        at = result.next_offset
        if result.up_to_date:
            return messages


def flush(store: Store) -> None:
    if isinstance(store, FileBackedStreamStore):
        store.flush()


def prove(store: Store) -> None:
    """The committer's idle watermark."""
    if isinstance(store, FileBackedStreamStore):
        store._engine.log.commit_step(idle=True)


class Workload:
    """Steps that refer to what the oracle holds by then, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._count = 0
        self._seqs: dict[tuple[int, str], int] = {}

    def step(self, oracle: StreamStore) -> Step:
        """The next step."""
        self._count += 1
        rng = self._rng
        path = rng.choice(PATHS)
        found = oracle.get(path)
        if found is None or found.soft_deleted or rng.random() < 0.05:
            return self._create(oracle, path)
        kinds = [self._append] * 6 + [self._produce] * 5 + [self._close] + [self._delete] * 2
        kinds += [lambda *_: flush] * 2 + [lambda *_: prove]
        return rng.choice(kinds)(oracle, path)

    def _body(self) -> bytes:
        size = self._rng.choice([1, 20, 300, 5000, 20_000])
        return (b"%d:" % self._count + b"x" * size)[: max(size, 8)]

    def _create(self, oracle: StreamStore, path: str) -> Step:
        rng, body = self._rng, self._body()
        source = rng.choice(PATHS)
        if source != path and oracle.has(source) and rng.random() < 0.7:
            offsets = [message[1] for message in contents(oracle, source)]
            offset = rng.choice(offsets) if offsets and rng.random() < 0.7 else None
            return lambda store: store.create(
                path, forked_from=source, fork_offset=offset, initial_data=body[:20]
            )
        ttl = rng.choice([None, None, 1000])
        closed = rng.random() < 0.1
        body = body[: rng.choice([0, 50])]
        return lambda store: store.create(path, ttl_seconds=ttl, closed=closed, initial_data=body)

    def _append(self, oracle: StreamStore, path: str) -> Step:
        body, close = self._body(), self._rng.random() < 0.05
        seq = f"{self._count:06d}" if self._rng.random() < 0.3 else None
        return lambda store: store.append(path, body, seq=seq, close=close)

    def _produce(self, oracle: StreamStore, path: str) -> Step:
        found = oracle.get(path)
        assert found is not None
        name = self._rng.choice(PRODUCERS)
        key = (found.incarnation, name)
        retry = self._rng.random() < 0.2 and key in self._seqs
        seq = self._seqs.get(key, -1) + (0 if retry else 1)
        self._seqs[key] = seq
        body = self._body()
        return lambda store: store.append_with_producer(
            path, body, producer_id=name, producer_epoch=0, producer_seq=seq
        )

    def _close(self, oracle: StreamStore, path: str) -> Step:
        return lambda store: store.close_stream(path)

    def _delete(self, oracle: StreamStore, path: str) -> Step:
        return lambda store: store.delete(path)


def attempt(store: Store, step: Step) -> Any:
    """The outcome of a step; trouble of the medium is raised, a refusal is an outcome."""
    try:
        result = step(store)
    except StorageError:
        raise
    except StreamError as refusal:
        return type(refusal)
    # Incarnations differ between the stores, and so does what says nothing of the outcome.
    return getattr(result, "current_offset", None) or getattr(result, "offset", None)
