"""Readable twin of the native reader of segments: the format, with nothing in its way.

Source: docs/format-segment.md. For tests, for tools that inspect or repair, and for reading;
never on a hot path: it copies what it reads and checks everything first. Only the checksum is
not its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from .._native.checksum import xxh64

HEADER = struct.Struct("<8sII16sQQQQ4024sQ")
ENTRY = struct.Struct("<QQQQQIIQ32sQ")
FOOTER = struct.Struct("<8sIIQQQQQQ56sQ")
BLOCK_SIZE = 64 * 1024
VERSION = 1


class SegmentInvalid(ValueError):
    """Not a segment, or not as it was written; the message names part and position."""


class SegmentHeader(NamedTuple):
    magic: bytes
    version: int
    level: int
    store_id: bytes
    number: int
    after_lsn: int
    upto_lsn: int
    created_ms: int
    reserved: bytes
    checksum: int


class SegmentEntry(NamedTuple):
    stream_id: int
    base: int
    end: int
    position: int
    message_count: int
    row_size: int
    flags: int
    row_checksum: int
    reserved: bytes
    checksum: int


class SegmentFooter(NamedTuple):
    magic: bytes
    version: int
    flags: int
    header_checksum: int
    index_position: int
    extent_count: int
    data_size: int
    message_count: int
    file_size: int
    reserved: bytes
    checksum: int


class WholeExtent(NamedTuple):
    """An extent with all its parts. ``ends`` are (position, whether an append ends there)."""

    stream_id: int
    base: int
    data: bytes
    ends: list[tuple[int, bool]]
    row: bytes


def require(condition: bool, what: str, position: int) -> None:
    if not condition:
        raise SegmentInvalid(f"{what}, at byte {position}")


def padded(size: int) -> int:
    return -(-size // 8) * 8


def read_segment(content: bytes) -> tuple[SegmentHeader, list[WholeExtent]]:
    """Everything in a segment, after checking every byte of it. Raises: SegmentInvalid."""
    header = read_header(content)
    footer = read_footer(content, header)
    extents, behind = [], HEADER.size
    for entry in read_index(content, header, footer):
        require(entry.position == behind, "gap or overlap before the extent", entry.position)
        extent, behind = read_extent(content, entry, header.checksum)
        extents.append(extent)
    require(behind == footer.index_position, "gap before the index", behind)
    require(sum(len(x.data) for x in extents) == footer.data_size, "data size", len(content))
    require(sum(len(x.ends) for x in extents) == footer.message_count, "messages", len(content))
    return header, extents


def read_header(content: bytes) -> SegmentHeader:
    require(len(content) >= HEADER.size + FOOTER.size, "too short", len(content))
    header = SegmentHeader(*HEADER.unpack_from(content))
    require(header.magic == b"DSEGMENT", "header: magic", 0)
    require(header.version == VERSION, "header: version", 8)
    require(header.checksum == xxh64(content[: HEADER.size - 8]), "header: checksum", 0)
    require(not any(header.reserved), "header: reserved bytes", 64)
    return header


def read_footer(content: bytes, header: SegmentHeader) -> SegmentFooter:
    at = len(content) - FOOTER.size
    footer = SegmentFooter(*FOOTER.unpack_from(content, at))
    require(footer.magic == b"DSEGFOOT", "footer: magic", at)
    require(footer.version == VERSION, "footer: version", at + 8)
    require(footer.checksum == xxh64(content[at:-8]), "footer: checksum", at)
    require(footer.header_checksum == header.checksum, "footer: of another header", at)
    require(footer.file_size == len(content), "footer: file size", at)
    require(footer.flags == 0 and not any(footer.reserved), "footer: reserved bytes", at)
    index_size = footer.extent_count * ENTRY.size
    require(footer.index_position + index_size == at, "footer: index position", at)
    return footer


def read_index(
    content: bytes, header: SegmentHeader, footer: SegmentFooter
) -> Iterator[SegmentEntry]:
    last = (-1, 0)
    for number in range(footer.extent_count):
        at = footer.index_position + number * ENTRY.size
        entry = SegmentEntry(*ENTRY.unpack_from(content, at))
        checksum = xxh64(content[at : at + ENTRY.size - 8], header.checksum)
        require(entry.checksum == checksum, "entry: checksum", at)
        require((entry.stream_id, entry.base) >= last, "entry: out of order", at)
        require(entry.flags == 0 and not any(entry.reserved), "entry: reserved bytes", at)
        last = entry.stream_id, entry.end
        yield entry


def read_extent(content: bytes, entry: SegmentEntry, seed: int) -> tuple[WholeExtent, int]:
    """The extent, and the position behind it."""
    at = entry.position
    copy = ENTRY.unpack_from(content, at)
    require(copy == entry, "extent header differs from the index", at)
    size = entry.end - entry.base
    data, at = read_blocks(content, at + ENTRY.size, padded(size), seed)
    require(not any(data[size:]), "wire bytes: padding", at)
    raw_ends, at = read_blocks(content, at, 8 * entry.message_count, seed)
    row = content[at : at + entry.row_size]
    require(xxh64(row, seed) == entry.row_checksum, "row: checksum", at)
    behind = at + padded(entry.row_size)
    require(not any(content[at + entry.row_size : behind]), "row: padding", at)
    ends = [(end >> 1, bool(end & 1)) for (end,) in struct.iter_unpack("<Q", raw_ends)]
    require_ends(entry, ends)
    return WholeExtent(entry.stream_id, entry.base, data[:size], ends, row), behind


def read_blocks(content: bytes, position: int, size: int, seed: int) -> tuple[bytes, int]:
    """A part whose blocks are followed by their checksums, and the position behind those."""
    part = content[position : position + size]
    at = position + size
    for offset in range(0, size, BLOCK_SIZE):
        block = part[offset : offset + BLOCK_SIZE]
        (checksum,) = struct.unpack_from("<Q", content, at)
        seed_here = (seed + position + offset) % 2**64
        require(xxh64(block, seed_here) == checksum, "block: checksum", position + offset)
        at += 8
    return part, at


def require_ends(entry: SegmentEntry, ends: list[tuple[int, bool]]) -> None:
    positions = [entry.base, *(position for position, _ in ends)]
    ascending = all(low < high for low, high in pairwise(positions))
    require(ascending and positions[-1] == entry.end, "ends: out of order", entry.position)
    require(not ends or ends[-1][1], "ends: the last is no append's", entry.position)
