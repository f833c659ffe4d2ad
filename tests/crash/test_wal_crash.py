"""Invariants I1, I3 and I7: whatever call the power goes off in, what was acknowledged is there.

A scripted workload runs on a simulated disk; the power goes off in each of its calls in turn,
and again in each call of the recovery that follows. Acknowledged records must all be there,
once and in order; the others whole or not at all.
"""

from __future__ import annotations

from array import array

import pytest

from durastream._native.errors import LogFailed
from durastream._native.wal_types import Checkpoint
from simulation.disk import SimulatedDisk
from simulation.logs import Replay, Writer, new_disk, open_log


class Ledger:
    """What was staged and acknowledged, kept outside of the disk."""

    def __init__(self) -> None:
        self.staged: dict[int, tuple[int, bytes]] = {}  # lsn -> (stream id, data)
        self.durable_lsn = 0
        self.checkpoint: Checkpoint | None = None

    def check(self, replay: Replay, last_lsn: int, directory_size: int) -> None:
        floor = self.checkpoint.lsn if self.checkpoint else 0
        assert replay.damaged == []
        assert replay.lsns == [lsn for lsn in self.staged if floor < lsn <= last_lsn]
        assert last_lsn >= self.durable_lsn
        wanted: dict[int, bytes] = {}
        for lsn in replay.lsns:
            stream_id, data = self.staged[lsn]
            wanted[stream_id] = wanted.get(stream_id, b"") + data
        assert {stream_id: replay.data(stream_id) for stream_id in replay.tails} == wanted
        assert directory_size < 12


def payload(number: int) -> tuple[int, bytes]:
    size = (30, 700, 5000, 3, 12_000)[number % 5]
    return number % 3 + 1, bytes([number % 251]) * size


def workload(target: SimulatedDisk, ledger: Ledger) -> None:
    """Open, append in batches, prove, flush, roll, recycle. Ends early when the power goes."""
    log, recovery, replay = open_log(target, ledger.checkpoint)
    assert not recovery.damage
    writer = Writer(log, replay.tails)
    for number in range(24):
        stream_id, data = payload(number)
        sizes = array("I", [1, len(data) - 1]) if number % 4 == 0 else None
        try:
            lsn = writer.append(stream_id, data, sizes)
        except LogFailed:
            return
        ledger.staged[lsn] = (stream_id, data)
        if number % 3 == 0:
            log.commit_step()
        if number % 8 == 7:
            target.advance(1)
            log.commit_step(idle=True)
            log.commit_step(idle=True)
        ledger.durable_lsn = max(ledger.durable_lsn, log.durable_lsn)
        if number % 10 == 9 and not log.failure:
            ledger.checkpoint = log.durable_point()
            log.release(ledger.checkpoint)
        if number == 11:
            log.prepare_spare_step()
    log.commit_step()
    ledger.durable_lsn = log.durable_lsn
    log.close()


def run_until(crash_at: int | None, seed: int) -> tuple[SimulatedDisk, Ledger]:
    target, ledger = new_disk(seed), Ledger()
    target.crash_at = crash_at
    try:
        workload(target, ledger)
    except OSError:  # a power loss during recovery or release
        assert target.crashed
    return target, ledger


CALL_COUNT = run_until(None, 0)[0].call_count


def reopen(target: SimulatedDisk, ledger: Ledger) -> SimulatedDisk:
    log, recovery, replay = open_log(target, ledger.checkpoint)
    assert recovery.damage == []
    ledger.check(replay, recovery.last_lsn, len(target.files()))
    # LSNs that were cut off are not given out again, unless not a byte of them was found.
    lsn = log.stage(9, 99, 0, b"after")
    assert lsn > recovery.last_lsn
    if recovery.torn or recovery.proven_lsn < recovery.last_lsn:
        assert lsn > max(ledger.staged)
    log.commit_step()
    assert log.durable_lsn == lsn
    return target


@pytest.mark.parametrize("seed", range(4))
def test_power_loss_in_every_call(seed: int) -> None:
    for crash_at in range(1, CALL_COUNT + 1):
        target, ledger = run_until(crash_at, seed)
        after = target.crash()
        reopen(after, ledger)
        # And the recovered log itself is a log.
        _, recovery, replay = open_log(after.crash(), ledger.checkpoint)
        assert recovery.damage == []
        assert replay.records[-1][3] == b"after"


@pytest.mark.parametrize("seed", range(2))
def test_power_loss_in_every_call_of_the_recovery(seed: int) -> None:
    for crash_at in range(1, CALL_COUNT + 1, 5):
        target, ledger = run_until(crash_at, seed)
        image_seed = target.rng.getrandbits(32)
        again = 0
        while True:
            again += 1
            after = target.crash(image_seed)
            after.crash_at = again
            try:
                open_log(after, ledger.checkpoint)
            except OSError:
                reopen(after.crash(), ledger)
                continue
            after.crash_at = None
            break
        assert again > 5
