"""Power losses and faults in the calls of a backup, and of a restore.

A restore point is there whole or not at all, those before it stay whole, a directory that is
being restored is no store until it is complete; and the same command, given again, ends well.
"""

import os
from functools import partial
from pathlib import Path

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import StorageError
from durastream.engine.metadata import Metadata
from simulation.disk import SimulatedDisk
from simulation.stores import Clock, new_disk, open_store
from support.backups import MAP_SIZE, LocalSnapshot, back_up, check, restore

SOURCE, TARGET, RESTORED = Path("/data"), Path("/backups"), Path("/restored")
TROUBLE = (StorageError, OSError)


class Bench:
    """A store on a simulated disk that was backed up once and has changed since."""

    def __init__(self, folder):
        self.disk = new_disk(1)
        self.rows = folder / "meta.lmdb"
        store = open_store(self.disk, self.rows, Clock())
        store.create("/good", initial_data=b"first;")
        store.create("/bad", initial_data=os.urandom(20_000))
        store.create("/fork", forked_from="/bad", initial_data=b"own")
        store.append("/good", b"second;", producer_id="p", producer_epoch=1, producer_seq=0)
        store.close()
        self.first = self.back_up(self.disk).point.id
        store = open_store(self.disk, self.rows, Clock())
        store.append("/bad", b"since then")
        store.flush()
        store.append("/good", b"only in the log")
        store.close()

    def back_up(self, disk, **options):
        disk.advance(1)
        return back_up(
            SOURCE,
            TARGET,
            disk=DelegatedDisk(disk),
            rows=self.rows,
            snapshot=LocalSnapshot,
            **options,
        )

    def fork(self):
        """The same disk once more, with everything durable."""
        twin = self.disk.crash(seed=7)
        assert twin.files() == self.disk.files()
        return twin


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("rows"))
    for inode in made.disk.names.values():
        inode.sync()
    for path in sorted(made.disk.directories):
        made.disk.sync_directory(path)
    return made


def points_of(disk):
    report = check(TARGET, disk=DelegatedDisk(disk))
    assert not report.findings
    return [point.id for point in report.points]


def calls_of(bench, work):
    disk = bench.fork()
    before = disk.call_count
    work(disk)
    return disk.call_count - before


def test_a_power_loss_in_a_backup(bench):
    count = calls_of(bench, bench.back_up)
    outcomes = set()
    for number in range(1, count + 1):
        disk = bench.fork()
        disk.crash_at = disk.call_count + number
        with pytest.raises(TROUBLE):
            bench.back_up(disk)
        after = disk.crash(seed=number)
        points = points_of(after)
        assert bench.first in points
        outcomes.add(len(points))
        bench.back_up(after, keep=1)
        assert len(points_of(after)) == 1
    assert outcomes == {1, 2}, "the losses did not come at both sides of the last step"


def test_a_power_loss_while_an_old_restore_point_is_removed(bench):
    work = partial(bench.back_up, keep=1)
    count = calls_of(bench, work)
    for number in range(count - 20, count + 1):
        disk = bench.fork()
        disk.crash_at = disk.call_count + number
        with pytest.raises(TROUBLE):
            work(disk)
        for seed in range(4):
            assert points_of(disk.crash(seed))


def test_a_backup_that_is_done_is_durable(bench):
    disk = bench.fork()
    point = bench.back_up(disk).point.id
    for seed in range(8):
        assert point in points_of(disk.crash(seed))


def test_faults_in_a_backup(bench):
    count = calls_of(bench, bench.back_up)
    failed = 0
    for number in range(1, count + 1):
        disk = bench.fork()
        disk.rng.seed(number)
        disk.faults = {disk.call_count + number: "any"}
        try:
            bench.back_up(disk)
        except TROUBLE:
            failed += 1
        assert bench.first in points_of(disk)
        bench.back_up(disk, keep=1)
        assert len(points_of(disk)) == 1
    assert failed > count / 3


def expected_files(disk):
    found = {
        name: content for name, content in disk.files().items() if name.startswith(f"{RESTORED}/")
    }
    del found[f"{RESTORED}/FORMAT"]  # says when it was restored
    return found


def test_a_power_loss_in_a_restore(bench, tmp_path):
    def work(disk, name):
        restore(TARGET, RESTORED, bench.first, disk=DelegatedDisk(disk), rows=tmp_path / name)

    whole = bench.fork()
    work(whole, "whole")
    expected = expected_files(whole)
    count = calls_of(bench, lambda disk: work(disk, "count"))
    finished = 0
    for number in range(1, count + 1):
        disk = bench.fork()
        disk.crash_at = disk.call_count + number
        with pytest.raises(TROUBLE):
            work(disk, str(number))
        after = disk.crash(seed=number)
        if f"{RESTORED}/FORMAT" in after.files():
            finished += 1
        else:
            work(after, str(number))
        assert expected_files(after) == expected
        metadata = Metadata(tmp_path / str(number), map_size=MAP_SIZE)
        metadata.verify()
        assert metadata.recorded_sum("streams").count == 3
        metadata.close()
    assert 0 < finished < count


def test_the_simulated_disk_is_the_one_used(bench):
    disk = bench.fork()
    bench.back_up(disk)
    assert isinstance(disk, SimulatedDisk)
    assert len(points_of(disk)) == 2
    assert not TARGET.exists()
