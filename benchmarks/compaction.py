"""What compaction costs: bytes written for each byte appended, and what appends notice of it.

Appends of 1 KiB from one thread (each waits for its commit) and from eight more, over streams
drawn at random, until so much was appended; some streams are deleted and made again meanwhile.
The store flushes and merges by itself. Then the same store is merged into one segment while the
appends go on, and the latencies of a single appender before and during that are compared within
the run: absolute figures belong to one machine.

    .venv/bin/python benchmarks/compaction.py --streams 100 100000 --size 256
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from durastream._native.disk import PosixDisk
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import FileStoreOptions

MIB = 1024 * 1024
BODY = bytes(range(256)) * 4
BATCH = 16  # bodies in an append of the writers: the disk, not the interpreter, shall be busy
WRITERS = 4


@dataclass
class Latencies:
    """Of one appender, in seconds."""

    values: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        quantiles = statistics.quantiles(self.values, n=1000)
        worst = max(self.values)
        chosen = (quantiles[499], quantiles[989], quantiles[998], worst)
        return " ".join(f"{1000 * value:.2f}" for value in chosen) + f" ms of {len(self.values)}"


class Load:
    """Appends from several threads over the streams of one store."""

    def __init__(self, store: FileBackedStreamStore, streams: int) -> None:
        self._store = store
        self._streams = streams
        self.appended = 0
        self.stop = threading.Event()

    def create(self) -> None:
        for number in range(self._streams):
            self._store._engine.decide(self._creation(number))
        self._store.append("/0", BODY)

    def _creation(self, number: int):  # type: ignore[no-untyped-def]
        options = dict.fromkeys(
            ["ttl_seconds", "expires_at", "forked_from", "fork_offset", "fork_sub_offset",
             "retention_seconds", "retention_bytes"]
        )  # fmt: skip
        return self._store.create_step(
            f"/{number}", content_type="text/plain", initial_data=b"", closed=False, **options
        )

    def write(self, size: int, churn: float = 0.0) -> None:
        """Append ``size`` bytes; of the streams written to, a share is deleted first."""

        def run(seed: int) -> None:
            rng = random.Random(seed)
            while self.appended < size and not self.stop.is_set():
                path = f"/{rng.randrange(self._streams)}"
                if rng.random() < churn and self._store.has(path):
                    self._store.delete(path)
                    self._store.create(path, content_type="text/plain")
                try:
                    self._store.append(path, BODY * BATCH)
                except LookupError:
                    continue
                except Exception as error:  # deleted by another thread just now
                    if type(error).__name__ != "StreamNotFound":
                        raise
                self.appended += len(BODY) * BATCH

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def measure(self, until: threading.Event) -> Latencies:
        """Single appends, one after the other."""
        found = Latencies()
        while not until.is_set():
            started = time.perf_counter()
            self._store.append("/0", BODY)
            found.values.append(time.perf_counter() - started)
            time.sleep(0.001)
        return found


class Written:
    """Bytes written to segments, by level, as far as they were seen in time."""

    def __init__(self, store: FileBackedStreamStore) -> None:
        self._seen: dict[int, tuple[int, int]] = {}
        self._engine = store._engine

    def look(self) -> None:
        for number, entry in list(self._engine.listed.items()):
            self._seen[number] = (entry.level, entry.size)

    @property
    def flush_count(self) -> int:
        return sum(level == 0 for level, _ in self._seen.values())

    def total(self, *, flushes_only: bool = False) -> int:
        return sum(size for level, size in self._seen.values() if not (flushes_only and level))


def run(folder: Path, streams: int, size: int, churn: float, flush_size: int) -> None:
    options = FileStoreOptions(lmdb_map_size=8 * 1024 * MIB, flush_size=flush_size)
    with FileBackedStreamStore(folder / "data", options=options, disk=PosixDisk()) as store:
        load, written = Load(store, streams), Written(store)
        load.create()
        watcher_stop = threading.Event()

        def watch() -> None:
            while not watcher_stop.wait(0.02):
                written.look()

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.monotonic()
        load.write(size, churn)
        took = time.monotonic() - started
        store.flush()
        settled = time.monotonic()
        while store._maintenance.compactor.is_working and time.monotonic() - settled < 120:
            time.sleep(0.1)
        written.look()
        watcher_stop.set()
        watcher.join()
        listed = store._engine.listed.values()
        total, dead = (sum(getattr(e, name) for e in listed) for name in ("size", "dead_size"))
        print(
            f"{streams:,} streams, {written.flush_count:,} flushes, "
            f"{load.appended / MIB:,.0f} MiB at {load.appended / MIB / took:,.0f} MiB/s: "
            f"{len(listed)} segments, "
            f"{total / MIB:,.0f} MiB, {100 * dead / max(1, total):.0f} % dead; written for each "
            f"byte appended: {written.total(flushes_only=True) / load.appended:.2f} by flushes, "
            f"{written.total() / load.appended:.2f} in all",
            flush=True,
        )
        compare(store, load)


def compare(store: FileBackedStreamStore, load: Load) -> None:
    """Latencies without and with a merge of everything."""
    quiet, done = threading.Event(), threading.Event()
    threading.Timer(5.0, quiet.set).start()
    before = load.measure(quiet)

    def merge() -> None:
        store.compact(everything=True)
        done.set()

    started = time.monotonic()
    merging = threading.Thread(target=merge)
    merging.start()
    during = load.measure(done)
    merging.join()
    took = time.monotonic() - started
    size = sum(entry.size for entry in store._engine.listed.values())
    print(f"  p50 p99 p99.9 max of an append: quiet  {before}")
    print(f"  merging {size / MIB:,.0f} MiB in {took:.1f} s:   {during}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 100_000])
    parser.add_argument("--size", type=int, default=256, help="MiB to append")
    parser.add_argument("--churn", type=float, default=0.0, help="share of deletions, 0 to 1")
    parser.add_argument(
        "--flush-size", type=int, default=16 * 1024, help="KiB, fewer: more of them"
    )
    parser.add_argument("--folder", type=Path, help="where; default: the system's temporary one")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)  # as ``durastream serve`` does
    for streams in options.streams:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            run(Path(folder), streams, options.size * MIB, options.churn, options.flush_size * 1024)


if __name__ == "__main__":
    main()
