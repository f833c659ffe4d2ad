"""A repair that is cut short anywhere: run again, it ends as if nothing had happened (I6).

The power goes off in each call of the disk seam, and what was not synced is lost, torn or
scribbled over; calls fail; processes are killed. Between the attempts no server may take what
is there for a store that lost something. ``DURASTREAM_CRASH_SEEDS=n`` tries every call; the
default is a spread of those that build, and all those that exchange.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

import lmdb
import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import OpenError, StorageError
from durastream.engine.memory_store import StreamStore
from durastream.engine.repair_run import repair_directory
from simulation.disk import PowerLoss, SimulatedDisk
from simulation.stores import LIMITS, Clock, abandon, new_disk, observe, open_store
from simulation.workload import Workload, attempt

TROUBLE = (StorageError, PowerLoss, OSError, lmdb.Error)
STEP_COUNT = 40
STRIDE = 1 if os.environ.get("DURASTREAM_CRASH_SEEDS") else 15
EXCHANGE = 30  # calls at the end of a repair
CHANGING = ["open", "pwrite", "sync", "rename", "make_directory", "sync_directory", "unlink"]


class Case:
    """A store that worked, was killed and then damaged; and what its users had seen."""

    def __init__(self, seed, folder):
        self.folder = folder
        folder.mkdir()
        self.disk, self.clock = new_disk(seed), Clock()
        oracle, workload = StreamStore(limits=LIMITS, clock=self.clock), Workload(seed)
        store = open_store(self.disk, self.rows, self.clock)
        for number in range(STEP_COUNT):
            self.clock.advance(1)
            step = workload.step(oracle)
            attempt(oracle, step)
            attempt(store, step)
            if number in (15, 25):
                store.flush()
        self.expected = observe(store)
        abandon(store)
        self.disk = self.disk.kill()

    @property
    def rows(self):
        return self.folder / "meta.lmdb"

    def damage(self):
        """Rows gone, a segment without its footer, a frame without its header: nothing lost."""
        shutil.rmtree(self.rows)
        segment = min(name for name in self.disk.names if name.endswith(".seg"))
        self.disk.overwrite(segment, len(self.disk.files()[segment]) - 60, b"damage")

    def repair(self):
        return repair_directory(Path("/data"), DelegatedDisk(self.disk), self.rows)

    def check(self):
        store = open_store(self.disk, self.rows, self.clock)
        assert not store.read_only
        assert observe(store) == self.expected
        store.close()


def case(seed, folder):
    found = Case(seed, folder)
    found.damage()
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_a_repair_on_a_simulated_disk(seed, tmp_path):
    found = case(seed, tmp_path / "run")
    outcome = found.repair()
    assert outcome.is_done
    assert not outcome.has_losses
    found.check()


def calls_of(seed, folder, names=CHANGING):
    """The calls of a repair that may change something, by number."""
    found = case(seed, folder)
    start = found.disk.call_count
    found.repair()
    trace = found.disk.trace[start:]
    calls = [number for number, (name, _) in enumerate(trace, start + 1) if name in names]
    return [*calls[:-EXCHANGE:STRIDE], *calls[-EXCHANGE:]]


def interrupted(found, point, fault):
    if fault is None:
        found.disk.crash_at = point
    else:
        found.disk.faults = {point: fault}
    with contextlib.suppress(*TROUBLE):
        found.repair()
        return False
    return True


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", [None, errno.EIO, errno.ENOSPC, "lost sync"], ids=str)
def test_a_repair_that_is_cut_short_is_done_again(tmp_path, fault):
    seed, cut_short = 1, 0
    calls = calls_of(seed, tmp_path / "count", ["sync"] if fault == "lost sync" else CHANGING)
    for point in calls if fault in (None, "lost sync") else calls[::3]:
        found = case(seed, tmp_path / "run")
        cut_short += interrupted(found, point, fault)
        if fault is None:
            found.disk = found.disk.crash()
        with contextlib.suppress(OpenError, StorageError):
            store = open_store(found.disk, found.rows, found.clock)
            assert observe(store) == found.expected, f"call {point} left a store that lies"
            abandon(store)
            found.disk = found.disk.kill()
        outcome = found.repair()
        assert not outcome.has_losses, f"call {point}"
        assert outcome.left == []
        found.check()
        shutil.rmtree(found.folder)
    assert cut_short > 3


@pytest.mark.timeout(600)
def test_a_repair_cut_short_twice(tmp_path):
    seed = 2
    calls = calls_of(seed, tmp_path / "count")
    for point in calls[-14::3]:
        for second in range(1 + point % 7, 60, 7 * STRIDE):
            found = case(seed, tmp_path / "run")
            interrupted(found, point, None)
            found.disk = found.disk.crash()
            found.disk.crash_at = found.disk.call_count + second
            with contextlib.suppress(*TROUBLE):
                found.repair()
            found.disk = found.disk.crash() if found.disk.crashed else found.disk
            outcome = found.repair()
            assert not outcome.has_losses
            found.check()
            shutil.rmtree(found.folder)


def test_the_disk_is_a_simulated_one(tmp_path):
    assert isinstance(case(1, tmp_path / "run").disk, SimulatedDisk)
