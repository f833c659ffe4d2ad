"""Kill a server again and again under load, and hold it to what it acknowledged and showed.

Real processes on a real disk, SIGKILL to the process group at random moments: while it works,
starts, flushes and stops. The clients keep a ledger outside of the server (benchmarks/killing);
docs/reliability.md says what is promised. Other servers of the protocol run under the very same
load: see benchmarks/peers.py. The summary goes to stdout as JSON. The exit status is 1 if
durastream broke a promise.

    .venv/bin/python benchmarks/kill.py --server durastream --kills 500 --seed 1
    .venv/bin/python benchmarks/kill.py --server node --server rust --kills 60
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from killing.ledger import (  # noqa: E402
    DOUBLED,
    EXPIRED,
    FORGOTTEN,
    LOST,
    OUT_OF_ORDER,
    REOPENED,
    RESURRECTED,
    SHOWN,
    TORN,
    UNEXPECTED,
    VERIFY,
)
from killing.ours import OURS  # noqa: E402
from killing.plan import Plan, Result  # noqa: E402
from killing.run import KillRun  # noqa: E402
from peers import PEERS, CannotInstall  # noqa: E402

SERVERS = {**OURS, **PEERS}
# Of the table in docs/reliability.md, which says what each counts.
COLUMNS = {
    "kills": "kills",
    "acknowledged writes": "acknowledged",
    LOST: "lost",
    DOUBLED: "doubled",
    OUT_OF_ORDER: "out of order",
    TORN: "torn",
    SHOWN: "shown",
    FORGOTTEN: "forgotten",
    REOPENED: "reopened",
    RESURRECTED: "back",
    EXPIRED: "early",
    VERIFY: "verify",
    UNEXPECTED: "odd",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--server", action="append", choices=list(SERVERS), help="may be repeated")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="of what is done, and of the moments")
    parser.add_argument("--folder", type=Path, help="for the data; a real disk; by default .cache")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end the server, too
    results = []
    for name in options.server or ["durastream"]:
        try:
            SERVERS[name].install()
        except CannotInstall as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        results.append(run(name, options))
        print(json.dumps(results[-1].summary(), indent=1), flush=True)
    print(table(results), file=sys.stderr)
    ours = [result for result in results if result.server.name in OURS]
    return 0 if all(result.is_clean for result in ours) else 1


def run(name: str, options: argparse.Namespace) -> Result:
    parent = options.folder or ROOT / ".cache"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"kill-{name}-", dir=parent))
    result = KillRun(SERVERS[name], folder, Plan(options.kills, options.seed)).run()
    if result.is_clean or name in PEERS:
        shutil.rmtree(folder)
    else:
        print(f"{name}: the data directory and the server's log are kept in {folder}")
    return result


def table(results: list[Result]) -> str:
    """For docs/reliability.md."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "--:|" * len(COLUMNS)]
    for result in results:
        cells = [f"{result.ledger.counts[column]:,}" for column in COLUMNS]
        name = f"{result.server.title} {result.server.version}"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
