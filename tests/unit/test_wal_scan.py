"""`wal_scan` shows what recovery would replay, from a checkpoint on, and changes nothing."""

from __future__ import annotations

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.wal_scan import WalScan
from durastream._native.wal_types import Checkpoint
from simulation.logs import DIRECTORY, PAGE, STORE_ID, Replay, new_disk, small_log


def write(disk, count, checkpoint_after=0):
    """A log of records, each committed alone; the durable point behind one of them."""
    log = small_log(disk)
    log.recover(None, Replay())
    point = None
    for number in range(1, count + 1):
        log.stage(2, number, 0, b"meta %d" % number, b"data %d" % number)
        while log.commit_step():
            pass
        if number == checkpoint_after:
            point = log.durable_point()
    log.close()
    return point


def scan(disk, checkpoint=None):
    found = WalScan(disk, DIRECTORY, STORE_ID, checkpoint)
    return list(found), found.walk


@pytest.mark.parametrize("checkpoint_after", [0, 1, 25, 40])
def test_it_shows_what_recovery_replays(checkpoint_after):
    target = new_disk()
    disk = DelegatedDisk(target)
    point = write(disk, 40, checkpoint_after)
    before = {name: disk.pread(disk.open(f"{DIRECTORY}/{name}"), 1 << 20, 0)
              for name in disk.list_directory(DIRECTORY)}  # fmt: skip
    frames, walk = scan(disk, point)
    shown = [
        (record.lsn, record.kind, record.stream_id, record.meta)
        for frame in frames
        for record in frame.records
    ]
    assert walk.last_lsn == 40
    assert not walk.damage
    assert not walk.torn
    assert len(walk.chain) > 1 or checkpoint_after > 20  # it went on in other files
    assert disk.list_directory(DIRECTORY) == sorted(before)
    for name, content in before.items():
        assert disk.pread(disk.open(f"{DIRECTORY}/{name}"), 1 << 20, 0) == content
    replay = Replay()
    small_log(disk).recover(point, replay)
    assert shown == replay.records
    assert [lsn for lsn, *_ in shown] == list(range(checkpoint_after + 1, 41))


def test_it_says_where_frames_and_records_lie():
    disk = DelegatedDisk(new_disk())
    write(disk, 3)
    frames, _ = scan(disk)
    for frame in frames:
        fd = disk.open(frame.file)
        assert disk.pread(fd, 4, frame.position) == b"DSFM"
        (record,) = frame.records
        assert record.position == frame.position + 64
        assert int.from_bytes(disk.pread(fd, 8, record.position + 8), "little") == record.lsn
        assert (record.data_size, record.message_count, record.damaged) == (6, 1, False)
        assert frame.first_lsn == record.lsn
        assert frame.watermark < frame.first_lsn
        assert frame.size >= 64
        assert frame.record_count == 1


def test_a_log_that_ends_before_the_checkpoint_is_damaged():
    disk = DelegatedDisk(new_disk())
    write(disk, 3)
    replay = Replay()
    small_log(disk).recover(None, replay)  # rewrites all three into a file of its own
    found = WalScan(disk, DIRECTORY, STORE_ID, Checkpoint(9, 1, PAGE))
    assert [record.lsn for frame in found for record in frame.records] == []
    assert list(found) == []  # ended is ended, and told once
    assert [damage.what for damage in found.walk.damage] == ["the log ends before the checkpoint"]


def test_a_checkpoint_that_is_none_is_refused():
    disk = DelegatedDisk(new_disk())
    write(disk, 1)
    frames, _ = scan(disk)
    with pytest.raises(ValueError, match="no frame can start"):
        scan(disk, Checkpoint(1, int(frames[0].file[-24:-4]), 17))


def test_a_damaged_body_comes_without_metadata():
    disk = DelegatedDisk(new_disk())
    write(disk, 3)
    frames, _ = scan(disk)
    fd = disk.open(frames[1].file, 2)
    disk.pwrite(fd, b"X", frames[1].records[0].position + 64)
    damaged = [record for frame in scan(disk)[0] for record in frame.records if record.damaged]
    assert [(record.lsn, record.stream_id, record.meta) for record in damaged] == [(2, 2, b"")]
