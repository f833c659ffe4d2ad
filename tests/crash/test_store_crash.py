"""Power losses in every call of the disk seam: I1 to I5 and I7 for the whole store.

The store in memory is the oracle (tests/simulation/stores.py). Each crash point is one run:
the workload up to it, recovery, comparison, more work, an orderly end, and comparison again.
``DURASTREAM_CRASH_SEEDS=n`` runs more seeds and every call; the default is a spread of calls.
"""

import contextlib
import os
import shutil

import lmdb
import pytest

from durastream.engine.errors import OpenError, StorageError
from durastream.engine.memory_store import StreamStore
from simulation.disk import PowerLoss
from simulation.stores import LIMITS, Clock, abandon, copy_of, new_disk, observe, open_store
from simulation.workload import Workload, attempt

STEP_COUNT = 40
SEEDS = int(os.environ.get("DURASTREAM_CRASH_SEEDS", "0"))
STRIDE = 1 if SEEDS else 7
TROUBLE = (StorageError, PowerLoss, OSError, lmdb.Error)


class Run:
    """One workload on one disk, beside its oracle."""

    def __init__(self, seed, folder):
        self.seed = seed
        self.disk = new_disk(seed)
        self.metadata = folder / "meta.lmdb"
        self.clock = Clock()
        self.oracle = StreamStore(limits=LIMITS, clock=self.clock)
        self.workload = Workload(seed)
        self.before = copy_of(self.oracle)
        self.store = None
        self.allowed = [observe(self.oracle)]  # what the store may show after a crash

    def open(self):
        self.store = open_store(self.disk, self.metadata, self.clock)

    def work(self, count):
        """Do steps until the power goes off, or ``count`` of them; whether it stayed on."""
        for _ in range(count):
            self.clock.advance(1)
            step = self.workload.step(copy_of(self.oracle))
            self.before = copy_of(self.oracle)
            before = observe(copy_of(self.oracle))
            expected = attempt(self.oracle, step)
            self.allowed = [before, observe(copy_of(self.oracle))]
            try:
                found = attempt(self.store, step)
            except TROUBLE:
                assert self.disk.crashed
                return False
            assert found == expected
            self.allowed = self.allowed[1:]
        return True

    def open_and_work(self):
        try:
            self.open()
        except TROUBLE:
            assert self.disk.crashed
            return False
        return self.work(STEP_COUNT)

    def lose_power(self):
        if self.store is not None:
            abandon(self.store)
            self.store = None
        self.disk = self.disk.crash()

    def check(self):
        """The store shows what it may; the oracle goes on from there."""
        seen = observe(self.store)
        assert seen in self.allowed
        if seen != observe(self.oracle):  # the crash took the last step back
            self.oracle = self.before
            assert seen == observe(self.oracle)

    def close(self):
        self.store.close()
        self.store = None


def call_count(seed, folder):
    run = Run(seed, folder)
    assert run.open_and_work()
    run.close()
    return run.disk.call_count


def crash_points(seed, folder):
    return range(1 + seed % STRIDE, call_count(seed, folder), STRIDE)


def crashed_at(seed, point, folder):
    run = Run(seed, folder)
    run.disk.crash_at = point
    if run.open_and_work():
        with contextlib.suppress(*TROUBLE):  # the crash point lies in the orderly end
            run.close()
        run.allowed = [observe(run.oracle)]
    run.lose_power()
    return run


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 1 + (SEEDS or 3)))
def test_a_crash_in_any_call_loses_nothing(seed, tmp_path):
    folder = tmp_path / "count"
    folder.mkdir()
    for point in crash_points(seed, folder):
        folder = tmp_path / "run"
        folder.mkdir()
        run = crashed_at(seed, point, folder)
        run.open()
        run.check()
        seen = observe(run.store)
        run.close()
        run.open()
        assert observe(run.store) == seen, f"crash point {point}"
        assert run.work(10)
        run.store.flush()
        assert observe(run.store) == observe(run.oracle)
        run.close()
        shutil.rmtree(folder)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(11, 11 + (SEEDS or 2)))
def test_a_crash_in_any_call_of_recovery_loses_nothing(seed, tmp_path):
    folder = tmp_path / "count"
    folder.mkdir()
    point = list(crash_points(seed, folder))[-8]
    for second in range(1, 200, 2):
        folder = tmp_path / "run"
        folder.mkdir()
        run = crashed_at(seed, point, folder)
        run.disk.crash_at = second
        try:
            run.open()
        except (*TROUBLE, OpenError):
            assert run.disk.crashed
        finished = not run.disk.crashed
        run.lose_power()
        run.open()
        run.check()
        run.close()
        shutil.rmtree(folder)
        if finished:
            break
    else:
        pytest.fail("recovery never finished")
