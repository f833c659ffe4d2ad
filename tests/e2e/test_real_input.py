"""The small form of benchmarks/real_input.py: real text, the official client, one SIGKILL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "real_input.py"


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json"])
def test_what_is_read_back_is_the_input(content_type):
    options = ["--installed", "--size-mb", "2", "--content-type", content_type]
    process = subprocess.run(
        [sys.executable, PROGRAM, *options], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
