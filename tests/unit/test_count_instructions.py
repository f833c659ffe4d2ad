"""The guard counts what a thread executes, and complains of what got slower."""

from __future__ import annotations

import subprocess
import sys

import pytest

import count_instructions

PROGRAM = """
import signal
for number in {numbers}:
    steps = range(number)
    signal.raise_signal(signal.SIGUSR1)
    for _ in steps:
        pass
    signal.raise_signal(signal.SIGUSR2)
"""


def counted(counter, numbers: list[int]) -> list[int]:
    command = [str(counter), sys.executable, "-S", "-c", PROGRAM.format(numbers=numbers)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return [int(line) for line in answer.stdout.split()]


def test_it_counts_what_is_executed(tmp_path):
    few, many, more = counted(count_instructions.build(tmp_path), [10, 210, 410])
    assert many - few > 200, "an instruction for each turn of the loop, at least"
    assert more - many > 200


def test_the_end_of_the_program_is_told(tmp_path):
    counter = count_instructions.build(tmp_path)
    for status in (0, 3):
        command = [str(counter), sys.executable, "-S", "-c", f"raise SystemExit({status})"]
        assert subprocess.run(command, check=False).returncode == status


@pytest.mark.parametrize(("count", "complains"), [(100, False), (110, False), (111, True)])
def test_a_tenth_more_is_too_much(count, complains):
    found = list(count_instructions.slower({"append": count}, {"append": 100}))
    assert bool(found) == complains
    if complains:
        assert found == ["append: 111 instructions, 1.11 times the 100 that were expected"]


@pytest.mark.parametrize(("counted", "expected"), [({"new": 1}, {}), ({}, {"gone": 1})])
def test_nothing_goes_unguarded(counted, expected):
    assert list(count_instructions.slower(counted, expected)) != []


def test_other_tools_may_make_more_of_it():
    allowed = count_instructions.SLACK_ELSEWHERE
    assert list(count_instructions.slower({"append": 150}, {"append": 100}, allowed)) == []
    assert list(count_instructions.slower({"append": 151}, {"append": 100}, allowed)) != []
    assert "gcc" in count_instructions.tools() or "clang" in count_instructions.tools()
