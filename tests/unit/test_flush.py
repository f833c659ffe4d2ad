"""``flush``: from log records and rows to a segment, one extent a stream."""

from __future__ import annotations

import errno
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import PosixDisk
from durastream._native.flush import Flush, flush
from durastream._native.record import RecordBatch
from durastream.engine.segment_py import read_segment
from support.segments import STORE_ID, WatchedDisk, ends_of, open_segment, record

MIB = 1024 * 1024
IDENTITY = {"store_id": STORE_ID, "number": 7, "after_lsn": 0, "upto_lsn": 99}


def write(path, records, rows, dropped=(), disk=None):
    batch = RecordBatch.from_buffers(records)
    return flush(disk or PosixDisk(), str(path), batch, rows, dropped, **IDENTITY)


def extents(path):
    _, found = read_segment(path.read_bytes())
    return [(x.stream_id, x.base, x.data, x.row) for x in found]


def test_records_are_gathered_by_stream(tmp_path):
    path = tmp_path / "7.seg"
    records = [
        record(1, 8, 100, [b"ab", b"c"], b"meta"),
        record(2, 3, 0, [b"xyz"]),
        record(3, 8, 103, [b"d"]),
        record(4, 5, 0),  # no data: closed, for instance
        record(5, 8, 104, [b"e", b"f"]),
    ]
    info = write(path, records, [(3, b"three"), (5, b"five"), (8, b"eight")])
    assert extents(path) == [
        (3, 0, b"xyz", b"three"),
        (5, 0, b"", b"five"),
        (8, 100, b"abcdef", b"eight"),
    ]
    segment = open_segment(PosixDisk(), path)
    assert segment.ends(2).tolist() == ends_of(100, [[b"ab", b"c"], [b"d"], [b"e", b"f"]]).tolist()
    assert (info.after_lsn, info.upto_lsn, info.level) == (0, 99, 0)
    assert (info.extent_count, info.data_size, info.message_count) == (3, 9, 6)


def test_one_message_may_have_its_size_stored(tmp_path):
    write(tmp_path / "7.seg", [record(1, 8, 0, [b"abc"], sizes=[3])], [(8, b"")])
    assert open_segment(PosixDisk(), tmp_path / "7.seg").ends(0).tolist() == [3 << 1 | 1]


def test_dropped_streams_leave_only_their_row(tmp_path):
    records = [record(n, stream, 0, [b"abc"]) for n, stream in enumerate((3, 5, 8), 1)]
    write(tmp_path / "7.seg", records, [(3, b"three"), (8, b"gone")], dropped={5, 8, 77})
    assert extents(tmp_path / "7.seg") == [(3, 0, b"abc", b"three"), (8, 0, b"", b"gone")]


def test_nothing_makes_an_empty_segment(tmp_path):
    assert write(tmp_path / "7.seg", [], []).extent_count == 0


@pytest.mark.parametrize(
    ("records", "rows", "message"),
    [
        ([record(1, 8, 0, [b"a"])], [], "stream 8 has records, but no row"),
        ([record(1, 8, 0, [b"a"])], [(7, b""), (9, b"")], "stream 8 has records, but no row"),
        ([], [(7, b""), (7, b"")], "the row of stream 7 is out of order"),
        ([], [(7, b""), (6, b"")], "the row of stream 6 is out of order"),
        (
            [record(1, 8, 0, [b"ab"]), record(2, 8, 3, [b"c"])],
            [(8, b"")],
            "stream 8, LSN 2, position 3: not where",
        ),
        (
            [record(1, 8, 0, [b"ab"]), record(2, 8, 1, [b"c"])],
            [(8, b"")],
            "stream 8, LSN 2, position 1: not where",
        ),
        ([record(1, 8, 0, [b"abc"], sizes=[1, 1])], [(8, b"")], "LSN 1.*message sizes"),
        ([record(1, 8, 0, [b"abc"], sizes=[3, 0])], [(8, b"")], "LSN 1.*message sizes"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_a_file_is_made(
    tmp_path, records, rows, message
):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "7.seg", records, rows)
    assert list(tmp_path.iterdir()) == []


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=4)
appends = st.lists(st.tuples(st.integers(0, 4), sizes), max_size=30)


@given(appends=appends)
def test_each_stream_gets_its_bytes_in_order(appends, tmp_path_factory):
    path = tmp_path_factory.mktemp("flush") / "7.seg"
    model = {}
    records = []
    for lsn, (stream_id, message_sizes) in enumerate(appends, 1):
        messages = [bytes([lsn]) * size for size in message_sizes]
        so_far = model.setdefault(stream_id, [])
        base = sum(len(message) for append in so_far for message in append)
        records.append(record(lsn, stream_id, base, messages))
        so_far.append(messages)
    write(path, records, [(stream_id, b"row") for stream_id in sorted(model)])
    segment = open_segment(PosixDisk(), path)
    for index, stream_id in enumerate(sorted(model)):
        data = b"".join(b"".join(messages) for messages in model[stream_id])
        assert segment.extents_of(stream_id) == [(0, len(data), index)]
        assert segment.read(index, 0, len(data)) == data
        assert segment.ends(index).tolist() == ends_of(0, model[stream_id]).tolist()
    assert set(segment.verify()) == {None}


def test_a_step_writes_one_slice(tmp_path):
    rng = random.Random(3)
    blob = rng.randbytes(5 * MIB)
    records = [
        record(1, 1, 0, [blob]),
        record(2, 2, 0, [b"ab"] * 400_000),
        *(record(n, n, 0, [b"x" * 100]) for n in range(3, 3000)),
    ]
    rows = [(n, b"row") for n in range(1, 3000)]
    watched = WatchedDisk()
    batch = RecordBatch.from_buffers(records)
    whole = Flush(
        DelegatedDisk(watched),
        str(tmp_path / "7.seg"),
        batch,
        rows,
        (),
        sync_slices=True,
        **IDENTITY,
    )
    steps = 0
    while whole.step():
        steps += 1
        assert watched.count("pwrite") == watched.count("sync") == steps
    info = whole.finish()
    assert steps == info.size // MIB
    in_one_go = tmp_path / "again.seg"
    flush(DelegatedDisk(WatchedDisk()), str(in_one_go), batch, rows, (), **IDENTITY)
    assert in_one_go.read_bytes() == (tmp_path / "7.seg").read_bytes()
    segment = open_segment(PosixDisk(), tmp_path / "7.seg")
    assert segment.read(0, 0, 5 * MIB) == blob
    assert segment.extent(1).message_count == 400_000


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_a_failing_write_leaves_no_file_and_the_batch_as_it_was(tmp_path, fails):
    records, rows = [record(1, 8, 0, [bytes(4 * MIB)])], [(8, b"row")]
    watched = WatchedDisk()
    watched.fail = lambda name, _: (
        errno.ENOSPC if name == "pwrite" and watched.count("pwrite") == fails else 0
    )
    batch = RecordBatch.from_buffers(records)
    with pytest.raises(OSError, match=r"7\.seg\.tmp") as caught:
        flush(DelegatedDisk(watched), str(tmp_path / "7.seg"), batch, rows, (), **IDENTITY)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
    flush(PosixDisk(), str(tmp_path / "8.seg"), batch, rows, (), **IDENTITY)
    assert extents(tmp_path / "8.seg") == [(8, 0, bytes(4 * MIB), b"row")]


def test_abandoning_half_way_leaves_no_file(tmp_path):
    batch = RecordBatch.from_buffers([record(1, 8, 0, [bytes(4 * MIB)])])
    half = Flush(PosixDisk(), str(tmp_path / "7.seg"), batch, [(8, b"row")], (), **IDENTITY)
    assert half.step()
    half.abandon()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="finished or abandoned"):
        half.finish()


def test_many_tiny_extents_are_quick(tmp_path):
    """100,000 streams: about 0.2 s here. The bound only catches a cost that grows with it."""
    count = 100_000
    order = list(range(count))
    random.Random(1).shuffle(order)
    records = [record(lsn, stream, 0, [b"x" * 50]) for lsn, stream in enumerate(order, 1)]
    batch = RecordBatch.from_buffers(records)
    rows = [(stream, b"r" * 40) for stream in range(count)]
    started = time.process_time()
    info = flush(PosixDisk(), str(tmp_path / "7.seg"), batch, rows, (), **IDENTITY)
    assert info.extent_count == count
    assert time.process_time() - started < 3
