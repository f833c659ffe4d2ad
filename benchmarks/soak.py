"""A soak: a server under a steady load for an hour, in which nothing may be lost, and nothing grow.

10,000 streams, drawn by Zipf's law, get appends of 100 B to 4 KiB, text and JSON, by the clock;
streams expire, are trimmed, deleted, forked and made again, so that as much is live at the end as
at the beginning. Meanwhile the store is backed up and verified, and the server killed; the last
third of the time it is left alone, so that a slow leak has time to show. At the end every stream is
compared with the ledger, in the store and in a restored backup (benchmarks/soaking).

Samples go to ``samples.jsonl`` in the folder, the summary to ``summary.json`` and stdout; the exit
status is 1 if a promise was broken, a bound passed, or something grew.

    .venv/bin/python benchmarks/soak.py --minutes 60 --seed 1 --plots docs/plots
    .venv/bin/python benchmarks/soak.py --redraw .cache/soak --plots docs/plots
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from soaking.plan import SHORT, SOAKED, Plan  # noqa: E402
from soaking.report import summary, table  # noqa: E402
from soaking.run import SoakRun  # noqa: E402
from soaking.sample import Sample  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="of load; 10 or more for trends")
    parser.add_argument("--seed", type=int, default=1, help="of what is done, and of the moments")
    parser.add_argument("--rate", type=float, default=400, help="appends a second, and 1/4 reads")
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "soak", help="for all")
    parser.add_argument("--plots", type=Path, help="draw them into this folder")
    parser.add_argument("--redraw", type=Path, help="only draw, from the folder of an earlier run")
    options = parser.parse_args()
    if options.redraw:
        report(options.redraw, options.plots)
        return 0
    if options.folder.exists():
        parser.error(f"{options.folder} is there: of an earlier run? Remove it, or give another")
    return soak(options)


def soak(options: argparse.Namespace) -> int:
    seconds = options.minutes * 60
    often = SHORT if options.minutes < 10 else {}
    plan = Plan(
        seconds, SOAKED, options.seed,
        streams=options.streams, rate=options.rate, reads=options.rate / 4, **often,
    )  # fmt: skip
    result = asyncio.run(SoakRun(plan, options.folder).run())
    found = summary(result)
    text = json.dumps(found, indent=1)
    (options.folder / "summary.json").write_text(text + "\n")
    print(text)
    report(options.folder, options.plots)
    if found["is clean"]:
        for part in ("data", "backup", "restored"):
            shutil.rmtree(options.folder / part)
    return 0 if found["is clean"] else 1


def report(folder: Path, plots: Path | None) -> None:
    lines = (folder / "samples.jsonl").read_text().splitlines()
    samples = [Sample.of(line) for line in lines]
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    print(table(found), file=sys.stderr)
    if plots is not None:
        from soaking.plots import draw  # needs the group `bench`

        draw(samples, found["kills"], plots)


if __name__ == "__main__":
    sys.exit(main())
