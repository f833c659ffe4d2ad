"""Memory under pressure: what `durastream serve` holds while it is given too much.

    .venv/bin/python benchmarks/memory.py writer bodies catchup sse streams --scale 0.2

Each scenario starts a server of its own, puts it under pressure beside a client with small
appends, and compares the most memory that it held (anonymous: mapped files apart) with the bound
that docs/operations.md states. Prints a table, then everything in JSON; status 1 if a bound was
passed, anything acknowledged is lost, or the healthy client was refused.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from pressure import many, scenarios  # noqa: E402
from pressure.outcome import Outcome, table_head  # noqa: E402
from pressure.scenarios import Server  # noqa: E402
from pressure.usage import Watch  # noqa: E402
from support.server_process import ServerProcess  # noqa: E402

KIB, MIB = 1024, 1024 * 1024

# What docs/operations.md, "Limits", says for each: the process itself, and what the scenario uses.
PROCESS = 96 * MIB
BACKLOG, PINNED, BODIES = 128 * MIB, (64 + 128) * MIB, (256 + 128) * MIB
CONNECTION = 96 * KIB
STREAM, STREAMS_CACHED = 1 * KIB, 131_072
STREAMS = 1_000_000


def _writer(server: Server, scale: float) -> Outcome:
    return scenarios.writer(
        server, PROCESS + BACKLOG + 2 * 64 * MIB, connections=64, size=MIB, seconds=60 * scale
    )


def _bodies(server: Server, scale: float) -> Outcome:
    return scenarios.bodies(
        server, PROCESS + BACKLOG + BODIES,
        fast=int(30 * scale), slow=int(10 * scale), endless=int(10 * scale), size=64 * MIB,
        seconds=90,
    )  # fmt: skip


def _catchup(server: Server, scale: float) -> Outcome:
    return scenarios.catchup(
        server, PROCESS + BACKLOG + PINNED,
        fast=int(70 * scale), slow=int(20 * scale), stopped=int(10 * scale),
        size=int(1024 * scale) * MIB, seconds=60 * scale,
    )  # fmt: skip


def _sse(server: Server, scale: float) -> Outcome:
    return scenarios.sse(
        server, PROCESS + int(10_000 * scale) * CONNECTION,
        reading=int(9000 * scale), stopped=int(1000 * scale), size=KIB, rate=1,
        seconds=60,
    )  # fmt: skip


def _streams(server: Server, scale: float) -> Outcome:
    return scenarios.streams(
        server, PROCESS + BACKLOG + STREAMS_CACHED * STREAM,
        count=int(STREAMS * scale), active=int(1000 * scale), seconds=60 * scale,
    )  # fmt: skip


SCENARIOS: dict[str, Callable[[Server, float], Outcome]] = {
    "writer": _writer,
    "bodies": _bodies,
    "catchup": _catchup,
    "sse": _sse,
    "streams": _streams,
}

# Event streams have to last as long as the scenario; clients here do not come back.
ARGUMENTS = {"sse": ["--sse-max-age", "3600"]}


def _prepare(name: str, data_dir: Path, scale: float) -> None:
    """What has to be in the store before the server starts."""
    if name != "streams":
        return
    began = time.monotonic()
    with Watch(os.getpid()) as watch:
        many.create(data_dir, int(STREAMS * scale))
    took, peak = time.monotonic() - began, watch.peak / MIB
    print(
        f"made {STREAMS * scale:,.0f} streams in {took:.0f} s, at most {peak:.0f} MiB", flush=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scenarios", nargs="+", choices=SCENARIOS, metavar="SCENARIO")
    parser.add_argument("--scale", type=float, default=1.0, help="of the full size")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    outcomes = []
    print(table_head())
    for name in options.scenarios:
        with tempfile.TemporaryDirectory(prefix="durastream-memory-") as folder:
            data_dir = Path(folder) / "data"
            _prepare(name, data_dir, options.scale)
            with ServerProcess(data_dir, *ARGUMENTS.get(name, [])) as process:
                outcomes.append(SCENARIOS[name](Server(process.port, process.pid), options.scale))
            print(outcomes[-1].markdown(), flush=True)
    print(json.dumps([outcome.plain() for outcome in outcomes], indent=1))
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
