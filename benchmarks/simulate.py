"""Crash a store again and again, in as many seeded histories as there is time for.

Each seed is one history of generations, on a simulated disk: see tests/simulation/simulator.py for
what happens in them, docs/reliability.md for what is promised. Progress goes to stderr, a summary
in JSON to stdout. A history that breaks a promise ends the run with status 1, the reason, and the
one command that repeats it.

    .venv/bin/python benchmarks/simulate.py --seeds 1..1000 --generations 20
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from simulation.simulator import Simulation, Violation  # noqa: E402

COMMAND = ".venv/bin/python benchmarks/simulate.py"
STEPS_SHOWN = 40
REPORT_SECONDS = 10


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=seeds, default=seeds("1..100"), help="A..B, or one seed")
    parser.add_argument("--generations", type=int, default=20, help="of each history")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no seed after")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # the store reports every fault that it is given
    counts: Counter[str] = Counter()
    started = reported = time.monotonic()
    for seed in options.seeds:
        failure = run(seed, options.generations, counts)
        if failure is not None:
            print(failure, file=sys.stderr)
            return 1
        now = time.monotonic()
        if now - reported > REPORT_SECONDS:
            reported = now
            print(f"seed {seed}: {counts['generations']} generations", file=sys.stderr, flush=True)
        if now - started > options.seconds:
            break
    summary = {"seeds": f"{options.seeds[0]}..{seed}", "seconds": round(now - started)}
    print(json.dumps(summary | dict(sorted(counts.items())), indent=1))
    return 0


def seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def run(seed: int, generations: int, counts: Counter[str]) -> str | None:
    """One history; what to tell of it if it failed."""
    with tempfile.TemporaryDirectory(prefix="durastream-simulate-") as folder:
        simulation = Simulation(seed, Path(folder))
        gc.disable()  # what it finds closes files, at no moment that a seed could name
        try:
            simulation.run(generations)
        except Violation as violation:
            return report(simulation, violation)
        finally:
            gc.enable()
            counts.update(simulation.counts)
    return None


def report(simulation: Simulation, violation: Violation) -> str:
    steps = "\n".join(simulation.log[-STEPS_SHOWN:])
    return (
        f"{steps}\nseed {simulation.seed}, generation {simulation.generation}: "
        f"{violation}\nrepeat it: {COMMAND} --seeds {simulation.seed} "
        f"--generations {simulation.generation}"
    )


if __name__ == "__main__":
    sys.exit(main())
