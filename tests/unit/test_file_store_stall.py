"""The file store on a disk that is full: what is refused, what waits, what goes on by itself."""

import asyncio
import errno
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine import file_engine, file_store_aio
from durastream.engine.errors import StoreClosed, StoreFull, StoreStalled
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB
from support.segments import WatchedDisk
from support.stores import SMALL_LIMITS, SMALL_STORE, contents, crash

A, B = "/v1/stream/a", "/v1/stream/b"
BLOCK = bytes(MIB)


class FullDisk(WatchedDisk):
    """A disk without room for files of the log or segments, as long as ``is_full``."""

    is_full = False

    def _check(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def allocate(self, fd, position, size):
        self._check()
        return self.disk.allocate(fd, position, size)

    def pwrite(self, fd, data, position):
        if len(data) == MIB and not any(data):
            self._check()
        return super().pwrite(fd, data, position)

    def rename(self, old, new):
        if str(new).endswith(".seg"):
            self._check()
        return self.disk.rename(old, new)


@pytest.fixture
def disk():
    return FullDisk()


@pytest.fixture
def store(disk, tmp_path, monkeypatch):
    monkeypatch.setattr(file_engine, "STALL_PATIENCE", 0.3)
    monkeypatch.setattr(file_store_aio, "STALL_PATIENCE", 0.3)
    options = replace(SMALL_STORE, flush_size=1024 * MIB, backlog_size_max=1024 * MIB)
    with FileBackedStreamStore(
        tmp_path / "data", limits=SMALL_LIMITS, options=options, disk=DelegatedDisk(disk)
    ) as opened:
        yield opened
        disk.is_full = False


def stall(store, disk) -> bytes:
    """Fill the log's file, with housekeeping at rest; what is in stream A, durably."""
    store._maintenance.stop()  # it would refuse writes before the log stalls
    store.create(A)
    disk.is_full = True
    store._engine.log.discard_unfinished_spare()
    written = b""
    while True:
        try:
            store.append(A, BLOCK)
        except StoreStalled:
            return written
        written += BLOCK


def test_a_write_that_waits_for_space_is_told_that_the_store_closes(store, disk, monkeypatch):
    monkeypatch.setattr(file_engine, "STALL_PATIENCE", 60)
    store._maintenance.stop()
    store.create(A)
    disk.is_full = True
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write_until_told, store)
        while not store._engine.log.stall:
            time.sleep(0.01)
        store.close()
        assert isinstance(writing.exception(), StoreClosed)


def write_until_told(store):
    while True:
        store.append(A, BLOCK)


def test_a_write_that_was_taken_is_told_that_it_may_yet_come_about(store, disk):
    written = stall(store, disk)
    assert contents(store, A) == written
    with pytest.raises(StoreFull, match="the disk is full; free some space"):
        store.append(A, b"refused")
    disk.is_full = False
    store.append(A, b"z") if wait_until(lambda: not store._engine.log.stall) else None
    assert contents(store, A) == written + BLOCK + b"z"


def wait_until(true) -> bool:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return True


def test_waiting_coroutines_are_told_too_and_reads_go_on(store, disk):
    written = stall(store, disk)

    async def ask() -> None:
        assert (await store.aio.get(A)).current_offset
        # What depends on the write that waits must wait with it.
        with pytest.raises(StoreStalled, match="may yet come about"):
            await store.aio.get_producer_epoch(A, "p")
        assert (await store.aio.read(A)).size

    asyncio.run(ask())
    assert contents(store, A) == written


def test_coroutines_go_on_when_there_is_space_again(store, disk, monkeypatch):
    stall(store, disk)
    monkeypatch.setattr(file_store_aio, "STALL_PATIENCE", 30.0)

    async def ask() -> None:
        asyncio.get_running_loop().call_later(0.2, setattr, disk, "is_full", False)
        assert await store.aio.get_producer_epoch(A, "p") is None

    asyncio.run(asyncio.wait_for(ask(), 10))


def test_a_stalled_store_is_closed_and_has_all_that_was_acknowledged(store, disk, tmp_path):
    written = stall(store, disk)
    store.close()
    disk.is_full = False
    options = SMALL_STORE
    with FileBackedStreamStore(tmp_path / "data", limits=SMALL_LIMITS, options=options) as again:
        assert contents(again, A) in (written, written + BLOCK)
        again.append(A, b"y")


def test_deletions_are_taken_on_a_full_disk_and_appends_are_not(store, disk):
    store.create(A, initial_data=b"x")
    store.create(B, initial_data=b"y")
    disk.is_full = True
    store._engine.set_disk_full(True)
    with pytest.raises(StoreFull):
        store.append(A, b"z")
    with pytest.raises(StoreFull):
        store.create("/v1/stream/c")
    assert store.delete(B)
    assert store.get(B) is None
    assert contents(store, A) == b"x"


def test_housekeeping_tells_a_stall_once_and_ends_it(store, disk, caplog):
    caplog.set_level(logging.INFO)
    written = stall(store, disk)
    maintenance = store._maintenance
    for _ in range(3):
        maintenance.step()
    assert store._engine.disk_is_full
    disk.is_full = False
    wait_until(lambda: not store._engine.log.stall)
    maintenance._retry_at = 0.0
    maintenance.step()
    maintenance.step()
    assert not store._engine.disk_is_full
    store.append(A, b"z")
    assert contents(store, A) == written + BLOCK + b"z"
    said = [record.message for record in caplog.records if "beginning" in record.message]
    assert len(said) == 2


def test_opening_on_a_full_disk_gives_up_the_reserve(tmp_path):
    class Tight(WatchedDisk):
        """Has room for a file of the log once the reserve is gone."""

        def allocate(self, fd, position, size):
            if size == SMALL_STORE.wal_file_size and self.reserve.exists():
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.disk.allocate(fd, position, size)

    options = replace(SMALL_STORE, reserve_size=MIB)
    store = FileBackedStreamStore(tmp_path / "data", limits=SMALL_LIMITS, options=options)
    store.create(A, initial_data=b"x")
    crash(store)  # so that the log goes on in a new file
    disk = Tight()
    disk.reserve = tmp_path / "data" / "reserve"
    assert disk.reserve.exists()
    (tmp_path / "data" / "wal" / "spare.wal").unlink(missing_ok=True)
    with FileBackedStreamStore(
        tmp_path / "data", limits=SMALL_LIMITS, options=options, disk=DelegatedDisk(disk)
    ) as store:
        assert contents(store, A) == b"x"
        store.append(A, b"y")
