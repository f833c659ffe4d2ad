"""Recovery: what is torn is cut, what is damaged is blamed, and nothing is made up (I6)."""

from __future__ import annotations

import errno

import pytest

from durastream._native.wal_types import Checkpoint, Recovery
from simulation.disk import SimulatedDisk
from simulation.logs import (
    FILE_SIZE,
    PAGE,
    Replay,
    Writer,
    flip,
    frame_at,
    new_disk,
    open_log,
    wal_path,
)

LSN_JUMP = 1 << 24
RECORD_HEADER = 64


def written(frames: int, size: int = 100, target: SimulatedDisk | None = None) -> SimulatedDisk:
    """A log whose first file holds one frame a record; it was left without a word."""
    target = target or new_disk()
    log, _, _ = open_log(target)
    writer = Writer(log)
    for number in range(frames):
        writer.commit(number % 2 + 1, bytes([number + 1]) * size)
    log.close()
    return target


def recover(
    target: SimulatedDisk, checkpoint: Checkpoint | None = None
) -> tuple[Recovery, Replay, int]:
    log, recovery, replay = open_log(target, checkpoint)
    return recovery, replay, log.next_lsn


def position_of(frame: int) -> int:
    """Where the n-th frame of ``written`` starts, from 1; each fits on a page."""
    return frame * PAGE


# -- clean and unclean ends ---------------------------------------------------------------


def test_an_empty_directory_is_a_new_log() -> None:
    target = new_disk()
    recovery, replay, next_lsn = recover(target)
    assert recovery == Recovery(0, 0, 0, [], [], [])
    assert (replay.records, next_lsn) == ([], 1)
    assert list(target.files()) == [wal_path(1)]


def test_opening_again_and_again_does_not_grow_the_directory() -> None:
    target = written(3)
    counts = set()
    for _ in range(6):
        _, replay, _ = recover(target)
        assert replay.lsns == [1, 2, 3]
        counts.add(len(target.files()))
    assert counts == {1}


def test_records_come_back_as_they_were_staged() -> None:
    recovery, replay, _ = recover(written(5))
    assert replay.records == [(lsn, 1, 2 - lsn % 2, b"m%d" % (2 - lsn % 2)) for lsn in range(1, 6)]
    assert replay.data(1) == b"\x01" * 100 + b"\x03" * 100 + b"\x05" * 100
    assert (recovery.last_lsn, recovery.record_count) == (5, 5)
    # The last frame was never followed by another.
    assert recovery.proven_lsn == 4


def test_lsns_of_an_unclean_end_are_not_given_out_again() -> None:
    target = written(2)
    _, _, next_lsn = recover(target)
    assert next_lsn == 3 + LSN_JUMP
    log, _, replay = open_log(target)
    assert replay.lsns == [1, 2]
    assert log.next_lsn == next_lsn  # all of it is proven by now
    log.stage(1, 9, 0, b"new")
    log.commit_step()
    _, replay, _ = recover(target)
    assert replay.lsns == [1, 2, next_lsn]


def test_a_watermark_makes_a_clean_end() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    Writer(log).commit(1, b"x")
    target.advance(1)
    log.commit_step(idle=True)
    recovery, _, next_lsn = recover(target)
    assert (recovery.proven_lsn, next_lsn) == (1, 2)


@pytest.mark.parametrize("from_lsn", range(6))
def test_only_what_is_behind_the_checkpoint_is_replayed(from_lsn: int) -> None:
    target = written(5)
    checkpoint = Checkpoint(from_lsn, 1, position_of(from_lsn + 1))
    for _ in range(2):  # the second time from the recovery file
        recovery, replay, _ = recover(target, checkpoint)
        assert replay.lsns == list(range(from_lsn + 1, 6))
        assert (recovery.last_lsn, recovery.damage) == (5, [])


def test_a_checkpoint_that_is_none() -> None:
    target = written(2)
    with pytest.raises(ValueError, match="no frame can start"):
        recover(target, Checkpoint(1, 1, 5000))
    with pytest.raises(ValueError, match="no frame can start"):
        recover(target, Checkpoint(1, 1, 0))


def test_an_exception_of_the_sink_changes_nothing() -> None:
    target = written(2)
    before = target.files()

    def sink(*_: object) -> None:
        raise RuntimeError("stop")

    from durastream._native.delegated_disk import DelegatedDisk
    from simulation.logs import small_log

    log = small_log(DelegatedDisk(target))
    with pytest.raises(RuntimeError, match="stop"):
        log.recover(None, sink)
    assert target.files() == before
    with pytest.raises(ValueError, match="not open"):
        log.stage(1, 1, 0, b"")


def test_more_than_a_frame_of_records_keeps_the_old_files() -> None:
    """Too much to rewrite: only the last, unproven frame is, and the chain stays."""
    target = written(10, size=6000)
    log, recovery, replay = open_log(target)
    assert replay.lsns == list(range(1, 11))
    assert log.file_count == 3
    Writer(log, replay.tails).commit(1, b"more")
    recovery, replay, next_lsn = recover(target)
    assert recovery.damage == []
    assert replay.lsns == [*range(1, 11), 11 + LSN_JUMP]
    assert next_lsn == 12 + 2 * LSN_JUMP
    log, _, replay = open_log(target)
    assert replay.lsns == [*range(1, 11), 11 + LSN_JUMP]
    log.release(log.durable_point())
    assert len(target.files()) == 1


# -- torn tails ---------------------------------------------------------------------------


def test_every_cut_of_the_last_frame_is_torn_and_kept_aside() -> None:
    whole = written(3, size=1500)
    content = whole.files()[wal_path(1)]
    start = position_of(3)
    used = 64 + 64 + 8 + 1504
    for cut in range(0, used, 8):
        target = written(3, size=1500)
        target.overwrite(wal_path(1), start + cut, bytes(used - cut))
        recovery, replay, next_lsn = recover(target)
        assert recovery.damage == []
        assert replay.lsns == [1, 2]
        if cut >= 16:  # the magic number and the incarnation are there
            (torn,) = recovery.torn
            assert (torn.file, torn.position) == (wal_path(1), start)
            kept = target.files()[torn.kept_as]
            assert kept[:cut] == content[start : start + cut]
            assert next_lsn == 3 + LSN_JUMP
        assert recover(target)[1].lsns == [1, 2]


def test_every_flipped_bit_of_the_last_frame_makes_it_torn() -> None:
    for offset in range(64 + 64 + 8 + 104):
        target = written(2)
        flip(target, 1, position_of(2) + offset, 1 << offset % 8)
        recovery, replay, _ = recover(target)
        assert (recovery.damage, replay.lsns, replay.damaged) == ([], [1], [])


def test_padding_is_not_checked() -> None:
    target = written(2)
    flip(target, 1, position_of(2) + PAGE - 1)
    assert recover(target)[1].lsns == [1, 2]


# -- damage to what was acknowledged ------------------------------------------------------


@pytest.mark.parametrize("offset", range(0, 64))
def test_damage_to_the_header_of_a_proven_frame(offset: int) -> None:
    target = written(3)
    flip(target, 1, position_of(2) + offset, 1 << offset % 8)
    before = target.files()
    log, recovery, replay = open_log(target)
    (damage,) = recovery.damage
    assert (damage.file, damage.position) == (wal_path(1), position_of(2))
    assert (damage.first_lsn, damage.last_lsn) == (2, 2)
    assert replay.lsns == [1]
    # Nothing changed on disk, and nothing is accepted.
    assert target.files() == before
    assert log.failure is not None
    with pytest.raises(Exception, match="damaged log"):
        log.stage(1, 1, 0, b"")


@pytest.mark.parametrize("offset", range(0, 64, 3))
def test_damage_to_the_header_of_a_proven_record(offset: int) -> None:
    target = written(3)
    flip(target, 1, position_of(2) + 64 + offset)
    recovery, replay, _ = recover(target)
    (damage,) = recovery.damage
    assert (damage.first_lsn, damage.last_lsn) == (2, 2)
    assert replay.lsns == [1]


@pytest.mark.parametrize("offset", [0, 3, 8, 60, 107])
def test_damage_to_the_body_of_a_proven_record_is_its_streams_alone(offset: int) -> None:
    target = written(4)
    flip(target, 1, position_of(2) + 64 + RECORD_HEADER + offset)
    for _ in range(2):
        recovery, replay, _ = recover(target)
        assert recovery.damage == []
        assert replay.damaged == [(2, 2)]
        assert replay.lsns == [1, 3, 4]
        assert replay.data(1) == b"\x01" * 100 + b"\x03" * 100


def test_a_zeroed_frame_between_others_is_damage() -> None:
    target = written(3)
    target.overwrite(wal_path(1), position_of(2), bytes(PAGE))
    recovery, _, _ = recover(target)
    assert "acknowledged" in recovery.damage[0].what


def test_a_damaged_watermark_frame_hides_nothing() -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    writer = Writer(log)
    writer.commit(1, b"a")
    target.advance(1)
    log.commit_step(idle=True)
    writer.commit(1, b"b")
    flip(target, 1, 2 * PAGE + 20)
    recovery, replay, _ = recover(target)
    assert (recovery.damage, replay.lsns) == ([], [1, 2])
    assert recovery.harmless[0].position == 2 * PAGE


def test_the_log_ends_before_the_checkpoint() -> None:
    target = written(1)
    recovery, _, _ = recover(target, Checkpoint(9, 1, position_of(9)))
    assert "older than the checkpoint" in recovery.damage[0].what
    target = written(2)
    target.overwrite(wal_path(1), position_of(1), bytes(2 * PAGE))
    recovery, _, _ = recover(target, Checkpoint(2, 2, PAGE))
    assert "missing" in recovery.damage[0].what


@pytest.mark.parametrize("part", ["header", "record"])
def test_damage_before_the_checkpoint_is_no_loss(part: str) -> None:
    target = written(4)
    flip(target, 1, position_of(3) + (20 if part == "header" else 100))
    recovery, replay, _ = recover(target, Checkpoint(3, 1, position_of(4)))
    assert (recovery.damage, replay.lsns) == ([], [4])


def test_an_unreadable_place_is_damage() -> None:
    target = written(3)
    target.faults = {target.call_count + 7: errno.EIO}
    recovery, _, _ = recover(target)
    assert target.trace[target.call_count - 2][0] == "pread"
    assert "cannot be read" in recovery.damage[0].what


def test_an_unreadable_header_is_damage() -> None:
    target = written(3)
    target.faults = {target.call_count + 3: errno.EIO}
    recovery, _, _ = recover(target)
    assert "cannot be read" in recovery.damage[0].what


# -- files --------------------------------------------------------------------------------


def rolled() -> SimulatedDisk:
    """Three files, linked, each but the last nearly full."""
    target = written(20, size=6000)
    assert list(target.files()) == [wal_path(number) for number in (1, 2, 3)]
    return target


def link_position(target: SimulatedDisk) -> int:
    position = PAGE
    while not frame_at(target, 1, position)["flags"] & 1:
        position += 2 * PAGE
    return position


def test_the_log_goes_on_across_files() -> None:
    recovery, replay, _ = recover(rolled())
    assert (replay.lsns, recovery.damage) == (list(range(1, 21)), [])


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_a_missing_file_is_damage(sequence: int) -> None:
    target = rolled()
    target.unlink(wal_path(sequence))
    recovery, replay, _ = recover(target)
    assert len(recovery.damage) == 1
    assert replay.lsns == list(range(1, len(replay.lsns) + 1))


@pytest.mark.parametrize("sequence", [1, 2, 3])
@pytest.mark.parametrize("offset", range(0, 128, 5))
def test_a_damaged_file_header_is_damage(sequence: int, offset: int) -> None:
    target = rolled()
    flip(target, sequence, offset)
    recovery, _, _ = recover(target)
    assert recovery.damage[0].file == wal_path(sequence)


def test_swapped_truncated_and_foreign_files() -> None:
    target = rolled()
    one, two = (target.files()[wal_path(number)] for number in (1, 2))
    target.overwrite(wal_path(1), 0, two)
    target.overwrite(wal_path(2), 0, one)
    assert "another name" in recover(target)[0].damage[0].what
    target = rolled()
    fd = target.open(wal_path(2), 0)
    target.truncate(fd, FILE_SIZE // 2)
    assert "cut off" in recover(target)[0].damage[0].what


def test_a_file_of_another_store() -> None:
    target = written(2)
    from durastream._native.delegated_disk import DelegatedDisk
    from durastream._native.log import Log

    log = Log(
        DelegatedDisk(target), "wal", bytes(16), file_size=FILE_SIZE, wal_size_max=1 << 30,
        slab_size=PAGE, backlog_size_max=1 << 30, idle_watermark_delay=1,
    )  # fmt: skip
    recovery = log.recover(None, Replay())
    assert "another store" in recovery.damage[0].what


def test_a_lost_link_is_made_up_for_by_the_successor() -> None:
    target = rolled()
    target.overwrite(wal_path(1), link_position(target), bytes(PAGE))
    recovery, replay, _ = recover(target)
    assert (recovery.damage, replay.lsns) == ([], list(range(1, 21)))


def test_a_lost_frame_before_a_lost_link_is_damage() -> None:
    target = rolled()
    last = link_position(target)
    target.overwrite(wal_path(1), last - 2 * PAGE, bytes(3 * PAGE))
    recovery, _, _ = recover(target)
    assert "shows that there was more" in recovery.damage[0].what


def test_a_body_damaged_in_the_last_frame_of_a_file_is_proven_by_the_next() -> None:
    target = rolled()
    flip(target, 1, link_position(target) - 2 * PAGE + 200)
    recovery, replay, _ = recover(target)
    assert recovery.damage == []
    assert len(replay.damaged) == 1


def last_file(target: SimulatedDisk) -> bytes:
    return [content for name, content in target.files().items() if "spare" not in name][-1]


def test_stale_frames_of_a_recycled_file_are_no_frames() -> None:
    target = new_disk()
    options = {"file_size": FILE_SIZE}
    log, _, _ = open_log(target, **options)
    while log.prepare_spare_step():
        pass
    writer = Writer(log)
    for number in range(40):
        writer.commit(1, bytes([number + 1]) * 3000)
        if number % 8 == 7:
            log.release(log.durable_point())
    stale = [number for number in range(40) if bytes([number + 1]) * 3000 in last_file(target)]
    assert stale[0] < stale[-1] - 12
    log.stage(1, 2, 0, b"last", b"!")
    log.commit_step()
    checkpoint = log.durable_point()
    writer.commit(1, b"behind")
    recovery, replay, _ = recover(target, checkpoint)
    assert recovery.damage == []
    assert replay.lsns == [checkpoint.lsn + 1]


def test_a_damaged_recovery_file_is_not_passed_over() -> None:
    """What it replaced is still there, and valid; but what came after it is not."""
    target = written(10, size=6000)
    log, _, replay = open_log(target)
    writer = Writer(log, replay.tails)
    writer.commit(1, b"acknowledged")
    sequence = log.durable_point().file_sequence
    log.close()
    flip(target, sequence, 50)
    recovery, _, _ = recover(target)
    assert recovery.damage[0].file == wal_path(sequence)


def test_leftovers_are_cleared_away() -> None:
    target = written(2)
    for name in ("next.wal", "spare.wal", "filling.wal"):
        fd = target.open(f"wal/{name}", 0o100 | 2)
        target.pwrite(fd, bytes(FILE_SIZE + PAGE), 0)
    recover(target)
    assert list(target.files()) == [wal_path(2)]
