"""The simulator's short form, and proof that it can fail.

The long form is ``benchmarks/simulate.py``; what is promised, and how much of it was run, is in
docs/reliability.md. Each way to break a promise below must be found within a few histories.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import simulate
from durastream.engine import operations, recovery
from durastream.protocol.state import ProducerState
from simulation import simulator
from simulation.disk import SimulatedDisk
from simulation.simulator import Violation

SEEDS, GENERATIONS = 12, 8  # of each part
COMMAND = Path(simulate.__file__)


@pytest.mark.parametrize("part", range(4))
def test_histories_of_crashes(part):
    counts = Counter()
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        failure = simulate.run(seed, GENERATIONS, counts)
        assert failure is None, failure
    for happened in ("power losses", "kills", "orderly ends", "reads", "comparisons"):
        assert counts[happened] > 3, f"the simulation saw few {happened}"
    assert counts["appends by a front end"] > 5
    assert sum(count for name, count in counts.items() if name.startswith("fault: ")) > 50


# -- it can fail -------------------------------------------------------------------------------


def forget_syncs(monkeypatch):
    monkeypatch.setattr(SimulatedDisk, "sync", lambda disk, fd: None)


def forget_names(monkeypatch):
    monkeypatch.setattr(SimulatedDisk, "sync_directory", lambda disk, path: None)


def forget_producers(monkeypatch):
    def older(epoch, seq, at):
        return ProducerState(epoch, seq - 1, at)

    monkeypatch.setattr(recovery, "ProducerState", older)


def forget_closes(monkeypatch):
    def open_again(state, **changes):
        return changed(state, **(changes | ({"closed": False} if "closed" in changes else {})))

    changed = recovery.replace
    monkeypatch.setattr(recovery, "replace", open_again)


def forget_accesses(monkeypatch):
    monkeypatch.setattr(recovery, "touch_interval_ms", lambda ttl_seconds: 0)


def forget_references(monkeypatch):
    monkeypatch.setattr(operations, "delete_meta", without_release(operations.delete_meta))


def without_release(delete_meta):
    def changed(*arguments):
        meta = delete_meta(*arguments)
        return type(meta)(meta.at, meta.expired, meta.soft, meta.removed, None)

    return changed


def show_what_is_not_durable(monkeypatch):
    monkeypatch.setattr(operations.Operations, "readable", operations.Operations.live)


def answer_before_the_sync(monkeypatch):
    def opened(*arguments):
        store = open_store(*arguments)
        wait_durable = store._engine.wait_durable
        store._engine.wait_durable = lambda lsn: None if lsn % 3 == 0 else wait_durable(lsn)
        return store

    open_store = simulator.open_store
    monkeypatch.setattr(simulator, "open_store", opened)


@pytest.mark.parametrize(
    "break_it",
    [
        forget_syncs,
        forget_names,
        forget_producers,
        forget_closes,
        forget_accesses,
        forget_references,
        show_what_is_not_durable,
        answer_before_the_sync,
    ],
)
def test_a_broken_promise_is_found(monkeypatch, tmp_path, break_it):
    break_it(monkeypatch)
    with pytest.raises(Violation):  # noqa: PT012 - in whichever history it shows
        for seed in range(20):
            simulator.Simulation(seed, tmp_path).run(GENERATIONS)


def test_a_failure_names_the_command_that_repeats_it(monkeypatch):
    forget_syncs(monkeypatch)
    failures = [simulate.run(seed, GENERATIONS, Counter()) for seed in range(3)]
    failure = next(failure for failure in failures if failure is not None)
    last = failure.splitlines()[-1]
    assert last.startswith("repeat it: .venv/bin/python benchmarks/simulate.py --seeds ")
    assert "--generations " in last


# -- and a seed says everything ----------------------------------------------------------------


def run_command(hash_seed):
    answer = subprocess.run(
        [sys.executable, COMMAND, "--seeds", "5..7", "--generations", "5"],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    summary = json.loads(answer.stdout)
    assert summary.pop("seconds") >= 0
    return summary


def test_a_seed_repeats_its_history():
    first = run_command("1")
    assert first["generations"] == 15
    assert first == run_command("2")
