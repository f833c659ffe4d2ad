"""A log that lacks space or descriptors for its next file: it waits, loses nothing, and goes on."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.errors import LogFailed, LogFull
from durastream._native.log import Log
from simulation.disk import SimulatedDisk
from simulation.logs import FILE_SIZE, PAGE, Replay, Writer, new_disk, open_log, small_log
from support.segments import WatchedDisk

SHORTAGES = [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM]


def filled() -> tuple[SimulatedDisk, Log, Writer]:
    """A log whose file has no room for ten more pages; there is no spare."""
    target = new_disk()
    log, _, _ = open_log(target)
    writer = Writer(log)
    while log.wal_size + 4 * PAGE <= FILE_SIZE:
        writer.commit(1, bytes(6000))
    return target, log, writer


@pytest.mark.parametrize("shortage", SHORTAGES)
@pytest.mark.parametrize("call", [1, 2])  # open and allocate
def test_what_was_taken_waits_and_becomes_durable_later(shortage: int, call: int) -> None:
    target, log, writer = filled()
    durable = log.durable_lsn
    target.faults[target.call_count + call] = shortage
    lsn = writer.append(1, b"a" * 10_000)
    assert not log.commit_step()
    assert (log.failure, log.stall, log.durable_lsn) == (None, shortage, durable)
    assert log.commit_step()
    assert (log.stall, log.durable_lsn) == (0, lsn)
    writer.commit(1, b"b" * 10_000)
    _, recovery, replay = open_log(target.crash())
    assert not recovery.damage
    assert replay.data(1).endswith(b"a" * 10_000 + b"b" * 10_000)


def test_a_stalled_log_takes_nothing_more() -> None:
    target, log, writer = filled()
    target.faults[target.call_count + 2] = errno.ENOSPC
    writer.commit(1, bytes(10_000))
    staged = log.staged_lsn
    with pytest.raises(LogFull, match="No space left on device"):
        writer.append(1, b"x")
    assert log.staged_lsn == staged


def test_a_stall_gives_back_the_space_that_it_got() -> None:
    target, _, writer = filled()
    target.faults[target.call_count + 2] = errno.ENOSPC
    writer.commit(1, bytes(10_000))
    assert [name for name in target.files() if "next" in name] == []


def test_a_stall_keeps_a_ready_spare() -> None:
    target, log, writer = filled()
    while log.prepare_spare_step():
        pass
    # A file that was not filled is left for the spare at once: the next call opens it.
    target.faults[target.call_count + 1] = errno.EMFILE
    lsn = writer.append(1, bytes(10_000))
    assert not log.commit_step()
    assert log.stall == errno.EMFILE
    assert log.commit_step()
    assert log.durable_lsn == lsn
    assert log.file_count == 2


def test_a_crash_while_stalled_loses_only_what_was_never_durable() -> None:
    target, log, writer = filled()
    durable = log.durable_lsn
    target.faults[target.call_count + 2] = errno.ENOSPC
    writer.commit(1, bytes(10_000))
    log, recovery, _ = open_log(target.crash())
    assert not recovery.damage
    assert recovery.last_lsn == durable
    assert Writer(log).commit(2, b"x") > durable


def test_other_trouble_after_a_stall_fails_the_log() -> None:
    target, log, writer = filled()
    target.faults[target.call_count + 2] = errno.ENOSPC
    lsn = writer.append(1, bytes(10_000))
    log.commit_step()
    target.faults[target.call_count + 2] = errno.EIO
    log.commit_step()
    assert log.failure is not None
    with pytest.raises(LogFailed):
        log.wait(lsn)


def test_an_unfinished_spare_is_discarded_and_a_ready_one_is_not() -> None:
    target = new_disk()
    log, _, _ = open_log(target, file_size=3 << 20)
    assert not log.discard_unfinished_spare()
    assert log.prepare_spare_step()
    assert "wal/filling.wal" in target.files()
    assert log.discard_unfinished_spare()
    assert "wal/filling.wal" not in target.files()
    while log.prepare_spare_step():
        pass
    assert not log.discard_unfinished_spare()
    assert "wal/spare.wal" in target.files()


def no_room(name: str, number: int) -> int:
    """For ``WatchedDisk.fail``: there is no space for another file of the log."""
    return errno.ENOSPC if name == "allocate" else 0


def enough_room(name: str, number: int) -> int:
    return 0


def test_the_committer_goes_on_by_itself_and_wakes_who_waits(tmp_path: Path) -> None:
    disk = WatchedDisk()
    log = small_log(DelegatedDisk(disk), str(tmp_path))
    log.recover(None, Replay())
    disk.fail = no_room
    thread = threading.Thread(target=log.run)
    thread.start()
    writer = Writer(log)
    try:
        lsn = 0
        for _ in range(4):
            lsn = writer.append(1, bytes(20_000))
        assert not log.wait(lsn, 0.2)
        assert log.stall == errno.ENOSPC
        disk.fail = enough_room
        assert log.wait(lsn, 5.0)
        assert not log.stall
    finally:
        log.stop()
        thread.join(10)
    assert not thread.is_alive()
    log.close()


def test_a_stalled_committer_ends_when_it_is_stopped(tmp_path: Path) -> None:
    disk = WatchedDisk()
    log = small_log(DelegatedDisk(disk), str(tmp_path))
    log.recover(None, Replay())
    disk.fail = no_room
    thread = threading.Thread(target=log.run)
    thread.start()
    writer = Writer(log)
    for _ in range(4):
        lsn = writer.append(1, bytes(20_000))
    log.wait(lsn, 0.1)
    started = time.monotonic()
    log.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - started < 5
    log.close()
