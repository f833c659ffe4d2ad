"""Read a damaged segment: every extent that its header, or the index, still describes.

Source: docs/format-segment.md. Each extent's header is a copy of its entry in the index, and
the seed of all checksums stands in the header and again in the footer: so one of each is
enough. Of an extent the bytes before its first damaged block are used, and its row if that is
whole. It only reads, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from .._native.checksum import xxh64
from .._native.disk import Disk
from .salvage_frames import read_all
from .segment_py import (
    BLOCK_SIZE,
    ENTRY,
    FOOTER,
    HEADER,
    VERSION,
    SegmentEntry,
    SegmentFooter,
    SegmentHeader,
    padded,
)

_HEADER_MAGIC, _FOOTER_MAGIC = b"DSEGMENT", b"DSEGFOOT"


@dataclass(slots=True)
class SalvagedExtent:
    """What is whole of one extent. Positions are the stream's."""

    stream_id: int
    base: int
    end: int  # as written
    data: memoryview  # its first bytes, up to the first damaged block
    ends: memoryview  # u64, format-segment.md "Ends": those of messages within ``data``
    row: bytes | None  # None: there is none, or it is damaged
    has_row: bool  # whether one was written
    damage: str | None = None  # what of it is damaged

    @property
    def data_end(self) -> int:
        """Position behind the last whole byte."""
        return self.base + len(self.data)

    @property
    def is_row_lost(self) -> bool:
        return self.has_row and self.row is None

    @property
    def append_end(self) -> int:
        """Position behind the last append that is whole."""
        for at in range(len(self.ends) - 1, -1, -1):
            if self.ends[at] & 1:
                return int(self.ends[at] >> 1)
        return self.base


@dataclass(slots=True)
class SalvagedSegment:
    """A damaged segment, as far as it can be read."""

    name: str
    header: SegmentHeader | None  # None: damaged
    extents: list[SalvagedExtent] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)  # bytes of the file where one may have been
    size: int = 0  # of the file

    @property
    def lacks_rows(self) -> bool:
        """Whether a row that was written may not be here."""
        return bool(self.unknown) or any(extent.is_row_lost for extent in self.extents)


def segment_header(page: bytes) -> SegmentHeader | None:
    """The header of a segment, None if it is damaged."""
    if len(page) < HEADER.size:
        return None
    header = SegmentHeader(*HEADER.unpack_from(page))
    if header.magic != _HEADER_MAGIC or header.version != VERSION:
        return None
    return header if header.checksum == xxh64(page[: HEADER.size - 8]) else None


def salvage_segment(disk: Disk, path: Path) -> SalvagedSegment:
    """Read the file at ``path``, whatever state it is in. Raises: OSError but EIO."""
    content, _ = read_all(disk, path)
    return _Reader(path.name, content).read()


class _Reader:
    """Goes through one file from extent to extent."""

    def __init__(self, name: str, content: bytes) -> None:
        self._content = content
        self._view = memoryview(content)
        self._found = SalvagedSegment(name, segment_header(content), size=len(content))
        self._footer = self._read_footer()
        self._seed = self._find_seed()
        self._index = dict(self._read_index())
        self._has_met_index = False

    def read(self) -> SalvagedSegment:
        found, position = self._found, HEADER.size
        if self._seed is None:
            found.unknown.append(0)
            return found
        stop = len(self._content)
        if self._footer is not None:
            stop = self._footer.index_position
        while position < stop:
            entry = self._entry(position, position) or self._index.get(position)
            if entry is None:
                position = self._next_known(position, stop)
                continue
            found.extents.append(self._extent(entry))
            position = _layout(entry)[3]
        if self._footer is None and not self._has_met_index:
            found.unknown.append(len(self._content))  # cut off: there may have been more
        return found

    # -- what describes the rest ---------------------------------------------------------------

    def _read_footer(self) -> SegmentFooter | None:
        at = len(self._content) - FOOTER.size
        if at < HEADER.size:
            return None
        footer = SegmentFooter(*FOOTER.unpack_from(self._content, at))
        if footer.magic != _FOOTER_MAGIC or footer.checksum != xxh64(self._view[at : at + 120]):
            return None
        return footer if footer.index_position <= at else None

    def _find_seed(self) -> int | None:
        """The header's checksum; where the header is damaged, what may be it and proves to be."""
        if self._found.header is not None:
            return self._found.header.checksum
        candidates = [self._footer.header_checksum] if self._footer is not None else []
        if len(self._content) >= HEADER.size:
            candidates.append(
                int.from_bytes(self._content[HEADER.size - 8 : HEADER.size], "little")
            )
        for seed in candidates:
            if self._is_entry(HEADER.size, seed):
                return seed
        return candidates[0] if self._footer is not None else None

    def _is_entry(self, at: int, seed: int) -> bool:
        if at + ENTRY.size > len(self._content):
            return False
        checksum = int.from_bytes(self._content[at + ENTRY.size - 8 : at + ENTRY.size], "little")
        return checksum == xxh64(self._view[at : at + ENTRY.size - 8], seed)

    def _entry(self, at: int, position: int | None = None) -> SegmentEntry | None:
        """The whole entry at ``at``; as an extent's header it describes its own ``position``."""
        if self._seed is None or not self._is_entry(at, self._seed):
            return None
        entry = SegmentEntry(*ENTRY.unpack_from(self._content, at))
        return entry if position in (None, entry.position) else None

    def _read_index(self) -> Iterator[tuple[int, SegmentEntry]]:
        """The whole entries of the index, by the position of their extents."""
        end = len(self._content) - FOOTER.size
        start = self._footer.index_position if self._footer is not None else end
        for at in range(start, end - ENTRY.size + 1, ENTRY.size):
            entry = self._entry(at)
            if entry is not None:
                yield entry.position, entry

    def _next_known(self, position: int, stop: int) -> int:
        """Behind a place that nothing describes: the next extent that something does."""
        self._found.unknown.append(position)
        known = min((at for at in self._index if at > position), default=stop)
        for at in range(position + 8, min(known, stop), 8):
            if self._entry(at, at) is not None:
                return at
        if self._footer is None:
            self._forget_index(position)
        return known

    def _forget_index(self, position: int) -> None:
        """Without a footer the index is met like an extent that nothing describes."""
        first = self._entry(position)
        if first is not None and first.position == HEADER.size:
            self._found.unknown.pop()
            self._has_met_index = True

    # -- one extent ----------------------------------------------------------------------------

    def _extent(self, entry: SegmentEntry) -> SalvagedExtent:
        data_at, ends_at, row_at, behind = _layout(entry)
        size = entry.end - entry.base
        data, damage = self._blocks(data_at, padded(size), "wire bytes")
        raw_ends, ends_damage = self._blocks(ends_at, 8 * entry.message_count, "ends")
        data = data[:size]
        ends = self._good_ends(entry, raw_ends, entry.base + len(data))
        if ends_damage is not None:
            data = data[: (int(ends[-1] >> 1) if len(ends) else entry.base) - entry.base]
        row, row_damage = self._row(entry, row_at, behind)
        return SalvagedExtent(
            entry.stream_id, entry.base, entry.end, data, ends, row, entry.row_size > 0,
            damage or ends_damage or row_damage,
        )  # fmt: skip

    def _blocks(self, at: int, size: int, what: str) -> tuple[memoryview, str | None]:
        """The whole blocks in front of a part, and what is wrong with the next one."""
        assert self._seed is not None
        checksums = at + size
        for number, offset in enumerate(range(0, size, BLOCK_SIZE)):
            start, place = at + offset, checksums + 8 * number
            block = self._view[start : start + min(BLOCK_SIZE, size - offset)]
            stored = int.from_bytes(self._content[place : place + 8], "little")
            if place + 8 > len(self._content) or stored != xxh64(
                block, (self._seed + start) % 2**64
            ):
                return self._view[at:start], f"{what} at byte {start}"
        return self._view[at : at + size], None

    def _good_ends(self, entry: SegmentEntry, raw: memoryview, data_end: int) -> memoryview:
        """Ends of messages that are whole, as far as the ends themselves make sense."""
        ends = raw[: len(raw) - len(raw) % 8].cast("Q")
        count = 0
        for low, high in pairwise([entry.base << 1, *ends]):
            if high >> 1 <= low >> 1 or high >> 1 > data_end:
                break
            count += 1
        return ends[:count]

    def _row(self, entry: SegmentEntry, at: int, behind: int) -> tuple[bytes | None, str | None]:
        if not entry.row_size:
            return None, None
        row = self._content[at : at + entry.row_size]
        if len(row) < entry.row_size or xxh64(row, self._seed or 0) != entry.row_checksum:
            return None, f"row at byte {at}"
        return row, None


def _layout(entry: SegmentEntry) -> tuple[int, int, int, int]:
    """Where wire bytes, ends and row of an extent begin, and what follows it."""
    data = entry.position + ENTRY.size
    size = padded(entry.end - entry.base)
    ends = data + size + 8 * -(-size // BLOCK_SIZE)
    ends_size = 8 * entry.message_count
    row = ends + ends_size + 8 * -(-ends_size // BLOCK_SIZE)
    return data, ends, row, row + padded(entry.row_size)
