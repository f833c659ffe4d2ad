"""``SegmentCursor`` and ``SegmentMerge``: extents of several segments, joined; never damage."""

import errno
import os
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import PosixDisk
from durastream._native.mapped_file import Reaper
from durastream._native.segment import SegmentDamaged
from durastream._native.segment_cursor import SegmentCursor
from durastream._native.segment_merge import SegmentMerge
from durastream.engine.segment_py import read_segment
from support.damage import flip
from support.segments import STORE_ID, WatchedDisk, ends_of, open_segment, write

BLOCK = 64 * 1024
MIB = 1024 * 1024

append = st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=3)
parts = st.lists(st.lists(append, max_size=3), min_size=1, max_size=4)  # one per segment
streams = st.dictionaries(st.integers(1, 50), parts, max_size=5)


def make(folder, model, disk=None):
    """Segments 1.. that hold, of each stream, its part for that segment."""
    count = max((len(parts) for parts in model.values()), default=1)
    segments, tails = [], dict.fromkeys(model, 0)
    for at in range(count):
        extents = []
        for stream_id in sorted(model):
            appends = model[stream_id][at] if at < len(model[stream_id]) else []
            size = sum(len(message) for messages in appends for message in messages)
            extents.append(
                (stream_id, tails[stream_id], appends, b"row %d of %d" % (at, stream_id))
            )
            tails[stream_id] += size
        path = folder / f"{at + 1}.seg"
        write(PosixDisk(), path, extents, number=at + 1, after_lsn=10 * at, upto_lsn=10 * at + 9)
        segments.append(open_segment(disk or PosixDisk(), path, at + 1))
    return segments


def merge(segments, path, keep=lambda extents: extents, disk=None, batch=3):
    """Everything of the segments into one; ``keep`` may change what is put."""
    cursor = SegmentCursor(segments)
    merging = SegmentMerge(
        disk or PosixDisk(), str(path), segments, store_id=STORE_ID, number=9, level=1,
        after_lsn=segments[0].after_lsn, upto_lsn=segments[-1].upto_lsn,
    )  # fmt: skip
    try:
        while found := cursor.next_batch(batch, MIB):
            merging.put(keep([(stream_id, extents[-1][5], whole(extents))
                              for stream_id, extents in found]))  # fmt: skip
            while merging.step():
                pass
        return merging.finish()
    except BaseException:
        merging.abandon()
        raise


def whole(extents):
    return [(source, index, base, end, 0, count)
            for source, index, base, end, count, _ in extents if base < end]  # fmt: skip


@given(model=streams)
def test_extents_of_a_stream_are_joined(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    segments = make(folder, model)
    info = merge(segments, folder / "9.seg")

    header, extents = read_segment((folder / "9.seg").read_bytes())
    assert (header.level, header.number, header.after_lsn) == (1, 9, 0)
    assert len(extents) == info.extent_count == len(model)
    for extent, stream_id in zip(extents, sorted(model), strict=True):
        appends = [messages for part in model[stream_id] for messages in part]
        assert extent.data == b"".join(b"".join(messages) for messages in appends)
        found = [position << 1 | mark for position, mark in extent.ends]
        assert found == ends_of(0, appends).tolist()
        assert extent.row == b"row %d of %d" % (len(segments) - 1, stream_id)
    assert set(open_segment(PosixDisk(), folder / "9.seg", 9).verify()) == {None}


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * MIB + 5])
def test_blocks_are_laid_anew(tmp_path, size):
    data = bytes(range(251)) * (size // 251 + 1)
    segments = make(tmp_path, {5: [[[b"ab"]], [[data[:size]]], [[b"c", b"d"]]]})
    merge(segments, tmp_path / "9.seg")
    merged = open_segment(PosixDisk(), tmp_path / "9.seg", 9)
    assert merged.read(0, 0, size + 4) == b"ab" + data[:size] + b"cd"
    assert merged.append_ends(0, 0, size + 4).tolist() == [2, size + 2, size + 4]
    assert set(merged.verify()) == {None}


def test_a_cut_takes_whole_appends(tmp_path):
    (segment,) = make(tmp_path, {5: [[[b"abc"], [b"de", b"fgh"], [b"i"], [b"jk"]]]})
    assert segment.cut(0, 4, 9) == (3, 9, 1, 3)
    assert segment.cut(0, 4, 5) == (3, 8, 1, 2)
    assert segment.cut(0, 0, 11) == (0, 11, 0, 5)
    assert segment.cut(0, 9, 9) == (9, 9, 0, 0)

    def cut(extents):
        return [(5, b"row", [(0, 0, *segment.cut(0, 4, 9))])]

    merge([segment], tmp_path / "9.seg", cut)
    _, (extent,) = read_segment((tmp_path / "9.seg").read_bytes())
    assert (extent.base, extent.data) == (3, b"defghi")
    assert extent.ends == [(5, False), (8, True), (9, True)]


def test_pieces_must_follow_each_other(tmp_path):
    segments = make(tmp_path, {5: [[[b"ab"]], [[b"cd"]]]})
    for pieces in [[(1, 0, 2, 4, 0, 1), (0, 0, 0, 2, 0, 1)], [(0, 0, 0, 9, 0, 1)]]:
        with pytest.raises(ValueError, match=r"stream 5|not within"):
            merge(segments, tmp_path / "9.seg", lambda _, pieces=pieces: [(5, b"", pieces)])
    with pytest.raises(IndexError):
        merge(segments, tmp_path / "9.seg", lambda _: [(5, b"", [(2, 0, 0, 2, 0, 1)])])
    assert sorted(os.listdir(tmp_path)) == ["1.seg", "2.seg"]


@pytest.mark.parametrize("stream_id", [3, 8])
def test_damage_never_gets_a_good_checksum(tmp_path, stream_id):
    model = {3: [[[b"a" * 99]], [[b"b" * 99]]], 8: [[[b"c" * BLOCK * 3]], [[b"d" * 99]]]}
    segments = make(tmp_path, model)
    flip(tmp_path / "1.seg", 4096 + 96 + 50 if stream_id == 3 else 4096 + 96 + 99 + BLOCK)
    with pytest.raises(SegmentDamaged, match="checksum mismatch") as caught:
        merge(segments, tmp_path / "9.seg")
    assert caught.value.stream_id == stream_id
    assert sorted(os.listdir(tmp_path)) == ["1.seg", "2.seg"]


def test_a_damaged_row_is_found_beside_the_others(tmp_path):
    segments = make(tmp_path, {3: [[[b"a"]]], 8: [[[b"c"]]]})
    raw = (tmp_path / "1.seg").read_bytes()
    flip(tmp_path / "1.seg", raw.index(b"row 0 of 3"))
    found = SegmentCursor(segments).next_batch(10, MIB)
    assert isinstance(found[0][1][0][5], SegmentDamaged)
    assert found[1][1][0][5] == b"row 0 of 8"


def test_an_unreadable_input_is_named_and_a_full_disk_is_not_its_fault(tmp_path):
    disk = WatchedDisk()
    segments = make(tmp_path, {3: [[[b"a" * 3 * MIB]]]}, DelegatedDisk(disk))
    disk.fail = lambda name, number: errno.EIO if name == "pread" else 0
    ((_, extents),) = SegmentCursor(segments).next_batch(1, MIB)
    assert isinstance(extents[0][5], OSError)
    with pytest.raises(OSError, match=r"1\.seg, byte 4192: unreadable"):
        merge(segments, tmp_path / "9.seg", lambda _: [(3, b"", whole(extents))])
    disk.fail = lambda name, number: errno.ENOSPC if name == "pwrite" else 0
    with pytest.raises(OSError, match=r"9\.seg\.tmp"):
        merge(segments, tmp_path / "9.seg", disk=DelegatedDisk(disk))
    assert os.listdir(tmp_path) == ["1.seg"]


def test_sizes_within_a_segment_are_found(tmp_path):
    (segment,) = make(tmp_path, {3: [[[b"a" * 1000], [b"b" * 24]]], 8: [[]]})
    whole = segment.size - 4096 - 128 - 2 * 96

    def held(*ranges):
        return segment.held_size(*(array("Q", values) for values in zip(*ranges, strict=True)))

    everything = 2**63 - 1
    assert held((3, 0, everything), (8, 0, everything)) == whole
    assert held((3, 0, 1000)) == 1000
    assert held((3, 1000, 1000), (4, 0, everything)) == 0
    with pytest.raises(ValueError, match="equally many"):
        segment.held_size(array("Q", [1]), array("Q", [1]), array("Q", []))


def test_a_retired_file_is_given_back_by_the_reaper(tmp_path):
    disk = WatchedDisk()
    (segment,) = make(tmp_path, {3: [[[b"abc"]]]}, DelegatedDisk(disk))
    reaper = Reaper()
    segment.retire(reaper)
    size, view = segment.size, segment.read(0, 0, 3)
    segment.close()
    (tmp_path / "1.seg").unlink()
    assert (reaper.reap(), reaper.pinned_size) == (0, size)
    assert view == b"abc"
    closed = disk.count("close")
    view.release()
    del view, segment
    assert (disk.count("close"), reaper.pinned_size) == (closed, 0)
    assert reaper.reap() == 1
    assert disk.count("close") == closed + 1


def test_after_the_reaper_closed_files_give_themselves_back(tmp_path):
    disk = WatchedDisk()
    (segment,) = make(tmp_path, {3: [[[b"abc"]]]}, DelegatedDisk(disk))
    reaper = Reaper()
    segment.retire(reaper)
    reaper.close()
    closed = disk.count("close")
    del segment
    assert disk.count("close") == closed + 1
