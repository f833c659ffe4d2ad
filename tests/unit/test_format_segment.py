"""docs/format-segment.md, the golden file and both readers say the same, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import PosixDisk
from durastream.engine.segment_py import WholeExtent, read_segment
from support.segments import STORE_ID, WatchedDisk, open_segment, write

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "segment-1.seg"
DOCUMENT = TESTS.parent / "docs" / "format-segment.md"

EXTENTS = [
    (3, 10, [[b"abc"], [b"de", b"fgh"]], b"row3"),
    (5, 0, [], b"five"),
]


def test_the_writer_still_writes_the_golden_file(tmp_path):
    path = tmp_path / "7.seg"
    write(DelegatedDisk(WatchedDisk()), path, EXTENTS)
    assert path.read_bytes() == GOLDEN.read_bytes()


def test_the_documents_example_is_the_golden_file():
    example = DOCUMENT.read_text().split("## Example")[1]
    rows = re.findall(r"^(\d+) +((?:[0-9a-f]{2} ){7,15}[0-9a-f]{2})", example, re.MULTILINE)
    content = bytearray(GOLDEN.stat().st_size)
    for position, row in rows:
        octets = bytes.fromhex(row)
        content[int(position) : int(position) + len(octets)] = octets
    content[4352:4448] = content[4096:4192]  # the index: "the two extent headers again"
    content[4448:4544] = content[4248:4344]
    assert len(rows) > 20
    assert bytes(content) == GOLDEN.read_bytes()


def test_the_native_reader_reads_the_golden_file():
    segment = open_segment(PosixDisk(), GOLDEN)
    assert (segment.number, segment.level, segment.created_ms) == (7, 0, 1_700_000_000_000)
    assert (segment.after_lsn, segment.upto_lsn) == (40, 44)
    assert (segment.size, segment.data_size, segment.message_count) == (4672, 8, 3)
    assert [tuple(segment.extent(index)) for index in (0, 1)] == [
        (3, 10, 18, 3, 4),
        (5, 0, 0, 0, 4),
    ]
    assert segment.read(0, 10, 18) == b"abcdefgh"
    assert segment.ends(0).tolist() == [13 << 1 | 1, 15 << 1, 18 << 1 | 1]
    assert (segment.row(0), segment.row(1)) == (b"row3", b"five")
    assert set(segment.verify()) == {None}


def test_the_twin_reads_the_golden_file():
    header, extents = read_segment(GOLDEN.read_bytes())
    assert (header.store_id, header.number) == (STORE_ID, 7)
    ends = [(13, True), (15, False), (18, True)]
    assert extents == [
        WholeExtent(3, 10, b"abcdefgh", ends, b"row3"),
        WholeExtent(5, 0, b"", [], b"five"),
    ]


@pytest.mark.parametrize("position", [0, 2000, 4095, 4100, 4192, 4210, 4242, 4360, 4600, 4671])
def test_the_twin_refuses_a_flipped_bit(position):
    content = bytearray(GOLDEN.read_bytes())
    content[position] ^= 1
    with pytest.raises(ValueError, match="at byte"):
        read_segment(bytes(content))
