"""The log while it is open: staging, group commit, flushing, failing."""

from __future__ import annotations

import errno
import os
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from durastream._native.disk import PosixDisk
from durastream._native.errors import LogFailed, LogFull, RecordTooLarge
from durastream._native.log import Log
from durastream._native.tail import Tail
from durastream._native.wal_types import Checkpoint
from simulation.disk import SimulatedDisk
from simulation.logs import FILE_SIZE, PAGE, Replay, Writer, new_disk, open_log, small_log


@contextmanager
def running(log: Log) -> Iterator[None]:
    thread = threading.Thread(target=log.run)
    thread.start()
    try:
        yield
    finally:
        log.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def disk_log(tmp_path: Path) -> Iterator[Log]:
    log = small_log(PosixDisk(), str(tmp_path), file_size=1 << 20)
    log.recover(None, Replay())
    yield log
    log.close()


# -- staging ------------------------------------------------------------------------------


def test_a_record_is_durable_after_the_commit_and_not_before() -> None:
    log, _, _ = open_log(new_disk())
    assert (log.next_lsn, log.staged_lsn, log.durable_lsn) == (1, 0, 0)
    lsn = log.stage(7, 1, 0, b"meta", b"data")
    assert (lsn, log.next_lsn, log.staged_lsn, log.durable_lsn) == (1, 2, 1, 0)
    assert not log.wait(lsn, 0.0)
    assert log.commit_step()
    assert log.durable_lsn == 1
    assert log.wait(lsn)
    assert not log.commit_step()


def test_an_acknowledgement_follows_write_and_sync() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    lsn = log.stage(7, 1, 0, b"", b"data")
    target.trace.clear()
    log.commit_step()
    assert log.wait(lsn)
    assert [operation for operation, _ in target.trace] == ["pwrite", "sync"]


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_bytes_like_data(wrap: type) -> None:
    log, _, _ = open_log(new_disk())
    tail = Tail(0)
    log.stage(1, 1, 0, b"", wrap(b"abcdef"), array("I", [2, 4]), tail)
    assert tail.read(0, 6) == [b"abcdef"]
    assert [tail.boundary(position) for position in range(7)] == [2, 0, 1, 0, 0, 0, 2]


def refused_calls(log: Log, tail: Tail) -> list[tuple[type[Exception], str, object]]:
    stage = log.stage
    return [
        (ValueError, "kind 0", lambda: stage(0, 1, 0, b"", b"x", None, tail)),
        (ValueError, "kind 256", lambda: stage(256, 1, 0, b"", b"x", None, tail)),
        (ValueError, "tail ends at 0", lambda: stage(1, 1, 5, b"", b"x", None, tail)),
        (ValueError, "3 bytes in all", lambda: stage(1, 1, 0, b"", b"x", array("I", [3]), tail)),
        (ValueError, "1 is empty", lambda: stage(1, 1, 0, b"", b"x", array("I", [1, 0]), tail)),
        (ValueError, "32 bits", lambda: stage(1, 1, 0, b"", b"x" * 8, array("Q", [8]), tail)),
        (ValueError, "32 bits", lambda: stage(1, 1, 0, b"", b"x" * 4, array("i", [4]), tail)),
        (TypeError, "bytes-like", lambda: stage(1, 1, 0, b"", "text", None, tail)),
        (RecordTooLarge, "does not fit", lambda: stage(1, 1, 0, b"", bytes(FILE_SIZE), None, tail)),
    ]


def test_a_refused_record_changes_nothing() -> None:
    log, _, _ = open_log(new_disk())
    tail = Tail(0)
    for error, match, call in refused_calls(log, tail):
        with pytest.raises(error, match=match):
            call()  # type: ignore[operator]
    assert (log.next_lsn, log.unflushed_size, tail.size) == (1, 0, 0)
    assert not log.commit_step()


def test_the_largest_record_fits_and_is_read_back() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    size = log.record_size_max - log.record_size(2, 0)
    writer = Writer(log)
    assert log.record_size(2, size) == log.record_size_max
    writer.commit(1, b"z" * size)
    assert log.durable_lsn == 1
    _, _, replay = open_log(target.crash())
    assert replay.data(1) == b"z" * size


def test_sizes_that_do_not_fit_each_other() -> None:
    disk = PosixDisk()
    with pytest.raises(ValueError, match=r"slab_size 99999999 .* 65536 bytes"):
        small_log(disk, slab_size=99_999_999)
    with pytest.raises(ValueError, match="file_size 5000"):
        small_log(disk, file_size=5000)
    with pytest.raises(ValueError, match="16 bytes"):
        Log(
            disk, "x", b"short", file_size=1 << 20, wal_size_max=1, slab_size=4096,
            backlog_size_max=1, idle_watermark_delay=1,
        )  # fmt: skip


def test_a_log_that_is_not_open_refuses() -> None:
    log = small_log(PosixDisk())
    with pytest.raises(ValueError, match="not open"):
        log.stage(1, 1, 0, b"")
    with pytest.raises(ValueError, match="not open"):
        log.run()
    log, _, _ = open_log(new_disk())
    with pytest.raises(ValueError, match="once"):
        log.recover(None, Replay())
    log.close()
    with pytest.raises(ValueError, match="not open"):
        log.stage(1, 1, 0, b"")


# -- bounds -------------------------------------------------------------------------------


def test_the_backlog_is_bounded() -> None:
    log, _, _ = open_log(new_disk(), backlog_size_max=3000)
    writer = Writer(log)
    writer.commit(1, bytes(2000))
    with pytest.raises(LogFull, match="3000 may"):
        writer.append(1, bytes(2000))
    assert writer.tails[1].size == 2000
    log.release(log.durable_point())
    writer.append(1, bytes(2000))


def test_the_files_are_bounded() -> None:
    log, _, _ = open_log(new_disk(), wal_size_max=2 * FILE_SIZE)
    writer = Writer(log)
    while log.wal_size + 3 * PAGE <= 2 * FILE_SIZE:
        writer.commit(1, bytes(6000))
    with pytest.raises(LogFull, match="wal_size_max"):
        writer.append(1, bytes(6000))
    assert log.wal_size <= 2 * FILE_SIZE + 4 * PAGE
    log.release(log.durable_point())
    writer.commit(1, bytes(6000))
    assert log.durable_lsn == log.staged_lsn


# -- group commit -------------------------------------------------------------------------


def test_writers_share_syncs(disk_log: Log) -> None:
    log, rounds, writers = disk_log, 20, 16
    barrier = threading.Barrier(writers)

    def write(stream_id: int) -> None:
        writer = Writer(log)
        for number in range(rounds):
            barrier.wait(10)
            assert log.wait(writer.append(stream_id, b"%d" % number), 10)

    with running(log):
        threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert log.durable_lsn == rounds * writers
    assert log.syncs <= rounds * writers // 2


def test_run_proves_the_last_frame_after_a_pause(disk_log: Log) -> None:
    log = disk_log
    with running(log):
        log.wait(log.stage(1, 1, 0, b"", b"x"))
        commits = log.commits
        deadline = time.monotonic() + 5
        while log.commits == commits and time.monotonic() < deadline:
            time.sleep(0.005)
        assert log.commits == commits + 1
        time.sleep(0.05)
        assert log.commits == commits + 1  # once is enough
    assert log.commits == commits + 1


def test_stop_commits_and_proves_what_is_staged(disk_log: Log) -> None:
    log = disk_log
    writer = Writer(log)
    for number in range(100):
        writer.append(1, bytes(number + 1))
    log.stop()
    log.run()
    assert log.durable_lsn == 100
    log.close()
    again = small_log(PosixDisk(), log.directory, file_size=1 << 20)
    recovery = again.recover(None, Replay())
    assert (recovery.last_lsn, recovery.proven_lsn, recovery.torn) == (100, 100, [])
    assert again.next_lsn == 101
    again.close()


def test_one_committer_at_a_time(disk_log: Log) -> None:
    log = disk_log
    with running(log):
        log.wait(log.stage(1, 1, 0, b""))
        for call in (log.commit_step, log.run, log.close):
            with pytest.raises(RuntimeError, match=r"run\(\)"):
                call()


def test_wake_descriptors_are_written_once_per_commit() -> None:
    log, _, _ = open_log(new_disk())
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    log.add_wake_fd(write_end)
    for _ in range(3):
        log.stage(1, 1, 0, b"")
    log.commit_step()
    assert len(os.read(read_end, 100)) == 8
    log.remove_wake_fd(write_end)
    log.stage(1, 1, 0, b"")
    log.commit_step()
    with pytest.raises(BlockingIOError):
        os.read(read_end, 100)
    os.close(read_end)
    os.close(write_end)


def test_the_idle_watermark_waits_for_its_delay() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    log.stage(1, 1, 0, b"")
    log.commit_step()
    assert not log.commit_step(idle=True)
    target.advance(0.02)
    assert not log.commit_step()
    assert log.commit_step(idle=True)
    assert not log.commit_step(idle=True)


# -- failing (I7) -------------------------------------------------------------------------


def failing_call(target: SimulatedDisk, operation: str) -> int:
    """The number of the call in which the next commit does ``operation``."""
    return target.call_count + {"pwrite": 1, "sync": 2}[operation]


@pytest.mark.parametrize(("operation", "what"), [("pwrite", "writing"), ("sync", "syncing")])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_write_or_sync_ends_all_acknowledgements(
    operation: str, what: str, code: int
) -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    writer = Writer(log)
    first = writer.commit(1, b"first")
    target.faults[failing_call(target, operation)] = code
    second = writer.append(1, b"second")
    read_end, write_end = os.pipe()
    log.add_wake_fd(write_end)
    assert log.commit_step()
    assert len(os.read(read_end, 8)) == 8
    assert log.failure is not None
    assert log.failure[0] == code
    assert what in log.failure[1]
    assert log.wait(first)
    with pytest.raises(LogFailed, match="reopen"):
        log.wait(second)
    # The disk works again: that must not matter any more.
    assert not log.commit_step()
    with pytest.raises(LogFailed, match="reopen"):
        writer.append(1, b"third")
    assert log.durable_lsn == first
    assert b"".join(writer.tails[1].read(0, 11)) == b"firstsecond"
    os.close(read_end)
    os.close(write_end)


def test_what_was_queued_behind_a_failed_frame_is_not_written() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    for _ in range(3):
        log.stage(1, 1, 0, b"", bytes(20_000))  # a frame each, or nearly
    target.faults[failing_call(target, "pwrite")] = errno.EIO
    log.commit_step()
    count = target.call_count
    assert not log.commit_step(idle=True)
    log.stop()
    log.run()
    assert (target.call_count, log.durable_lsn) == (count, 0)


def test_waiting_threads_learn_of_a_failure() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    target.faults[failing_call(target, "sync")] = errno.EIO
    caught: list[BaseException] = []

    def wait(lsn: int) -> None:
        try:
            log.wait(lsn, 10)
        except LogFailed as error:
            caught.append(error)

    threads = [threading.Thread(target=wait, args=(log.stage(1, 1, 0, b""),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    with running(log):
        for thread in threads:
            thread.join(10)
    assert len(caught) == 4


def test_closing_ends_waits() -> None:
    log, _, _ = open_log(new_disk())
    lsn = log.stage(1, 1, 0, b"")
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            log.wait(lsn, 10)
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    log.close()
    thread.join(5)
    assert "not open" in str(caught)


def test_a_failed_roll_fails_the_log() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    writer = Writer(log)
    while log.wal_size + 4 * PAGE <= FILE_SIZE:
        writer.commit(1, bytes(6000))
    target.faults[target.call_count + 2] = errno.EIO
    lsn = writer.commit(1, bytes(10_000))
    assert target.trace[-1][0] == "close"
    assert log.failure is not None
    assert "allocating" in log.failure[1]
    with pytest.raises(LogFailed):
        log.wait(lsn)


# -- flushing -----------------------------------------------------------------------------


def test_collect_gives_the_records_of_a_range() -> None:
    log, _, _ = open_log(new_disk())
    writer = Writer(log)
    for number in range(50):
        writer.append(number % 3, bytes(500))
    while log.commit_step():
        pass
    log.stage(1, 1, 0, b"not durable")
    assert log.collect(0, 50).count == 50
    assert log.collect(10, 20).count == 10
    assert log.collect(20, 20).count == 0
    with pytest.raises(ValueError, match="not durable"):
        log.collect(0, 51)


def test_release_forgets_memory_and_files() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    writer = Writer(log)
    for _ in range(30):
        writer.commit(1, bytes(6000))
    point = log.durable_point()
    writer.commit(1, bytes(6000))
    assert log.file_count > 2
    log.release(point)
    assert log.file_count == 1
    assert log.unflushed_size < 3 * 6200
    assert log.collect(point.lsn, log.durable_lsn).count == 1
    assert len([name for name in target.files() if name.endswith(".wal")]) == 1
    with pytest.raises(ValueError, match="not durable"):
        log.release(Checkpoint(10**6, point.file_sequence, point.position))


def test_a_spare_is_filled_in_slices_then_used_and_recycled() -> None:
    target = new_disk()
    options = {"file_size": (2 << 20) + PAGE}
    log, _, _ = open_log(target, **options)
    assert [log.prepare_spare_step() for _ in range(4)] == [True, True, False, False]
    assert len(target.files()["wal/spare.wal"]) == options["file_size"]
    writer = Writer(log)
    writer.commit(1, b"x")  # leaves the first file, whose blocks were never written
    assert (log.file_count, "wal/spare.wal" in target.files()) == (2, False)
    log.release(log.durable_point())
    assert sorted(target.files()) == [f"wal/{2:020d}.wal"]
    assert log.prepare_spare_step()
    while log.prepare_spare_step():
        pass
    for _ in range(450):
        writer.commit(1, bytes(5000))
    assert log.file_count == 2
    log.release(log.durable_point())
    assert sorted(target.files()) == [f"wal/{3:020d}.wal", "wal/spare.wal"]
    log.close()
    log, recovery, _ = open_log(target.crash(), log.durable_point(), **options)
    assert recovery.damage == []


def test_a_recycled_file_takes_the_place_of_one_in_the_making() -> None:
    target = new_disk()
    log, _, _ = open_log(target, file_size=(2 << 20) + PAGE)
    while log.prepare_spare_step():
        pass
    writer = Writer(log)
    writer.commit(1, b"x")
    assert log.prepare_spare_step()
    assert "wal/filling.wal" in target.files()
    while log.file_count < 3:
        writer.commit(1, bytes(100_000))
    log.release(log.durable_point())
    assert sorted(target.files()) == [f"wal/{3:020d}.wal", "wal/spare.wal"]
    assert len(target.files()["wal/spare.wal"]) == (2 << 20) + PAGE


def test_a_full_disk_does_not_harm_while_the_file_lasts() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    target.faults[target.call_count + 2] = errno.ENOSPC
    with pytest.raises(OSError, match=r"filling\.wal"):
        log.prepare_spare_step()
    assert log.failure is None
    assert Writer(log).commit(1, b"x") == log.durable_lsn
    assert not log.prepare_spare_step()
    assert "wal/spare.wal" in target.files()
