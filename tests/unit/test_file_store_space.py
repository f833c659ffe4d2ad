"""What the file store does when space ends: its reserve, refusals, and bodies that cannot fit."""

import errno

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import StoreFull
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB, Limits
from durastream.protocol.errors import TooLarge
from support.segments import WatchedDisk
from support.stores import SMALL_LIMITS, SMALL_STORE, contents

JSON = "application/json"
A = "/v1/stream/a"


def test_the_reserve_is_there_and_given_up_for_a_flush_on_a_full_disk(opener, tmp_path):
    store = opener(reserve_size=1 * MIB)
    reserve = tmp_path / "data" / "reserve"
    assert reserve.stat().st_blocks * 512 >= MIB
    store.create(A, initial_data=b"x")
    maintenance = store._maintenance
    flush, calls = maintenance.flush, []

    def full_once(*, clean=False):
        calls.append(reserve.exists())
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return flush(clean=clean)

    maintenance.flush = full_once
    assert maintenance.try_flush()
    assert calls == [True, False]
    assert contents(store, A) == b"x"


def test_writes_are_refused_while_the_log_cannot_grow_and_go_on_after(opener):
    store = opener()
    store.create(A, initial_data=b"x")
    store._engine.set_disk_full(True)
    with pytest.raises(StoreFull, match="free some space"):
        store.append(A, b"y")
    assert contents(store, A) == b"x"
    store._engine.set_disk_full(False)
    store.append(A, b"y")
    assert contents(store, A) == b"xy"


def test_a_body_that_no_log_file_could_hold_is_refused_on_opening(tmp_path):
    with pytest.raises(ValueError, match="body_size_max 8388608 does not fit"):
        FileBackedStreamStore(
            tmp_path / "data", limits=Limits(body_size_max=8 * MIB), options=SMALL_STORE
        )
    FileBackedStreamStore(tmp_path / "data", limits=SMALL_LIMITS, options=SMALL_STORE).close()


def test_many_tiny_messages_that_do_not_fit_are_too_large_not_a_failure(opener):
    store = opener()
    store.create(A, content_type=JSON)
    with pytest.raises(TooLarge, match="in several appends"):
        store.append(A, b"[" + b"1000," * 990_000 + b"1]")
    assert store.append(A, b"1").appended


class FullDisk(WatchedDisk):
    """A disk without room for new files of the log, as long as ``full``."""

    full = False

    def pwrite(self, fd, data, position):
        if self.full and len(data) == MIB and not any(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().pwrite(fd, data, position)


def test_writes_go_on_by_themselves_once_the_log_can_grow_again(tmp_path, caplog):
    disk = FullDisk()
    disk.full = True
    with FileBackedStreamStore(
        tmp_path / "data",
        limits=SMALL_LIMITS,
        options=SMALL_STORE,
        disk=DelegatedDisk(disk),
        threads=False,  # the steps are the test's alone
    ) as store:
        store.create(A, initial_data=b"x")
        maintenance = store._maintenance
        maintenance.step()
        maintenance.step()
        with pytest.raises(StoreFull):
            store.append(A, b"y")
        assert contents(store, A) == b"x"
        disk.full = False
        maintenance.step()
        store.append(A, b"y")
        assert contents(store, A) == b"xy"
    said = [record.message for record in caplog.records if "next file" in record.message]
    assert len(said) == 2, "the start of trouble and its end, once each"
