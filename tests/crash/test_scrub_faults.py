"""The scrub on a simulated disk: stepped, cut short by power losses, met by failing reads."""

from __future__ import annotations

import contextlib
import errno

import pytest

from durastream.engine.errors import StreamQuarantined
from simulation.disk import PowerLoss
from simulation.stores import Clock, abandon, new_disk, observe, open_store

MARK = b"the bytes that will be damaged"
SEGMENT = f"/data/segments/{1:020d}.seg"


def new_store(folder, seed=0):
    folder.mkdir(exist_ok=True)
    disk, clock = new_disk(seed), Clock()
    store = open_store(disk, folder / "meta.lmdb", clock)
    store.create("/a", initial_data=MARK)
    store.create("/b", content_type="application/json", initial_data=b"[1,2]")
    store.create("/c", forked_from="/b")
    store._maintenance.flush()
    return disk, store, clock


def scrub(store):
    while store.scrub.step() is not None:
        pass


def rot(disk):
    disk.overwrite(SEGMENT, disk.files()[SEGMENT].index(MARK), b"T")


def calls_of_a_round(folder, *, damaged):
    disk, store, _ = new_store(folder)
    if damaged:
        rot(disk)
    before = disk.call_count
    scrub(store)
    abandon(store)
    return disk.call_count - before


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
def test_a_crash_in_any_call_of_a_scrub_loses_nothing(tmp_path, damaged):
    count = calls_of_a_round(tmp_path / "first", damaged=damaged)
    assert count >= 10
    for number in range(1, count + 1):
        folder = tmp_path / str(number)
        disk, store, clock = new_store(folder, seed=number)
        before = observe(store)
        if damaged:
            rot(disk)
        disk.crash_at = disk.call_count + number
        with contextlib.suppress(PowerLoss):
            scrub(store)
        abandon(store)
        disk = disk.crash()
        store = open_store(disk, folder / "meta.lmdb", clock)
        scrub(store)
        if damaged:
            with pytest.raises(StreamQuarantined):
                store.append("/a", b"more")
            assert [found.path for found in store.scrub.state.findings] == ["/a"]
        else:
            assert observe(store) == before
        store.append("/b", b"3")
        assert not store.read_only
        abandon(store)


def test_a_read_that_fails_is_told_and_puts_nobody_under_quarantine(tmp_path):
    count = calls_of_a_round(tmp_path / "first", damaged=False)
    told = 0
    for number in range(1, count + 1):
        disk, store, _ = new_store(tmp_path / str(number), seed=number)
        before = observe(store)
        disk.faults = {disk.call_count + number: errno.EIO}
        scrub(store)
        told += store.scrub.state.finding_count
        assert all("cannot be read" in found.what for found in store.scrub.state.findings)
        scrub(store)
        assert observe(store) == before
        store.append("/a", b"more")
        abandon(store)
    assert told >= count // 2


def test_too_few_descriptors_are_no_damage(tmp_path):
    disk, store, _ = new_store(tmp_path)
    disk.faults = {disk.call_count + 1: errno.EMFILE}
    scrub(store)
    assert disk.met == [("open", errno.EMFILE)]
    assert store.scrub.state.finding_count == 0
    abandon(store)
