"""Whatever a power loss leaves is no damage to `verify`, before recovery and after it.

And it changes nothing: the simulated disk would count the call.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import lmdb
import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import StorageError, UnknownFormat
from durastream.engine.memory_store import StreamStore
from durastream.engine.verify import Verification
from simulation.disk import PowerLoss
from simulation.stores import LIMITS, Clock, abandon, new_disk, open_store
from simulation.workload import Workload, attempt

TROUBLE = (StorageError, PowerLoss, OSError, lmdb.Error)
STEP_COUNT = 40
STRIDE = 5


def used(seed, folder, crash_at=None):
    """A disk on which a store worked until the power went off, or to its end."""
    disk, clock = new_disk(seed), Clock()
    disk.crash_at = crash_at
    oracle, workload, store = StreamStore(limits=LIMITS, clock=clock), Workload(seed), None
    with contextlib.suppress(*TROUBLE):
        store = open_store(disk, folder / "meta.lmdb", clock)
        for _ in range(STEP_COUNT):
            clock.advance(1)
            step = workload.step(oracle)
            attempt(oracle, step)
            attempt(store, step)
        store.close()
        store = None
    if store is not None:
        abandon(store)
    return disk, clock


def verify(disk, folder):
    before = disk.files()
    verification = Verification(Path("/data"), DelegatedDisk(disk), folder / "meta.lmdb")
    for _ in verification.run():
        pass
    assert disk.files() == before
    return verification.report.findings


@pytest.mark.parametrize("seed", [3, 4])
def test_what_a_power_loss_leaves_is_no_damage(seed, tmp_path):
    folder = tmp_path / "whole"
    folder.mkdir()
    disk, _ = used(seed, folder)
    assert verify(disk, folder) == []
    looked = 0
    for point in range(1 + seed, disk.call_count, STRIDE):
        folder = tmp_path / "run"
        folder.mkdir()
        disk, clock = used(seed, folder, point)
        disk = disk.crash()
        with contextlib.suppress(UnknownFormat):  # it was not even named yet
            found = verify(disk, folder)
            assert [str(finding) for finding in found if finding.severity == "damage"] == []
            looked += 1
        open_store(disk, folder / "meta.lmdb", clock).close()
        assert verify(disk, folder) == []
        shutil.rmtree(folder)
    assert looked > 20
