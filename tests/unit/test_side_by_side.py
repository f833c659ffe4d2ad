"""Medians, ratios and verdicts of the side-by-side benchmark, of records made by hand."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from peers import Server
from side_by_side import report
from side_by_side.measured import Measured
from side_by_side.report import Bar

BAR = Bar("append", "per_second", "≥", 1.4)


def record(server: str, rate: float, row: str = "append", **others: object) -> dict[str, object]:
    figures = {"per_second": rate, "cpu_us": 1e6 / rate, "other_cpu": 0.0, **others}
    return {"row": row, "work": "w", "counts": "requests/s", "server": server, **figures}


def test_a_median_is_of_the_quiet_rounds():
    records = [record("rust", rate) for rate in (10, 30, 20)]
    records += [record("rust", 1000, other_cpu=0.5)]
    medians = report.medians(records)
    assert medians["append", "rust"]["per_second"] == 20
    assert medians["append", "rust"]["rounds"] == 3
    assert medians["append", "rust"]["spread"] == [10, 30]


def test_without_a_quiet_round_all_count():
    records = [record("rust", rate, other_cpu=0.5) for rate in (10, 20)]
    assert report.medians(records)["append", "rust"]["per_second"] == 15


def test_what_failed_does_not_count():
    records = [record("rust", 10), record("rust", 99, failure="refused: 503", round=1)]
    assert report.medians(records)["append", "rust"]["per_second"] == 10
    assert report.failures(records) == ["rust, append, round 2: refused: 503"]


@pytest.mark.parametrize(("ours", "met"), [(139, False), (140, True), (1000, True)])
def test_a_bar_is_a_ratio_to_the_fastest_peer(ours, met):
    medians = report.medians([record("rust", 100), record("durastream", ours)])
    ratio = BAR.ratio(medians)
    assert ratio == ours / 100
    assert BAR.is_met(ratio) == met
    assert ("**not met**" in report.bars_table(medians)) != met


def test_a_bar_against_a_row_of_ours():
    bar = Bar("append-100k", "per_second", "≥", 0.8, "durastream", "append-100")
    records = [record("durastream", 100, "append-100"), record("durastream", 79, "append-100k")]
    medians = report.medians(records)
    assert bar.ratio(medians) == 0.79
    assert not bar.is_met(0.79)


def test_an_absolute_bar():
    bar = Bar("start-warm", "start_seconds", "≤", 1.0, None)
    medians = report.medians([record("durastream", 1, "start-warm", start_seconds=1.5)])
    assert bar.ratio(medians) == 1.5
    assert not bar.is_met(1.5)
    assert bar.is_met(1.0)


def test_what_was_not_measured_has_no_verdict():
    medians = report.medians([record("durastream", 100)])
    assert BAR.ratio(medians) is None
    assert report.bars_table(medians).count("\n") == 1


@dataclass(frozen=True)
class Busy(Server):
    """Not a server: a process with a child that uses processor time."""

    def install(self) -> None:
        pass

    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        child = "while True: pass"
        program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{child}'])"
        return [sys.executable, "-c", program]


def test_processor_time_is_that_of_the_whole_tree(tmp_path):
    def work() -> dict[str, float]:
        """Until it used 0.1 s, however busy the machine is."""
        enough = process.processor_seconds() + 0.1
        deadline = time.monotonic() + 20
        while process.processor_seconds() < enough and time.monotonic() < deadline:
            time.sleep(0.02)
        return {"requests": 10}

    with Measured(Busy("busy", "Busy", "1"), tmp_path) as process:
        process.start()
        work()  # by then the child is there, and its parent waits
        figures = process.measure(work)
        assert process.memory() > 5e6
        process.kill()
    assert 1e4 * 0.99 <= figures["cpu_us"] < 1e5
    assert not os.path.exists(process.folder)
