"""Damage every byte class of every file, and whole files, thousands of times; judge each store.

A case is one damage to one copy of a seeded store: a bit flipped, bytes zeroed or replaced, a
sector lost or moved, a file cut, missing, older or another store's. It is verified, opened, read
to the last byte, written to, and some are opened twice; docs/reliability.md says what is asked
of it. Each is judged in a process of its own, which may not die nor hang. A small class has fewer
different cases than are drawn: each is judged once. A table of all classes goes to stderr, a
summary in JSON to stdout, also if an interrupt (Ctrl-C) ends it early; status 1 if a promise was
broken, with the command that repeats the case.

    .venv/bin/python benchmarks/corrupt.py --count 1000 --jobs 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from corruption.matrix import Matrix  # noqa: E402
from corruption.worker import Worker  # noqa: E402

COMMAND = ".venv/bin/python benchmarks/corrupt.py"
FOUND_BY = ("open", "read", "verify", "nobody", "death")
SHOWN_MAX = 50  # broken promises
BATCH = 100  # cases of one class that a worker does in a row


class Tally:
    """Counts by class, and what was broken."""

    def __init__(self, names: list[str]) -> None:
        self.counts = {name: Counter[str]() for name in names}
        self.broken: list[dict[str, Any]] = []
        self.done = 0
        self.stopping = False  # report what was done so far

    def add(self, name: str, number: int, outcome: dict[str, Any]) -> None:
        self.done += 1
        self.counts[name][outcome["found_by"]] += 1
        self.counts[name]["different"] += "repeats" not in outcome
        if outcome["broken"]:
            self.counts[name]["broken"] += 1
            self.broken.append({"class": name, "number": number, **outcome})
            print(f"broken: {name}, number {number}: {outcome['broken'][0]}", file=sys.stderr)

    def table(self) -> str:
        columns = ["cases", "different", *FOUND_BY]
        head = f"{'class':44}" + "".join(f"{column:>10}" for column in columns)
        rows = [
            f"{name:44}{sum(counts[found] for found in FOUND_BY):10}{counts['different']:10}"
            + "".join(f"{counts[found] or '':>10}" for found in FOUND_BY)
            for name, counts in self.counts.items()
        ]
        return "\n".join([head, *rows])


class Progress:
    """One line on a terminal, one every ten seconds elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = self._shown = time.monotonic()

    def show(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._shown < (0.2 if sys.stderr.isatty() else 10):
            return
        self._shown = now
        left = (now - self._started) * (self._total - tally.done) / max(1, tally.done)
        line = f"{tally.done} of {self._total} cases, {len(tally.broken)} broken, {left:.0f} s left"
        end = "\r" if sys.stderr.isatty() else "\n"
        print(line, end=end, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the store and all damage")
    parser.add_argument("--count", type=int, default=100, help="of cases of each class")
    parser.add_argument("--class", dest="name", default="", help="only classes that contain this")
    parser.add_argument("--number", type=int, help="only this case of each class")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="durastream-corrupt-") as folder:
        names = Matrix(options.seed, Path(folder)).names
    names = [name for name in names if options.name in name]
    numbers = range(options.count)
    if options.number is not None:
        numbers = range(options.number, options.number + 1)
    started = time.monotonic()
    tally = run(options.seed, names, numbers, options.jobs)
    report(tally, options.seed, time.monotonic() - started)
    return 1 if tally.broken else 0


def run(seed: int, names: list[str], numbers: range, jobs: int) -> Tally:
    tally, progress = Tally(names), Progress(len(names) * len(numbers))
    workers = [Worker(seed) for _ in range(jobs)]
    signal.signal(signal.SIGINT, lambda *_: setattr(tally, "stopping", True))

    def job(worker: Worker, own: list[str]) -> None:
        """A class stays with one worker, which knows what it has judged before."""
        for first in range(numbers.start, numbers.stop, BATCH):
            some = range(first, min(first + BATCH, numbers.stop))
            for name, number in itertools.product(own, some):
                if tally.stopping:
                    return
                tally.add(name, number, worker.run(name, number))
                progress.show(tally)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            running: list[Future[None]] = [
                pool.submit(job, worker, names[index::jobs]) for index, worker in enumerate(workers)
            ]
            for future in as_completed(running):
                future.result()
    finally:
        for worker in workers:
            worker.close()
    return tally


def report(tally: Tally, seed: int, seconds: float) -> None:
    print(tally.table(), file=sys.stderr)
    for case in tally.broken[:SHOWN_MAX]:
        print(f"\n{case['class']}: {case['what']}", file=sys.stderr)
        for promise in case["broken"][:5]:
            print(f"  {promise}", file=sys.stderr)
        command = f"{COMMAND} --seed {seed} --class '{case['class']}' --number {case['number']}"
        print(f"  repeat it: {command}", file=sys.stderr)
    counts = sum(tally.counts.values(), Counter[str]())
    summary = {
        "seed": seed,
        "seconds": round(seconds),
        "classes": len(tally.counts),
        "cases": tally.done,
        "different": counts["different"],
        "broken": len(tally.broken),
        "found_by": {found: counts[found] for found in FOUND_BY},
        "by_class": {
            name: {found: counts[found] for found in ("different", *FOUND_BY) if counts[found]}
            for name, counts in tally.counts.items()
        },
    }
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    sys.exit(main())
