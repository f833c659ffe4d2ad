"""durastream beside every other server of the protocol that can be installed by name.

Interleaved rounds on one machine: the server on one core, the client on another, fresh data in each
round, everything durable before it is acknowledged. Prints every figure, then what must hold and
whether it does (benchmarks/side_by_side/report.py has the bars); writes all records as JSON and
draws them.

    python3 run.py bench --peers
    .venv/bin/python benchmarks/peers_bench.py --peer rust --row append --row head --rounds 3
    .venv/bin/python benchmarks/peers_bench.py --report benchmarks/results/peers.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from killing.ours import DEFAULT, Durastream  # noqa: E402
from peers import PEERS, CannotInstall, Server  # noqa: E402
from side_by_side import client, report  # noqa: E402
from side_by_side.measured import CORES, pin_client  # noqa: E402
from side_by_side.rounds import Run  # noqa: E402
from side_by_side.rows import FRESH_ROWS, START_ROWS, Load  # noqa: E402

OURS = Durastream(report.OURS, "durastream", DEFAULT.version)
RESULT = ROOT / ".cache" / "peers_bench.json"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.report:
        return show(json.loads(options.report.read_text()), options)
    servers = [OURS, *installed(options.peer or list(PEERS))]
    load = Load(options.seconds)
    folder = options.folder or ROOT / ".cache"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="peers-bench-", dir=folder) as place:
        run = Run(servers, options.rounds, load, options.streams, set(options.row), Path(place))
        result = {
            "machine": machine(),
            "options": {"rounds": options.rounds, **asdict(load)},
            "servers": {server.name: f"{server.title} {server.version}" for server in servers},
            "records": run.records,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        run.save = lambda: write(options.out, result)
        client.binary()
        pin_client()
        run.run()
    return show(result, options)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    rows = [row.name for row in FRESH_ROWS] + list(START_ROWS) + ["append-10k", "append-100k"]
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="by default, all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row")
    parser.add_argument("--row", action="append", default=[], choices=rows, help="by default, all")
    parser.add_argument(
        "--streams", type=int, nargs="*", default=[10_000, 100_000], help="of the largest rows"
    )
    parser.add_argument("--folder", type=Path, help="for the data; a real disk; by default .cache")
    parser.add_argument("--out", type=Path, default=RESULT, help="every record, as JSON")
    parser.add_argument("--plots", type=Path, help="folder for the plots; by default, none")
    parser.add_argument("--report", type=Path, help="only show what an earlier run wrote")
    return parser.parse_args(arguments)


def installed(names: list[str]) -> list[Server]:
    """Those that could be installed; the others are named."""
    found = []
    for name in names:
        try:
            PEERS[name].install()
            found.append(PEERS[name])
        except CannotInstall as error:
            print(f"{PEERS[name].title} is left out: {error}", file=sys.stderr)
    return found


def machine() -> dict[str, Any]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("model name", "CPU part"))
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(CORES),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def write(path: Path, result: dict[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(result, indent=1))
    draft.replace(path)


def show(result: dict[str, Any], options: argparse.Namespace) -> int:
    """The tables, and the plots if they are wanted."""
    medians = report.medians(result["records"])
    print(", ".join(f"{name}: {value}" for name, value in result["machine"].items()), "\n")
    print(report.figures_table(medians, result["servers"]), "\n")
    print(report.bars_table(medians))
    for failure in report.failures(result["records"]):
        print("failed:", failure)
    if options.plots:
        from side_by_side.plots import draw

        for path in draw(medians, result["servers"], options.plots):
            print("drawn:", path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
