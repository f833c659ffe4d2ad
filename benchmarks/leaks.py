"""Whether anything is left behind: open a store, write, flush, merge, read, close; again and again.

All cycles happen in one process over one data directory. After each close descriptors, mappings and
anonymous memory are counted. Behind the first cycles, which fill caches, descriptors and mappings
must stay as they are, and memory may not have a trend. Prints a line of figures; status 1 if
something grew.

    .venv/bin/python benchmarks/leaks.py --cycles 200
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from durastream import FileBackedStreamStore, FileStoreOptions, Limits  # noqa: E402
from pressure.usage import KIB, MIB, Usage  # noqa: E402

STREAMS = 40
WARM_SHARE = 0.25  # of the cycles: caches, arenas and threads' stacks are filled in them
MEMORY_MAX = 1 * MIB  # growth over all further cycles: 200 leaks of one row each are more
MAPPINGS_SPREAD = 3  # arenas of malloc come and go
LIMITS = Limits(body_size_max=1 * MIB)
OPTIONS = FileStoreOptions(
    wal_file_size=2 * MIB,
    wal_size_max=8 * MIB,
    slab_size=128 * KIB,
    flush_size=256 * KIB,
    streams_cached_max=16,
    lmdb_map_size=256 * MIB,
    reserve_size=1 * MIB,
)


def cycle(data_dir: Path, number: int) -> None:
    """All that has to be let go of again: views, mappings, segments, threads, rows."""
    with FileBackedStreamStore(data_dir, limits=LIMITS, options=OPTIONS) as store:
        for stream in range(STREAMS):
            path = f"/{stream}"
            if not store.has(path):
                store.create(path, content_type="text/plain")
            store.append(path, b"%d in cycle %d\n" % (stream, number) * 20)
        store.flush()
        store.append("/0", b"behind the flush\n")
        store.flush()
        store.compact(everything=True)
        for stream in range(STREAMS):
            assert store.read(f"/{stream}").messages
        victim = f"/{number % STREAMS}"
        store.create("/fork", forked_from=victim)
        store.delete(victim)
        store.delete("/fork")


def measure(data_dir: Path, cycles: int) -> list[Usage]:
    found = []
    for number in range(cycles):
        cycle(data_dir, number)
        gc.collect()
        found.append(Usage.of(os.getpid()))
    return found


def leaks(usages: Sequence[Usage]) -> list[str]:
    """What grew, in words."""
    settled = usages[int(len(usages) * WARM_SHARE) :]
    found = []
    for name, spread in (("descriptors", 0), ("mappings", MAPPINGS_SPREAD)):
        values = [getattr(usage, name) for usage in settled]
        # The smallest of each end: what comes and goes is no leak.
        first, last = min(values[: len(values) // 4 + 1]), min(values[-(len(values) // 4) - 1 :])
        if last > first + spread:
            found.append(f"{name}: from {first} to {last}")
    if (grown := growth([usage.anonymous for usage in settled])) > MEMORY_MAX:
        found.append(f"anonymous memory: by {grown / KIB:,.0f} KiB in {len(settled)} cycles")
    return found


def growth(values: Sequence[int]) -> float:
    """The median slope between all pairs (Theil and Sen), times the number of cycles."""
    pairs = combinations(enumerate(values), 2)
    return statistics.median((b - a) / (j - i) for (i, a), (j, b) in pairs) * len(values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where; default: the system's temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durastream-leaks-", dir=options.folder) as folder:
        usages = measure(Path(folder) / "data", options.cycles)
    for number in sorted({0, options.cycles // 4, options.cycles // 2, options.cycles - 1}):
        usage = usages[number]
        print(
            f"cycle {number + 1:4}: {usage.descriptors} descriptors, {usage.mappings} mappings, "
            f"{usage.anonymous / MIB:.1f} MiB"
        )
    found = leaks(usages)
    print("; ".join(found) or "nothing grew")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
