"""Guard the hot operations against getting slower, by instructions and not by time.

Each operation of benchmarks/instructions/operations.py runs under a counter that steps through its
thread, and must not take more than a tenth more instructions than benchmarks/instructions.json
says. That is the same on a busy machine. Another compiler, interpreter or C library than those
named there makes other code of the same source: then it may be half as many again.

    python3 run.py bench --instructions             # compare; ends with 1 if one got slower
    python3 run.py bench --instructions --update    # after a change that is meant
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from instructions.operations import OPERATIONS, calls_and_windows  # noqa: E402

EXPECTED = HERE / "instructions.json"
SLACK = 1.10
SLACK_ELSEWHERE = 1.5  # built with other tools than the expected counts
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")

Counts = dict[str, int]  # instructions of one call, by operation


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write what was counted")
    options = parser.parse_args(arguments)
    record = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {"counts": {}}
    expected: Counts = record["counts"]
    counted = count_all()
    print(table(counted, expected))
    if options.update:
        EXPECTED.write_text(json.dumps({"tools": tools(), "counts": counted}, indent=1) + "\n")
        return 0
    slack = SLACK if record.get("tools") == tools() else SLACK_ELSEWHERE
    print(f"allowed: {slack} times what is expected (built with {tools()})")
    complaints = list(slower(counted, expected, slack))
    print("\n".join(complaints), file=sys.stderr, end="\n" if complaints else "")
    return 1 if complaints else 0


def tools() -> str:
    """What decides which instructions become of a source."""
    compiler = sysconfig.get_config_var("CC") or "cc"
    version = subprocess.run(
        [compiler.split()[0], "-dumpfullversion"], capture_output=True, text=True, check=False
    ).stdout.strip()
    libc = "-".join(platform.libc_ver())
    flags = hashlib.sha256((sysconfig.get_config_var("CONFIG_ARGS") or "").encode()).hexdigest()[:8]
    python = f"Python {platform.python_version()} ({flags})"
    return f"{python}, {compiler.split()[0]} {version}, {libc}, {platform.machine()}"


def slower(counted: Counts, expected: Counts, slack: float = SLACK) -> Iterator[str]:
    """What got slower, or is not guarded; one line each."""
    for name in sorted(counted.keys() | expected.keys()):
        if name not in expected or name not in counted:
            yield f"{name}: not in both the operations and {EXPECTED.name}; run with --update"
        elif counted[name] > expected[name] * slack:
            yield (
                f"{name}: {counted[name]:,} instructions, {counted[name] / expected[name]:.2f} "
                f"times the {expected[name]:,} that were expected"
            )


def table(counted: Counts, expected: Counts) -> str:
    lines = [f"{'operation':12} {'instructions':>14} {'expected':>12}"]
    for name, count in counted.items():
        lines.append(f"{name:12} {count:14,} {expected.get(name, 0):12,}")
    return "\n".join(lines)


def count_all() -> Counts:
    with tempfile.TemporaryDirectory(prefix="durastream-counter-") as folder:
        counter = build(Path(folder))
        nothing = count(counter, "nothing")
        names = [name for name in OPERATIONS if name != "nothing"]
        return {name: count(counter, name) - nothing for name in names}


def build(folder: Path) -> Path:
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    source, counter = HERE / "instructions" / "counter.c", folder / "counter"
    command = [compiler.split()[0], *FLAGS, str(source), "-o", str(counter)]
    subprocess.run(command, check=True)
    return counter


def count(counter: Path, name: str) -> int:
    """Of one call, in the window that was disturbed least. Raises: RuntimeError."""
    calls, windows = calls_and_windows(name)
    program = [sys.executable, "-P", str(HERE / "instructions" / "operations.py"), name]
    answer = subprocess.run(
        [str(counter), *program],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    counts = [int(line) for line in answer.stdout.split()]
    if answer.returncode or len(counts) != windows:
        raise RuntimeError(f"{name} ended with {answer.returncode} after {len(counts)} windows")
    return min(counts) // calls


if __name__ == "__main__":
    sys.exit(main())
