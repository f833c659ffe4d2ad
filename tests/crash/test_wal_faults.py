"""Invariant I7: after a failed write or sync nothing is believed, the page cache least of all.

A sync that fails may leave pages marked clean that never reached the disk: read back they look
right, and the next sync "succeeds". So a store that is merely reopened must write again whatever
was not proven, and a power loss after that must not take back what was replayed.
"""

from __future__ import annotations

import errno

import pytest

from durastream._native.errors import LogFailed, LogFull
from durastream._native.wal_types import Checkpoint
from simulation.disk import Fault, SimulatedDisk
from simulation.logs import Writer, new_disk, open_log

DATA = [bytes([number + 1]) * (50, 4000, 9000)[number % 3] for number in range(15)]


def write_until_failure(target: SimulatedDisk, size: int = 0) -> tuple[int, int]:
    """Append and commit until the log fails or stalls; the last LSN acknowledged, and staged."""
    log, _, replay = open_log(target)
    writer, acknowledged = Writer(log, replay.tails), 0
    for data in DATA:
        try:
            lsn = writer.commit(1, data[size:])
            if log.stall:
                break
            log.wait(lsn)
            acknowledged = lsn
        except LogFailed:
            break
    staged = log.staged_lsn
    with pytest.raises((LogFailed, LogFull)):
        writer.commit(1, b"never")
    log.close()
    return acknowledged, staged


def calls_of(operations: set[str]) -> list[int]:
    """The calls of the undisturbed workload that do one of these."""
    target = new_disk()
    log, _, _ = open_log(target)
    opened = target.call_count
    writer = Writer(log)
    for data in DATA:
        writer.commit(1, data)
    trace = list(enumerate(target.trace, 1))
    return [call for call, (operation, _) in trace if operation in operations and call > opened]


@pytest.mark.parametrize("call", calls_of({"sync"}))
def test_a_sync_that_lost_its_data_and_then_succeeds(call: int) -> None:
    target = new_disk()
    target.faults[call] = "lost sync"
    acknowledged, staged = write_until_failure(target)
    # The process restarts, the machine does not: the page cache shows all of it.
    _, recovery, replay = open_log(target)
    assert recovery.damage == []
    assert acknowledged <= recovery.last_lsn <= staged
    # What it replayed it promised. Now the power goes.
    after = target.crash()
    _, again, replay_again = open_log(after)
    assert again.damage == []
    assert replay_again.records == replay.records
    assert replay.data(1) == b"".join(DATA[: recovery.last_lsn])


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", calls_of({"pwrite", "sync", "open", "allocate", "rename"}))
def test_any_failing_call_and_then_a_power_loss(call: int, fault: Fault) -> None:
    target = new_disk()
    target.faults[call] = fault
    acknowledged, staged = write_until_failure(target)
    for disk in (target.crash(1), target.crash(2)):
        _, recovery, replay = open_log(disk)
        assert recovery.damage == []
        assert acknowledged <= recovery.last_lsn <= staged
        assert replay.lsns == list(range(1, recovery.last_lsn + 1))


@pytest.mark.parametrize("call", calls_of({"pwrite"}))
def test_short_writes_are_finished(call: int) -> None:
    target = new_disk()
    target.faults[call] = "short"
    log, _, _ = open_log(target)
    writer = Writer(log)
    for data in DATA:
        writer.commit(1, data)
    assert log.failure is None
    assert log.durable_lsn == len(DATA)
    _, recovery, replay = open_log(target.crash())
    assert recovery.last_lsn == len(DATA)
    assert replay.data(1) == b"".join(DATA)


def test_a_recovery_that_fails_can_be_tried_again() -> None:
    """EIO or a full disk in each call of a recovery: an error, and nothing is lost."""
    for fault in (errno.EIO, errno.ENOSPC):
        failures = 0
        for call in range(1, 20):
            target = new_disk()
            log, _, _ = open_log(target)
            writer = Writer(log)
            for data in DATA:
                writer.commit(1, data)
            log.close()
            target.faults[target.call_count + call] = fault
            try:
                _, recovery, _ = open_log(target, Checkpoint(0, 1, 4096))
                failures += bool(recovery.damage)
            except OSError:
                failures += 1
            _, recovery, replay = open_log(target, Checkpoint(0, 1, 4096))
            assert recovery.damage == []
            assert replay.data(1) == b"".join(DATA)
        assert failures > 10
