"""Invariants that need a store stopped half-way: I4, I7 and I9 (docs/invariants.md).

A store without threads commits only when a test says so; between staging and the commit lies
everything that nobody may be shown.
"""

import asyncio
import errno
import mmap
import os
import resource
import threading

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import StoreFailed
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB, FileStoreOptions, Limits
from durastream.protocol.errors import StreamClosed, StreamExists, StreamNotFound
from simulation.stores import new_disk, open_store
from support.segments import WatchedDisk
from support.stores import ManualClock

A = "/v1/stream/a"
PRODUCER = {"producer_id": "p", "producer_epoch": 0, "producer_seq": 0}


def now():
    return 1_700_000_000_000


@pytest.fixture
def disk():
    return new_disk(1)


@pytest.fixture
def store(disk, tmp_path):
    opened = open_store(disk, tmp_path / "meta.lmdb", now)
    yield opened
    opened.close()


class Staged:
    """Operations decided and logged, but not committed."""

    def __init__(self, store):
        self.engine = store._engine
        self.store = store

    def append(self, data, **arguments):
        options = dict.fromkeys(
            ["content_type", "seq", "producer_id", "producer_epoch", "producer_seq"]
        )
        step = self.store.append_step(A, data, **(options | {"close": False} | arguments))
        return self.engine.attempt(step)

    def delete(self):
        return self.engine.attempt(lambda seen: self.engine.operations.delete(seen, A))

    def commit(self):
        assert self.engine.log.commit_step()
        self.engine.publish()


# -- I4: durability gates visibility -----------------------------------------------------------


def test_readers_are_not_shown_what_is_not_durable(store):
    store.create(A, initial_data=b"old")
    staged = Staged(store)
    staged.append(b"new", close=True)
    assert bytes(store.read(A)) == b"old"
    assert not store.read(A).closed
    assert store.get(A).current_offset.endswith("3")
    staged.commit()
    assert bytes(store.read(A)) == b"oldnew"
    assert store.read(A).closed


def test_a_deletion_and_a_creation_show_when_they_are_durable(store):
    store.create(A, initial_data=b"old")
    staged = Staged(store)
    staged.delete()
    assert bytes(store.read(A)) == b"old"
    assert store.list() == [A]
    staged.commit()
    with pytest.raises(StreamNotFound):
        store.read(A)
    assert store.list() == []


@pytest.mark.parametrize("how", ["append", "delete"])
def test_a_stream_whose_time_is_over_but_for_what_is_under_way(disk, tmp_path, how):
    """What is visible has expired: neither it nor a 404 may be shown before the commit."""
    clock = ManualClock()
    with open_store(disk, tmp_path / "expiring.lmdb", clock) as store:
        store.create(A, initial_data=b"old", ttl_seconds=1)
        clock.advance(0.9)
        staged = Staged(store)
        if how == "append":
            staged.append(b"new")
        else:
            staged.delete()
        clock.advance(0.2)
        found = store.get(A)  # without threads it commits what it has to wait for
        assert store._engine.log.durable_lsn == store._engine.log.staged_lsn
        if how == "append":
            assert found.current_offset.endswith("6")
            assert bytes(store.read(A)) == b"oldnew"
        else:
            assert found is None


def test_a_parked_reader_is_woken_by_the_commit_not_by_the_append(store):
    store.create(A)
    woken = []

    class Waiter:
        cancelled = False

        def fire(self):
            woken.append(bytes(store._engine.catalog.bindings[A].reserved.tail.read(0, 3)[0]))

    result = store.read(A)
    waiter = Waiter()
    assert store._engine.attempt(lambda s: store._engine.park(s, A, result, waiter)).result()
    staged = Staged(store)
    staged.append(b"new")
    assert woken == []
    staged.commit()
    assert woken == [b"new"]


def test_answers_wait_for_what_their_decision_read(store):
    store.create(A)
    staged = Staged(store)
    original = staged.append(b"x", **PRODUCER)
    duplicate = staged.append(b"x", **PRODUCER)
    gap = staged.append(b"x", **(PRODUCER | {"producer_seq": 7}))
    closing = staged.append(b"y", close=True)
    refused = staged.append(b"z")
    durable = store._engine.log.durable_lsn
    assert durable < original.lsn < closing.lsn
    assert duplicate.lsn == gap.lsn == original.lsn
    assert duplicate.result().producer.status == "duplicate"
    assert refused.lsn == closing.lsn
    with pytest.raises(StreamClosed):
        refused.result()
    removal = staged.delete()
    gone = staged.append(b"z")
    assert gone.lsn == removal.lsn
    with pytest.raises(StreamNotFound):
        gone.result()
    staged.commit()


def test_a_conflict_waits_for_the_creation_it_met(store):
    def create(content_type):
        arguments = dict.fromkeys(
            [
                "ttl_seconds",
                "expires_at",
                "forked_from",
                "fork_offset",
                "fork_sub_offset",
                "retention_seconds",
                "retention_bytes",
            ]
        )
        step = store.create_step(
            A, content_type=content_type, initial_data=b"", closed=False, **arguments
        )
        return store._engine.attempt(step)

    store.get(A)  # brings the binding into memory
    first, second = create("text/plain"), create("text/html")
    assert second.lsn == first.lsn > store._engine.log.durable_lsn
    with pytest.raises(StreamExists):
        second.result()
    with pytest.raises(StreamNotFound):
        store.read(A)
    Staged(store).commit()
    assert store.has(A)


# -- I7: nothing is acknowledged after a failed sync -------------------------------------------


@pytest.mark.parametrize("fault", ["lost sync", errno.EIO], ids=str)
def test_after_a_failed_sync_nothing_is_acknowledged_until_reopened(disk, store, tmp_path, fault):
    store.create(A, initial_data=b"kept")
    store._engine.log.commit_step(idle=True)
    disk.faults[disk.call_count + 2] = fault  # the write succeeds, the sync fails
    with pytest.raises(StoreFailed, match="until the store is opened again"):
        store.append(A, b"lost", **PRODUCER)
    assert ("sync", disk.trace[-1][1]) == disk.trace[-1]
    calls = disk.call_count
    for write in (
        lambda: store.append(A, b"more"),
        lambda: store.create("/b"),
        lambda: store.delete(A),
        lambda: store.append(A, b"lost", **PRODUCER),  # not even a duplicate of it
    ):
        with pytest.raises(StoreFailed):
            write()
    assert bytes(store.read(A)) == b"kept"
    assert disk.call_count == calls, "a failed log was touched again"
    store.close()
    again = open_store(disk.crash(), tmp_path / "meta.lmdb", now)
    data = bytes(again.read(A))
    assert data in (b"kept", b"keptlost")
    retried = again.append(A, b"lost", **PRODUCER)
    assert retried.producer.status == ("duplicate" if data == b"keptlost" else "accepted")
    assert bytes(again.read(A)) == b"keptlost"
    again.close()


def test_a_failed_flush_takes_nothing_back_and_is_tried_again(disk, store):
    store.create(A, initial_data=b"x")
    disk.faults[disk.call_count + 3] = errno.EIO
    assert not store._maintenance.try_flush()
    store.append(A, b"y")
    assert store._maintenance.try_flush()
    assert bytes(store.read(A)) == b"xy"
    assert store._engine.checkpoint.lsn == store._engine.log.durable_lsn


# -- I9: the event loop never waits for a disk -------------------------------------------------


class ThreadWatch(WatchedDisk):
    """Notes which threads call the disk."""

    def __init__(self):
        super().__init__()
        self.threads = set()
        self.fail = self._note

    def _note(self, name, number):
        self.threads.add(threading.get_ident())
        return 0

    def wall_ms(self):
        return now()


OPTIONS = FileStoreOptions(
    wal_file_size=8 * MIB, flush_age=3600.0, streams_cached_max=0, lmdb_map_size=256 * MIB
)


def drop_from_page_cache(folder):
    for name in folder.iterdir():
        fd = os.open(name, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def major_faults():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


async def use_everything(store):
    aio = store.aio
    for number in range(20):
        path = f"/s{number}"
        result = await aio.read(path)
        assert result.size == 100_000
        await aio.append(path, b"x", producer_id="p", producer_epoch=0, producer_seq=0)
        await aio.read(path, result.next_offset)
        await aio.create(f"/f{number}", forked_from=path, fork_offset="0" * 16 + "_" + "0" * 16)
        await aio.get(path)
        await aio.delete(path)
    await aio.list()


def test_the_loop_never_calls_a_disk_nor_faults_on_one(tmp_path):
    limits = Limits(body_size_max=4 * MIB)
    with FileBackedStreamStore(tmp_path / "data", limits=limits, options=OPTIONS) as store:
        for number in range(20):
            store.create(f"/s{number}", initial_data=bytes(100_000))
    drop_from_page_cache(tmp_path / "data" / "segments")
    watch = ThreadWatch()
    store = FileBackedStreamStore(
        tmp_path / "data", limits=limits, options=OPTIONS, disk=DelegatedDisk(watch)
    )
    rows = store._engine.metadata
    for name in ("find", "row", "producer", "rows"):
        watched(rows, name, watch)
    watch.threads.clear()
    drop_from_page_cache(tmp_path / "data" / "segments")
    before = major_faults()
    asyncio.run(use_everything(store))
    faults = major_faults() - before
    assert threading.get_ident() not in watch.threads
    assert watch.threads, "nobody called the disk: the test saw nothing"
    store.close()
    assert faults == 0


def watched(rows, name, watch):
    method = getattr(rows, name)

    def call(*arguments):
        watch.threads.add(threading.get_ident())
        return method(*arguments)

    setattr(rows, name, call)


def test_a_page_that_is_not_resident_counts_as_a_major_fault(tmp_path):
    """The check above can fail: where mapping a dropped page faults, it is counted."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(4 * MIB))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapping:
        before = major_faults()
        assert mapping[3 * MIB] >= 0
        faults = major_faults() - before
    os.close(fd)
    on_memory = os.statvfs(tmp_path).f_fsid == 0  # a file system without a device never faults
    assert faults > 0 or on_memory
