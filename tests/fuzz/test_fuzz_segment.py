"""Segments of any bytes: read right, or damaged; never beyond the file, never for ever."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.disk import PosixDisk
from durastream._native.segment import SegmentDamaged
from durastream.engine.records import decode_segment_row
from support.fuzzing import examples
from support.mutations import kept, mutated, mutations, sealed_segment
from support.segments import open_segment, write

DISK = PosixDisk()
EXTENTS = [
    (3, 10, [[b"abc"], [b"de", b"fgh"]], b"row3"),
    (4, 0, [[bytes(range(256)) * 300, b"x"]], b"r"),  # several blocks
    (5, 0, [], b"five"),
    (5, 100, [[b"1,"] * 9000], b""),  # several blocks of ends
]
CONTENTS = {(i, e[1]): b"".join(m for a in e[2] for m in a) for i, e in enumerate(EXTENTS)}
STEPS_MAX = 10_000  # of a verification: far more than the file has blocks
FOUND = (SegmentDamaged, ValueError, IndexError, OSError)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "7.seg"
    write(DISK, path, EXTENTS)
    return path.read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "7.seg"


def examine(path, content, *, is_right):
    """Use everything that a segment offers; ``is_right``: what is served must be the original."""
    path.unlink(missing_ok=True)  # never in place: an earlier one may be mapped
    path.write_bytes(content)
    try:
        segment = open_segment(DISK, path)
    except FOUND:
        return
    try:
        for index in range(min(segment.extent_count, 10)):
            examine_extent(segment, index, is_right)
        for stream_id in (0, 3, 4, 5, 2**64 - 1):
            segment.extents_of(stream_id)
            for position in (0, 12, 2**63, 2**64 - 1):
                segment.find(stream_id, position)
                segment.find_end(stream_id, position)
        count = sum(1 for _ in segment.verify())
        assert count < STEPS_MAX
    finally:
        segment.close()


def examine_extent(segment, index, is_right):
    extent = segment.extent(index)
    base, end = extent.base, extent.end
    middle = base + (end - base) // 2
    with suppress(*FOUND):
        served = bytes(segment.read(index, base, end))
        assert len(served) == end - base
        assert not is_right or served == CONTENTS[index, base]
    for start, stop in ((base, middle), (middle, end), (base - 1, end), (base, end + 1), (end, 0)):
        for use in (
            lambda start=start, stop=stop: segment.read(index, start, stop),
            lambda start=start, stop=stop: segment.resident(index, start, stop),
            lambda start=start, stop=stop: segment.append_ends(index, start, stop),
            lambda start=start, stop=stop: segment.cut(index, start, stop),
            lambda start=start, stop=stop: segment.chunk_end(index, start, stop, 10, True),
            lambda start=start, stop=stop: segment.chunk_end(index, start, stop, 10, False),
            lambda start=start: segment.boundary(index, start),
            lambda start=start: segment.append_start(index, start),
            lambda start=start: segment.message_end(index, start, 2),
            lambda: segment.ends(index),
            lambda: decode_segment_row(segment.row(index)),
        ):
            with suppress(*FOUND, OverflowError):
                use()


@examples(250)
@given(mutation=mutations())
def test_mutated_segments(original, path, mutation):
    content = mutated(original, mutation["steps"])
    if mutation["sealed"]:
        content = sealed_segment(content)
    examine(path, content, is_right=not mutation["sealed"])


@examples(100)
@given(content=st.binary(max_size=9000))
def test_any_bytes(path, content):
    examine(path, content, is_right=False)


@pytest.mark.parametrize("number", range(len(kept("segment"))))
def test_what_was_found_once(original, path, number):
    mutation = kept("segment")[number]
    content = mutated(original, mutation["steps"])
    examine(path, sealed_segment(content) if mutation["sealed"] else content, is_right=False)


def test_sealing_makes_checksums_agree(original, path):
    """Else the sealed mutations would all be refused at once, and show nothing."""
    assert sealed_segment(original) == original
    changed = bytearray(original)
    changed[4096 + 96] ^= 1  # the first wire byte
    path.unlink(missing_ok=True)
    path.write_bytes(sealed_segment(bytes(changed)))
    segment = open_segment(DISK, path)
    assert bytes(segment.read(0, 10, 18)) == b"`bcdefgh"
    assert [found for found in segment.verify() if found is not None] == []
    segment.close()
