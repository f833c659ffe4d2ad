"""Power losses and faults in every call of a compaction, with other work between its steps.

The store in memory is the oracle, as in test_store_crash.py. Each crash point is one run: a store
of several segments with deleted streams and forks, a merge of all of them up to the crash,
recovery, comparison, a merge to its end, and comparison again; and ``verify`` finds nothing.
"""

import contextlib
import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import StorageError
from durastream.engine.memory_store import StreamStore
from durastream.engine.verify import Verification
from simulation import stores
from simulation.disk import PowerLoss
from simulation.stores import LIMITS, Clock, abandon, copy_of, new_disk, observe, open_store
from simulation.workload import Operation, Workload, attempt

SEEDS = int(os.environ.get("DURASTREAM_CRASH_SEEDS", "0"))
STRIDE = 1 if SEEDS else 3
TROUBLE = (StorageError, PowerLoss, OSError, lmdb.Error)
OPTIONS = replace(stores.OPTIONS, segment_count_max=2)
FLUSH, SWEEP = Operation("flush"), Operation("sweep")


class Run:
    """One history: work and flushes, then a compaction with work between its steps."""

    def __init__(self, seed, folder):
        self.disk = new_disk(seed)
        self.metadata = folder / "meta.lmdb"
        self.clock = Clock()
        self.oracle = StreamStore(limits=LIMITS, clock=self.clock)
        self.before = copy_of(self.oracle)
        self.workload = Workload(seed)
        self.allowed = []
        self.store = None
        self.open()

    def open(self):
        self.store = open_store(self.disk, self.metadata, self.clock, OPTIONS)

    def do(self, operation):
        """One operation on both. Raises: TROUBLE, of the store's disk."""
        self.clock.advance(1)
        self.before = copy_of(self.oracle)
        before = observe(copy_of(self.oracle))
        expected = attempt(self.oracle, operation)
        self.allowed = [before, observe(copy_of(self.oracle))]
        assert attempt(self.store, operation) == expected
        self.allowed = self.allowed[1:]

    def work(self, count):
        for _ in range(count):
            self.do(self.workload.step(copy_of(self.oracle)))

    def fill(self):
        for _ in range(4):
            self.work(12)
            self.do(SWEEP)
            self.do(FLUSH)
        assert self.store._engine.segments

    def compact(self):
        """Merge everything, with operations between any two steps, so that merges are nested."""
        compactor = self.store._maintenance.compactor
        compactor._begin(self.store._engine.segments[::-1])
        flushes = 4
        while compactor.is_working:
            compactor.step()
            self.work(1)
            if flushes:
                self.do(FLUSH)
                flushes -= 1

    def lose_power(self):
        abandon(self.store)
        self.store = None
        self.disk = self.disk.crash()

    def check(self):
        seen = observe(self.store)
        assert seen in self.allowed
        if seen != observe(self.oracle):  # the crash took the last operation back
            self.oracle = self.before
            assert seen == observe(self.oracle)

    def check_to_the_end(self):
        """Merge once more, close, verify, open: everything is still there."""
        self.store.compact(everything=True)
        assert len(self.store._engine.segments) <= 2
        assert observe(self.store) == observe(self.oracle)
        self.work(5)
        self.store.close()
        verify(self.disk, self.metadata)
        assert leftover_files(self.disk) == self.store._engine.listed.keys()
        self.open()
        assert observe(self.store) == observe(self.oracle)
        self.store.close()


def verify(disk, metadata):
    verification = Verification(Path("/data"), DelegatedDisk(disk), metadata)
    for _ in verification.run():
        pass
    assert [found for found in verification.report.findings if found.code != "foreign-file"] == []


def leftover_files(disk):
    return {int(Path(name).stem) for name in disk.files() if name.startswith("/data/segments/")}


def calls_of_a_compaction(seed, folder):
    run = Run(seed, folder)
    run.fill()
    before = run.disk.call_count
    run.compact()
    calls = range(before + 1, run.disk.call_count + 1)
    run.check_to_the_end()
    return calls


def fresh(folder):
    folder.mkdir()
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 1 + (SEEDS or 4)))
def test_a_crash_in_any_call_of_a_compaction_loses_nothing(seed, tmp_path):
    calls = calls_of_a_compaction(seed, fresh(tmp_path / "count"))
    for call in calls[seed % STRIDE :: STRIDE]:
        run = Run(seed, fresh(tmp_path / "run"))
        run.fill()
        run.disk.crash_at = call
        with contextlib.suppress(*TROUBLE):
            run.compact()
        assert run.disk.crashed
        run.lose_power()
        run.open()
        run.check()
        run.check_to_the_end()
        shutil.rmtree(tmp_path / "run")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, "short"])
def test_after_an_error_in_any_call_it_is_done_again(fault, tmp_path):
    seed = 5
    calls = calls_of_a_compaction(seed, fresh(tmp_path / "count"))
    for call in calls[:: 2 * STRIDE]:
        run = Run(seed, fresh(tmp_path / "run"))
        run.fill()
        run.disk.faults[call] = fault
        try:
            run.compact()
        except TROUBLE:
            assert run.disk.met
            if run.store._engine.log.failure is not None:
                run.lose_power()
                run.open()
        run.check()
        run.check_to_the_end()
        shutil.rmtree(tmp_path / "run")
