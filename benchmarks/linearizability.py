"""Check the linearizability of histories for as long as there is time.

Each seed is three runs on a store in memory and two on one in files: threads and event loops on
the store itself, connections to a server in this process, and to `durastream serve`. How
calls interleave is up to the machine, so a seed chooses the work and does not repeat a history;
a history that is not linearizable is shown with all that led there. Progress goes to stderr, a
summary in JSON to stdout.

    .venv/bin/python benchmarks/linearizability.py --seconds 600
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from histories.checker import NotLinearizable  # noqa: E402
from histories.runs import (  # noqa: E402
    Outcomes,
    run_embedded,
    run_process,
    run_served,
)

RUNS: dict[str, Callable[[Path, int, int], Outcomes]] = {
    "memory, embedded": partial(run_embedded, "memory"),
    "file, embedded": partial(run_embedded, "file"),
    "memory, server": partial(run_served, "memory"),
    "file, server": partial(run_served, "file"),
    "file, process": run_process,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="begin no run after")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=300, help="of each client and run")
    options = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    ended = time.monotonic() + options.seconds
    for seed in count(options.first_seed):
        for name, run in RUNS.items():
            if time.monotonic() > ended:
                print(json.dumps(dict(sorted(counts.items())), indent=1))
                return 0
            try:
                with tempfile.TemporaryDirectory(prefix="durastream-history-") as folder:
                    outcomes = run(Path(folder), seed, options.operations)
            except NotLinearizable as failure:
                print(f"seed {seed}, {name}: {failure}", file=sys.stderr)
                return 1
            counts.update({"histories": 1, f"calls, {name}": outcomes.calls})
            counts.update(outcomes.kinds)
        print(f"seed {seed}: {counts['histories']} histories", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
