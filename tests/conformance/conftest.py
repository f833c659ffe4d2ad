"""Run the official suite once for each store and front end; report its counts at the end."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.node import MODULES, require_node
from support.server_process import ServerProcess

HERE = Path(__file__).parent
SUITE_SECONDS_MAX = 240  # it takes half a minute


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the suite says of one of its tests; ``reason`` is empty if it passed."""

    passed: bool
    reason: str


Verdicts = dict[str, Verdict]

COUNTS = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session", params=["memory", "file", "asgi"])
def verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """The suite's verdicts by name, against a server process."""
    folder = tmp_path_factory.mktemp("conformance")
    data_dir = None if request.param == "memory" else folder / "data"
    front = "asgi" if request.param == "asgi" else "fast"  # over the file store
    with ServerProcess(data_dir, "--long-poll-timeout", "0.5", "--front", front) as server:
        found = run_suite(server.base_url, folder / "report.json")
    passed = sum(verdict.passed for verdict in found.values())
    counts = request.config.stash.setdefault(COUNTS, {})
    counts[request.param] = f"{passed} of {len(found)} passed"
    return found


def run_suite(base_url: str, report: Path) -> Verdicts:
    command = [require_node(), MODULES / "vitest" / "vitest.mjs", "run"]
    process = subprocess.run(
        [*command, "--reporter=json", f"--outputFile={report}"],
        cwd=HERE,
        env={**os.environ, "CONFORMANCE_URL": base_url, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SUITE_SECONDS_MAX,
        check=False,
    )
    if not report.exists():
        pytest.fail(f"the suite ended with {process.returncode} and no report:\n{process.stdout}")
    return read_report(report)


def read_report(report: Path) -> Verdicts:
    """Every test that was run; those left out (subscriptions) are none."""
    found: Verdicts = {}
    for file in json.loads(report.read_text())["testResults"]:
        for test in file["assertionResults"]:
            if test["status"] not in ("skipped", "pending", "todo", "disabled"):
                name = " > ".join([*test["ancestorTitles"], test["title"]])
                reason = "\n".join(test["failureMessages"])
                found[name] = Verdict(test["status"] == "passed", reason)
    return found


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for store, counts in config.stash.get(COUNTS, {}).items():
        terminalreporter.write_line(f"official server suite, {store} store: {counts}")
