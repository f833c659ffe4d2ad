"""A segment is there whole or not at all, whatever call of its writing the power goes off in.

And after an error of any call nothing of it stays, so that the flush can be tried again (I7).
"""

from __future__ import annotations

import errno

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.flush import flush
from durastream._native.record import RecordBatch
from durastream._native.segment import Segment
from durastream.engine.segment_py import read_segment
from simulation.disk import PowerLoss, SimulatedDisk
from support.segments import STORE_ID, record

PATH = "/segments/7.seg"
MIB = 1024 * 1024
RECORDS = [
    record(1, 8, 0, [bytes(range(256)) * 6000]),  # 1.5 MiB: several slices
    record(2, 3, 0, [b"ab", b"cde"]),
    record(3, 8, 256 * 6000, [b"f"]),
]
ROWS = [(3, b"three"), (4, b"four"), (8, b"eight")]


def new_disk(seed: int = 0) -> SimulatedDisk:
    target = SimulatedDisk(seed)
    target.make_directory("/segments")
    return target


def write(target: SimulatedDisk) -> None:
    disk = DelegatedDisk(target)
    try:
        flush(
            disk,
            PATH,
            RecordBatch.from_buffers(RECORDS),
            ROWS,
            (),
            store_id=STORE_ID,
            number=7,
            after_lsn=0,
            upto_lsn=3,
        )
    finally:
        assert disk.error is None


def check_whole(target: SimulatedDisk) -> None:
    _, extents = read_segment(target.files()[PATH])
    assert [(x.stream_id, len(x.data), x.row) for x in extents] == [
        (3, 5, b"three"),
        (4, 0, b"four"),
        (8, 256 * 6000 + 1, b"eight"),
    ]
    segment = Segment(DelegatedDisk(target), PATH, store_id=STORE_ID, number=7)
    assert set(segment.verify()) == {None}


def calls_of_a_flush() -> range:
    target = new_disk()
    before = target.call_count
    write(target)
    return range(before + 1, target.call_count + 1)


CALLS = calls_of_a_flush()


@pytest.mark.parametrize("call", CALLS)
def test_power_loss_in_any_call(call):
    for seed in range(12):
        target = new_disk(seed)
        target.crash_at = call
        acknowledged = True
        try:
            write(target)
        except OSError:
            acknowledged = False
        after = target.crash()
        if PATH in after.files():
            check_whole(after)
        else:
            assert not acknowledged
            write(after)  # and a left-over temporary is no obstacle
            check_whole(after.crash())


def test_an_acknowledged_segment_survives():
    for seed in range(20):
        target = new_disk(seed)
        write(target)
        check_whole(target.crash())


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, "lost sync"])
@pytest.mark.parametrize("call", CALLS)
def test_an_error_in_any_call_leaves_nothing_and_can_be_tried_again(call, fault):
    target = new_disk()
    target.faults[call] = fault
    try:
        write(target)
    except PowerLoss:
        raise
    except OSError:
        assert target.files() == {}
        assert target.descriptors == {}
        write(target)
    check_whole(target)
    check_whole(target.crash())


def test_short_writes_are_completed():
    for call in CALLS:
        target = new_disk()
        target.faults[call] = "short"
        write(target)
        check_whole(target.crash())
