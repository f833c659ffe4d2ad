"""Damage to a segment is found, named, and confined to what it hit (I6)."""

from __future__ import annotations

import struct
from functools import partial

import pytest

from durastream._native.checksum import xxh64
from durastream._native.disk import PosixDisk
from durastream._native.segment import SegmentDamaged
from support.segments import STORE_ID, open_segment, write

BLOCK = 64 * 1024
EXTENTS = [
    (3, 10, [[b"abc"], [b"de", b"fgh"]], b"row3"),
    (4, 0, [[b"x" * 13]], b"r"),
    (5, 0, [], b"five"),
]
HEADER, INDEX = 4096, 3 * 96


@pytest.fixture
def path(tmp_path):
    write(PosixDisk(), tmp_path / "7.seg", EXTENTS)
    return tmp_path / "7.seg"


def change(path, position, octets):
    """In place, as a medium does."""
    with path.open("r+b") as file:
        file.seek(position)
        file.write(octets)


def flip(path, position, bit=0):
    change(path, position, bytes([path.read_bytes()[position] ^ 1 << bit]))


def seal(path, start, end, seed):
    """Make the checksum at ``end`` that of [start, end): a lie with a valid checksum."""
    change(path, end, struct.pack("<Q", xxh64(path.read_bytes()[start:end], seed)))


def seed_of(path):
    return struct.unpack_from("<Q", path.read_bytes(), HEADER - 8)[0]


def damage_on_opening(path):
    with pytest.raises(SegmentDamaged) as caught:
        open_segment(PosixDisk(), path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    return caught.value


# -- every bit -----------------------------------------------------------------------------


def outcome(call):
    """What ``call`` returns or, if it is damaged, the error."""
    try:
        return call()
    except SegmentDamaged as damage:
        return damage


def test_a_flip_of_any_byte_is_found(path):
    size = path.stat().st_size
    for position in range(size):
        flip(path, position, position % 8)
        segment = outcome(lambda: open_segment(PosixDisk(), path))
        if isinstance(segment, SegmentDamaged):
            assert not HEADER <= position < size - 128 - INDEX
        else:
            found = [damage for damage in segment.verify() if damage is not None]
            stream_id = 3 if position < 4248 else 4 if position < 4392 else 5
            assert [damage.stream_id for damage in found] == [stream_id]
            check_what_is_served(segment)
        flip(path, position, position % 8)


def check_what_is_served(segment):
    """Never other bytes than those that were written."""
    for index, base, data in [(0, 10, b"abcdefgh"), (1, 0, b"x" * 13)]:
        served = outcome(partial(segment.read, index, base, base + len(data)))
        if isinstance(served, SegmentDamaged):
            assert (served.stream_id, served.stream_position) == ((3, 4)[index], base)
        else:
            assert served == data


def test_a_damaged_block_of_ends_between_others(tmp_path):
    path = tmp_path / "7.seg"
    count = 5 * BLOCK // 8
    write(PosixDisk(), path, [(1, 0, [[b"x"]] * count, b"")])
    ends = HEADER + 96 + count + 8 * (-(-count // BLOCK))
    for damaged in range(5):
        flip(path, ends + damaged * BLOCK + 80)
        segment = open_segment(PosixDisk(), path)
        first, behind = damaged * BLOCK // 8 + 1, (damaged + 1) * BLOCK // 8  # ends in it
        for position in {1, 2, first - 1, behind + 2, count - 1, count} - {0}:
            if first <= position <= behind or position > count:
                continue
            assert segment.boundary(0, position) == 2
        for position in (first, first + 1, behind):
            with pytest.raises(SegmentDamaged, match="ends"):
                segment.boundary(0, position)
            with pytest.raises(SegmentDamaged, match="ends"):
                segment.message_end(0, position - 1, 1)
        flip(path, ends + damaged * BLOCK + 80)


@pytest.mark.parametrize("size", [0, 1, 4096, 4223, 4224, 4300, -1, -8, -128])
def test_a_cut_file_does_not_open(path, size):
    content = path.read_bytes()
    path.write_bytes(content[:size])
    assert damage_on_opening(path).what.startswith(("footer", "the file is too short"))


@pytest.mark.parametrize("more", [1, 8, 128, 4096])
def test_a_grown_file_does_not_open(path, more):
    path.write_bytes(path.read_bytes() + bytes(more))
    assert damage_on_opening(path).what.startswith("footer")


def test_a_file_of_zeroes_does_not_open(path):
    path.write_bytes(bytes(path.stat().st_size))
    assert damage_on_opening(path).what == "header: no segment of durastream"


def test_a_segment_of_another_store_does_not_open(path, tmp_path):
    write(PosixDisk(), tmp_path / "foreign.seg", EXTENTS, store_id=bytes(16))
    assert "another store" in damage_on_opening(tmp_path / "foreign.seg").what


def test_a_segment_under_another_ones_name_does_not_open(path, tmp_path):
    write(PosixDisk(), tmp_path / "8.seg", EXTENTS, number=8)
    (tmp_path / "8.seg").rename(path)
    assert "another number" in damage_on_opening(path).what


# -- values that no writer writes, under a valid checksum ----------------------------------


@pytest.mark.parametrize(
    ("position", "octets", "what"),
    [
        (8, b"\x02", "format version unknown"),
        (40, b"\xff", "after_lsn is above upto_lsn"),
        (64, b"\x01", "reserved bytes are not zero"),
        (4087, b"\x01", "reserved bytes are not zero"),
    ],
)
def test_illegal_values_in_the_header(path, position, octets, what):
    change(path, position, octets)
    seal(path, 0, HEADER - 8, 0)
    assert what in damage_on_opening(path).what


@pytest.mark.parametrize(
    ("position", "octets", "what"),
    [
        (8, b"\x02", "format version unknown"),
        (12, b"\x01", "reserved bytes are not zero"),
        (16, b"\x00" * 8, "belongs to another header"),
        (24, b"\x01", "the index does not fit"),
        (32, b"\x04", "the index does not fit"),
        (32, b"\xff" * 8, "the index does not fit"),
        (40, b"\x01", "sums of the index disagree"),
        (48, b"\x09", "sums of the index disagree"),
        (56, b"\x01", "states another file size"),
        (64, b"\x01", "reserved bytes are not zero"),
        (119, b"\x01", "reserved bytes are not zero"),
    ],
)
def test_illegal_values_in_the_footer(path, position, octets, what):
    at = path.stat().st_size - 128
    change(path, at + position, octets)
    seal(path, at, at + 120, 0)
    assert what in damage_on_opening(path).what


@pytest.mark.parametrize(
    ("position", "value", "what"),
    [
        (0, 9, "out of order"),
        (8, 9, "not behind the extent before it"),
        (8, 19, "impossible range"),
        (16, 2**63, "impossible range"),
        (16, 10, "impossible message count"),
        (24, 4104, "not behind the extent before it"),
        (24, 2**63, "impossible position"),
        (32, 0, "data and message count disagree"),
        (32, 9, "impossible message count"),
        (32, 2**60, "impossible message count"),
        (40, 2**31, "impossible row size"),
        (40, 1 << 32 | 4, "reserved bytes are not zero"),
        (56, 1, "reserved bytes are not zero"),
        (80, 1, "reserved bytes are not zero"),
    ],
)
def test_illegal_values_in_an_index_entry(path, position, value, what):
    at = path.stat().st_size - 128 - INDEX
    change(path, at + position, struct.pack("<Q", value))
    seal(path, at, at + 88, seed_of(path))
    assert damage_on_opening(path).what == f"index entry: {what}"


def test_extents_that_overlap_do_not_open(tmp_path):
    path = tmp_path / "7.seg"
    write(PosixDisk(), path, [(1, 0, [[b"abcd"]], b""), (1, 4, [[b"efgh"]], b"")])
    at = path.stat().st_size - 128 - 96
    change(path, at + 8, struct.pack("<QQ", 3, 7))
    seal(path, at, at + 88, seed_of(path))
    assert damage_on_opening(path).what == "index entry: out of order"


def test_ends_out_of_order_are_found_under_a_valid_checksum(path):
    ends = 4208  # see docs/format-segment.md, "Example"
    change(path, ends, struct.pack("<QQ", 15 << 1, 13 << 1 | 1))
    seal(path, ends, ends + 24, seed_of(path) + ends)
    found = [damage for damage in open_segment(PosixDisk(), path).verify() if damage]
    assert [damage.what for damage in found] == ["ends: out of order"]
    assert found[0].stream_id == 3


# -- damage is confined --------------------------------------------------------------------


@pytest.fixture
def large(tmp_path):
    """Stream 1 with ten blocks of wire bytes and two of ends, stream 2 with little."""
    data = bytes(range(1, 251)) * (10 * BLOCK // 250 + 1)
    messages = [data[at : at + 64] for at in range(0, 10 * BLOCK, 64)]
    extents = [(1, 0, [[m] for m in messages], b"one"), (2, 0, [[b"small"]], b"two")]
    write(PosixDisk(), tmp_path / "7.seg", extents)
    return tmp_path / "7.seg", data[: 10 * BLOCK]


def test_a_damaged_block_does_not_hide_the_others(large):
    path, data = large
    flip(path, HEADER + 96 + 4 * BLOCK + 100, 5)
    segment = open_segment(PosixDisk(), path)
    assert segment.read(0, 0, 4 * BLOCK) == data[: 4 * BLOCK]
    assert segment.read(0, 5 * BLOCK, 10 * BLOCK) == data[5 * BLOCK :]
    for start, end in ((4 * BLOCK, 5 * BLOCK), (4 * BLOCK - 1, 4 * BLOCK + 1), (0, 10 * BLOCK)):
        for _ in range(2):  # and it is not forgotten
            with pytest.raises(SegmentDamaged, match="wire bytes: checksum mismatch") as caught:
                segment.read(0, start, end)
        assert (caught.value.stream_id, caught.value.stream_position) == (1, 4 * BLOCK)
        assert caught.value.position == HEADER + 96 + 4 * BLOCK
    assert (segment.read(1, 0, 5), segment.row(0), segment.row(1)) == (b"small", b"one", b"two")


def test_a_block_that_strayed_is_damage(large):
    path, _ = large
    content = path.read_bytes()
    first, second = HEADER + 96, HEADER + 96 + BLOCK
    checksums = HEADER + 96 + 10 * BLOCK
    change(path, first, content[second : second + BLOCK])
    change(path, checksums, content[checksums + 8 : checksums + 16])
    with pytest.raises(SegmentDamaged, match="wire bytes"):
        open_segment(PosixDisk(), path).read(0, 0, 1)


def test_damaged_ends_concern_only_who_needs_them(large):
    path, data = large
    second_block_of_ends = HEADER + 96 + 10 * BLOCK + 10 * 8 + BLOCK
    flip(path, second_block_of_ends + 8)
    segment = open_segment(PosixDisk(), path)
    with pytest.raises(SegmentDamaged, match="ends: checksum mismatch") as caught:
        segment.boundary(0, 9 * BLOCK)
    assert (caught.value.stream_id, caught.value.stream_position) == (1, None)
    with pytest.raises(SegmentDamaged, match="ends: checksum mismatch"):
        segment.ends(0)
    with pytest.raises(SegmentDamaged, match="ends: checksum mismatch"):
        segment.boundary(0, 8 * BLOCK + 64)  # the first end of the block
    assert segment.boundary(0, 640) == 2  # though a search would start in the damaged block
    assert segment.append_ends(0, 0, 200).tolist() == [64, 128, 192]
    assert segment.chunk_end(0, 0, 8 * BLOCK, 1000, False) == 960
    assert segment.read(0, 9 * BLOCK, 10 * BLOCK) == data[9 * BLOCK :]


def test_damage_after_the_first_reading_is_found_by_verify_and_served_no_more(large):
    path, data = large
    segment = open_segment(PosixDisk(), path)
    assert segment.read(0, 0, BLOCK) == data[:BLOCK]
    flip(path, HEADER + 96 + 3)
    found = [damage for damage in segment.verify() if damage is not None]
    assert [(damage.stream_id, damage.position) for damage in found] == [(1, HEADER + 96)]
    with pytest.raises(SegmentDamaged):
        segment.read(0, 0, BLOCK)


def test_each_damage_is_reported_once(large):
    path, _ = large
    content = path.read_bytes()
    row_of_the_second = content.index(b"two", HEADER + 96 + 10 * BLOCK)
    for position in (HEADER, HEADER + 96, HEADER + 96 + 2 * BLOCK, row_of_the_second):
        flip(path, position)
    found = [damage for damage in open_segment(PosixDisk(), path).verify() if damage]
    assert [(damage.stream_id, damage.what.split(":")[0]) for damage in found] == [
        (1, "wire bytes"),
        (1, "wire bytes"),
        (1, "extent header"),
        (2, "row"),
    ]


def test_a_damaged_row_is_named(path):
    flip(path, 4240)
    segment = open_segment(PosixDisk(), path)
    with pytest.raises(SegmentDamaged, match="row: checksum mismatch, at byte 4240, stream 3"):
        segment.row(0)
    assert segment.row(1) == b"r"


def test_the_store_id_has_16_bytes(path):
    from durastream._native.segment import Segment

    with pytest.raises(ValueError, match="16 bytes"):
        Segment(PosixDisk(), str(path), store_id=STORE_ID[:3], number=7)
