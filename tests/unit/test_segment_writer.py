"""``SegmentWriter``: what it refuses, how it writes, and what it leaves behind."""

from __future__ import annotations

import errno
import os
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import PosixDisk
from durastream.engine.segment_py import read_segment
from support.segments import WatchedDisk, ends_of, open_segment, write, writer

MIB = 1024 * 1024
BLOCK = 64 * 1024
EXTENTS = [(3, 10, [[b"abc"], [b"de", b"fgh"]], b"row"), (9, 0, [[b"x" * 3 * MIB]], b"r" * 9)]

messages = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4)
streams = st.dictionaries(
    st.integers(0, 2**64 - 1),
    st.tuples(st.integers(0, 2**50), st.lists(messages, max_size=4), st.binary(max_size=30)),
    max_size=6,
)


@given(model=streams)
def test_both_readers_get_back_what_was_written(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("segment") / "7.seg"
    extents = [(stream_id, *model[stream_id]) for stream_id in sorted(model)]
    info = write(PosixDisk(), path, extents)

    _, read = read_segment(path.read_bytes())
    segment = open_segment(PosixDisk(), path)

    assert len(read) == segment.extent_count == info.extent_count == len(model)
    for index, (extent, (stream_id, base, appends, row)) in enumerate(
        zip(read, extents, strict=True)
    ):
        data = b"".join(b"".join(append) for append in appends)
        ends = ends_of(base, appends)
        assert extent[:3] == (stream_id, base, data)
        assert [position << 1 | mark for position, mark in extent.ends] == ends.tolist()
        assert extent.row == segment.row(index) == row
        assert segment.read(index, base, base + len(data)) == data
        assert segment.ends(index).tolist() == ends.tolist()
        assert segment.extents_of(stream_id) == [(base, base + len(data), index)]
    assert set(segment.verify()) == {None}
    assert info.size == path.stat().st_size


@pytest.mark.parametrize("size", [1, 7, 8, BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK + 3])
def test_blocks_of_any_size(tmp_path, size):
    data = bytes(range(256)) * (size // 256 + 1)
    appends = [[data[:size]]]
    write(PosixDisk(), tmp_path / "7.seg", [(1, 5, appends, b"")])
    segment = open_segment(PosixDisk(), tmp_path / "7.seg")
    assert segment.read(0, 5, 5 + size) == data[:size]
    assert segment.row(0) == b""
    read_segment((tmp_path / "7.seg").read_bytes())


def test_pieces_need_not_be_messages(tmp_path):
    with_pieces = writer(PosixDisk(), tmp_path / "7.seg")
    pieces = [b"", bytearray(b"ab"), memoryview(array("H", [0x6463])), b"e"]
    with_pieces.add(1, 0, pieces, array("Q", [5 << 1 | 1]), b"")
    with_pieces.finish()
    assert open_segment(PosixDisk(), tmp_path / "7.seg").read(0, 0, 5) == b"abcde"


def test_a_segment_may_be_empty(tmp_path):
    assert write(PosixDisk(), tmp_path / "7.seg", []).extent_count == 0
    segment = open_segment(PosixDisk(), tmp_path / "7.seg")
    assert (segment.find(1, 0), segment.extents_of(1)) == (-1, [])


@pytest.mark.parametrize(("stream_id", "base"), [(4, 99), (5, 9), (5, 0)])
def test_extents_must_ascend(tmp_path, stream_id, base):
    segment = writer(PosixDisk(), tmp_path / "7.seg")
    segment.add(5, 0, [b"0123456789"], array("Q", [10 << 1 | 1]), b"")
    with pytest.raises(ValueError, match=r"must come behind \(5, 10\)"):
        segment.add(stream_id, base, [b"x"], array("Q", [base + 1 << 1 | 1]), b"")
    segment.add(5, 10, [b"x"], array("Q", [11 << 1 | 1]), b"")  # the refusal changed nothing
    segment.finish()
    read_segment((tmp_path / "7.seg").read_bytes())


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([], "the ends reach 0, the wire bytes 4"),
        ([3 << 1 | 1], "the ends reach 3, the wire bytes 4"),
        ([5 << 1 | 1], "the ends reach 5, the wire bytes 4"),
        ([4 << 1], "must end where an append ends"),
        ([2 << 1, 2 << 1, 4 << 1 | 1], "end 1 is 2, not behind 2"),
        ([0, 4 << 1 | 1], "end 0 is 0, not behind 0"),
    ],
)
def test_ends_must_fit_the_data(tmp_path, ends, message):
    segment = writer(PosixDisk(), tmp_path / "7.seg")
    with pytest.raises(ValueError, match=message):
        segment.add(1, 0, [b"abcd"], array("Q", ends), b"")


def test_a_store_id_has_16_bytes(tmp_path):
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        writer(PosixDisk(), tmp_path / "7.seg", store_id=b"abc")
    assert list(tmp_path.iterdir()) == []


def test_a_segment_is_never_overwritten(tmp_path):
    (tmp_path / "7.seg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="never overwritten"):
        writer(PosixDisk(), tmp_path / "7.seg")
    assert (tmp_path / "7.seg").read_bytes() == b"precious"


def test_a_left_over_temporary_is_replaced(tmp_path):
    (tmp_path / "7.seg.tmp").write_bytes(b"x" * 10 * MIB)
    write(PosixDisk(), tmp_path / "7.seg", EXTENTS)
    read_segment((tmp_path / "7.seg").read_bytes())


def test_slices_are_small_in_order_and_synced_before_the_name_is_given(tmp_path):
    watched = WatchedDisk()
    write(DelegatedDisk(watched), tmp_path / "7.seg", EXTENTS)
    written = [arguments for name, arguments in watched.calls if name == "pwrite"]
    slices = [(len(data), at) for _, data, at in written]
    assert all(size <= MIB for size, _ in slices)
    assert [at for _, at in slices] == [sum(s for s, _ in slices[:n]) for n in range(len(slices))]
    assert watched.names()[-4:] == ["sync", "rename", "sync_directory", "close"]
    assert watched.calls[-2][1] == (str(tmp_path),)
    assert watched.count("sync") == 1


def test_each_slice_can_be_synced(tmp_path):
    watched = WatchedDisk()
    write(DelegatedDisk(watched), tmp_path / "7.seg", EXTENTS, sync_slices=True)
    assert watched.count("sync") == watched.count("pwrite") + 1


def calls_of_a_whole_write(tmp_path) -> list[str]:
    watched = WatchedDisk()
    write(DelegatedDisk(watched), tmp_path / "count.seg", EXTENTS)
    os.unlink(tmp_path / "count.seg")
    return watched.names()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failing_call_leaves_nothing_behind(tmp_path, code):
    names = calls_of_a_whole_write(tmp_path)
    for number, name in enumerate(names, 1):
        if name in ("exists", "close"):
            continue
        watched = WatchedDisk()
        watched.fail = lambda _, called, number=number: code if called == number else 0
        with pytest.raises(OSError, match="7.seg|" + str(tmp_path)) as caught:
            write(DelegatedDisk(watched), tmp_path / "7.seg", EXTENTS)
        assert caught.value.errno == code, name
        assert list(tmp_path.iterdir()) == [], name
        assert watched.count("close") == (0 if name == "open" else 1)


def test_a_failing_close_loses_nothing(tmp_path):
    watched = WatchedDisk()
    watched.fail = lambda name, _: errno.EIO if name == "close" else 0
    write(DelegatedDisk(watched), tmp_path / "7.seg", EXTENTS)
    read_segment((tmp_path / "7.seg").read_bytes())


def test_abandoning_removes_the_temporary(tmp_path):
    segment = writer(PosixDisk(), tmp_path / "7.seg")
    assert [path.name for path in tmp_path.iterdir()] == ["7.seg.tmp"]
    segment.abandon()
    segment.abandon()
    assert list(tmp_path.iterdir()) == []
    for use in (segment.finish, lambda: segment.add(1, 0, [], array("Q"), b"")):
        with pytest.raises(ValueError, match="finished or abandoned"):
            use()


def test_forgetting_the_writer_abandons_it(tmp_path):
    segment = writer(PosixDisk(), tmp_path / "7.seg")
    del segment
    assert list(tmp_path.iterdir()) == []


def test_abandoning_after_the_end_removes_nothing(tmp_path):
    segment = writer(PosixDisk(), tmp_path / "7.seg")
    segment.finish()
    segment.abandon()
    assert [path.name for path in tmp_path.iterdir()] == ["7.seg"]
