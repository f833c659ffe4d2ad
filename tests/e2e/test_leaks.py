"""benchmarks/leaks.py in small, in a process of its own; and that it would find a leak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from leaks import MEMORY_MAX, leaks
from pressure.usage import KIB, MIB, Usage

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "leaks.py"


def test_cycles_of_flush_merge_and_reopening_leave_nothing_behind(tmp_path):
    command = [sys.executable, str(PROGRAM), "--cycles", "8", "--folder", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.endswith("nothing grew\n")


def usages(*, memory: int = 0, descriptors: int = 0, mappings: int = 0) -> list[Usage]:
    """Of 40 cycles, each of which leaves so much behind."""
    return [
        Usage(
            anonymous=20 * MIB + cycle * memory + cycle % 3 * 64 * KIB,
            mapped=0,
            descriptors=6 + cycle * descriptors,
            mappings=400 + cycle * mappings + cycle % 2 * 5,
        )
        for cycle in range(40)
    ]


def test_what_comes_and_goes_is_no_leak():
    assert leaks(usages()) == []


def test_a_descriptor_a_cycle_is_found():
    [found] = leaks(usages(descriptors=1))
    assert found.startswith("descriptors: from 16 to ")


def test_a_mapping_a_cycle_is_found():
    [found] = leaks(usages(mappings=1))
    assert found.startswith("mappings: ")


def test_memory_that_grows_is_found():
    [found] = leaks(usages(memory=MEMORY_MAX // 25))
    assert found.startswith("anonymous memory: ")
