"""A store in a process of its own that is never at rest: `python -m support.busy_store DIR`.

It says "ready" once all kinds of streams are there, goes on until its standard input ends, and
closes. With "--no-flush" the log keeps everything, else it is flushed without a pause; with
"--no-merge" segments stay as they were flushed, else they are merged all the time.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB, FileStoreOptions, Limits
from durastream.protocol.errors import StreamError

LOG_MARK = b"a record that nobody flushed"
ROW_MARK = "/a-path-that-is-only-in-the-rows"
SEGMENT_MARK = b"wire bytes that were flushed long ago"
_LIMITS = Limits(body_size_max=MIB // 2)
_SMALL = FileStoreOptions(
    wal_file_size=2 * MIB, wal_size_max=8 * MIB, lmdb_map_size=256 * MIB, reserve_size=0
)
_NEVER_FLUSHED = replace(
    _SMALL, wal_size_max=512 * MIB, flush_size=512 * MIB, backlog_size_max=512 * MIB
)
_WRITERS = 3


def _prepare(store: FileBackedStreamStore) -> None:
    store.create("/old", initial_data=SEGMENT_MARK)
    store.create(ROW_MARK)
    store.create("/source", initial_data=b"inherited")
    store.create("/fork", forked_from="/source", initial_data=b"own")
    store.flush()
    store.create("/new")
    store.append("/new", LOG_MARK)
    store.append("/old", b"what proves the frame before it")


def _write(store: FileBackedStreamStore, seed: int, end: threading.Event) -> None:
    """Create, append, produce, fork, close and delete, on few streams and many."""
    rng, seq = random.Random(seed), 0
    store.create(f"/kept-{seed}", ttl_seconds=3600)
    while not end.is_set():
        path = f"/{seed}-{rng.randrange(50)}"
        with suppress(StreamError):
            store.create(path, ttl_seconds=rng.choice([None, 1, 600]), initial_data=b"first")
            store.append(path, rng.randbytes(rng.randrange(1, 20_000)))
            store.create(f"{path}-fork", forked_from=path, initial_data=b"own")
            store.delete(rng.choice([path, f"{path}-fork"]))
        store.append(
            f"/kept-{seed}", rng.randbytes(100), producer_id="p", producer_epoch=1, producer_seq=seq
        )
        seq += 1


def _flush(store: FileBackedStreamStore, end: threading.Event) -> None:
    while not end.wait(0.02):
        store.flush()


def main(folder: str, *options: str) -> None:
    kept = _NEVER_FLUSHED if "--no-flush" in options else _SMALL
    if "--no-merge" in options:
        kept = replace(kept, segment_count_max=10**6, dead_share_max=1.0)
    store = FileBackedStreamStore(folder, limits=_LIMITS, options=kept)
    _prepare(store)
    end = threading.Event()
    jobs: list[Callable[[], None]] = [
        lambda seed=seed: _write(store, seed, end)  # type: ignore[misc]
        for seed in range(_WRITERS)
    ]
    if "--no-flush" not in options:
        jobs.append(lambda: _flush(store, end))
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    alive = all(thread.is_alive() for thread in threads)
    end.set()
    for thread in threads:
        thread.join()
    store.close()
    sys.exit(0 if alive else "a writer ended with an error")


@contextmanager
def busy_store(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The process, at work; on leaving it must end well."""
    tests = str(Path(__file__).resolve().parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "support.busy_store", str(folder), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": tests},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
            process.communicate(timeout=30)
            assert process.returncode == 0
        finally:
            process.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
