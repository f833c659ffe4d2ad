"""Find and read the bytes of a range: own and inherited, flushed and not (I5, I6).

A ``View`` is a snapshot taken under the store's lock; reading it needs no lock. Its spans run
from the root of a chain of forks down to the stream itself. In each span the unflushed tail
lies in the log's slabs, the rest in segments. A flush may move bytes from the one to the other
meanwhile: then ``TailMoved`` is raised and the caller takes a new view.

Segments are read only where the caller may wait for the disk (I9); elsewhere ``NeedsDisk``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .._native.errors import TailMoved
from .._native.segment import Segment
from .._native.tail import Tail
from ..protocol.headers import is_json
from ..protocol.offset import format_offset
from ..protocol.results import Bytes
from ..protocol.state import StreamState
from .errors import StoreBusy, StreamQuarantined
from .options import READ_SIZE_MAX
from .records import QuarantineMeta

BOUNDARY_APPEND = 2  # what ``boundary`` returns for the end of an append
BOUNDARY_MESSAGE = 1

COPY_SIZE_MAX = 64 * 1024  # bytes that a reader gets as a copy where it may not pin memory


class NeedsDisk(Exception):
    """The range lies in segments, and the caller must not wait for a disk."""


@dataclass(frozen=True, slots=True)
class Span:
    """Positions [start, end) of a stream that is held under one stream id."""

    stream_id: int
    start: int
    end: int
    tail: Tail


@dataclass(frozen=True, slots=True)
class View:
    """A stream as it is visible, and where its bytes are."""

    state: StreamState
    spans: Sequence[Span]  # root first, without gaps, from 0 to the visible tail
    segments: Sequence[Segment]  # newest first
    quarantine: QuarantineMeta | None = None  # nothing behind its position is served

    def ends_at(self, position: int) -> bool:
        """Whether only an error comes behind it, even if it is the tail that is known."""
        return self.quarantine is not None and position >= self.quarantine.position


@dataclass(slots=True)
class Chunk:
    """Bytes [start, end) of a stream."""

    start: int
    end: int
    buffers: list[Bytes]
    append_ends: list[int]
    tail_size: int = 0  # bytes of it that are not flushed: their buffers keep slabs in memory


class Reader(Protocol):
    """The bytes of one stream in one place; positions are the stream's. ``Tail`` is one."""

    def boundary(self, position: int) -> int: ...

    def append_start(self, position: int) -> int: ...

    def chunk_end(self, start: int, limit: int, size_max: int, whole_messages: bool) -> int: ...

    def message_end(self, start: int, count: int) -> int: ...

    def append_ends(self, start: int, end: int) -> Sequence[int]: ...

    def read(self, start: int, end: int) -> Sequence[Bytes]: ...


class ExtentReader:
    """A ``Reader`` of one extent of a segment."""

    __slots__ = ("_index", "_segment")

    def __init__(self, segment: Segment, index: int) -> None:
        self._segment = segment
        self._index = index

    def boundary(self, position: int) -> int:
        return self._segment.boundary(self._index, position)

    def append_start(self, position: int) -> int:
        return self._segment.append_start(self._index, position)

    def chunk_end(self, start: int, limit: int, size_max: int, whole_messages: bool) -> int:
        return self._segment.chunk_end(self._index, start, limit, size_max, whole_messages)

    def message_end(self, start: int, count: int) -> int:
        return self._segment.message_end(self._index, start, count)

    def append_ends(self, start: int, end: int) -> Sequence[int]:
        return self._segment.append_ends(self._index, start, end)

    def read(self, start: int, end: int) -> list[Bytes]:
        return [self._segment.read(self._index, start, end)]


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes [start, end) that one reader holds."""

    reader: Reader
    start: int
    end: int


class RangeReader:
    """Reads one view.

    Args:
        may_wait: whether segments may be read, which can wait for the disk.
        may_pin: whether what is read may keep memory of the log from going when it is flushed.
    """

    def __init__(self, view: View, *, may_wait: bool, may_pin: bool = True) -> None:
        self._view = view
        self._may_wait = may_wait
        self._may_pin = may_pin
        self.located: list[tuple[int, int, int, int]] = []  # extents of the stream's own

    # -- what positions are ------------------------------------------------------------------

    def is_boundary(self, position: int) -> bool:
        """Whether readers of this stream can have been given ``position`` (section 10).

        In an append longer than a chunk they were also given cuts, see ``Reader.chunk_end``.
        """
        spans, quarantine = self._view.spans, self._view.quarantine
        if quarantine is not None and position >= quarantine.position:
            return True  # ``read`` says what is wrong behind it
        if position == 0 or any(position == span.end for span in spans if span.end):
            return True
        region = self._region(position)
        reader = region.reader
        boundary = BOUNDARY_APPEND if position == region.start else reader.boundary(position)
        if boundary == BOUNDARY_APPEND:
            return True
        begin = reader.append_start(position)
        chunk_end = min(region.end, begin + READ_SIZE_MAX)
        if position <= chunk_end and (
            chunk_end == region.end or len(reader.append_ends(position, chunk_end))
        ):
            return False  # the append is no longer than a chunk
        if is_json(self._view.state.content_type):
            return boundary == BOUNDARY_MESSAGE
        return (position - begin) % READ_SIZE_MAX == 0

    def message_end(self, start: int, count: int) -> int | None:
        """End of the ``count``-th message behind ``start``, within the append that starts there.

        Raises: StreamQuarantined, NeedsDisk, TailMoved, SegmentDamaged.
        """
        quarantine = self._view.quarantine
        if quarantine is not None and start >= quarantine.position:
            raise quarantined(self._view.state, quarantine)
        if start >= self._view.state.tail:
            return None
        region = self._region(start)
        end = region.reader.message_end(start, count)
        if end > region.end and not is_json(self._view.state.content_type):
            return region.end  # a fork's base cuts this append
        return None if end < 0 or end > region.end else end

    def append_start(self, position: int) -> int:
        """Where the append begins that holds the byte at ``position``, which is below the tail.

        Raises: StreamQuarantined, NeedsDisk, TailMoved, SegmentDamaged.
        """
        quarantine = self._view.quarantine
        if quarantine is not None and position >= quarantine.position:
            raise quarantined(self._view.state, quarantine)
        region = self._region(position)
        return max(region.start, region.reader.append_start(position))

    # -- bytes -------------------------------------------------------------------------------

    def read(self, start: int, size_max: int, *, whole_messages: bool) -> Chunk:
        """At most max(``size_max``, one message) bytes from ``start`` on.

        Raises: StreamQuarantined, NeedsDisk, TailMoved, SegmentDamaged; StoreBusy if it may not pin
        what is too large for a copy.
        """
        if not self._may_pin:
            size_max = min(size_max, COPY_SIZE_MAX)
        limit, quarantine = self._view.state.tail, self._view.quarantine
        if quarantine is not None:
            if start >= quarantine.position:
                raise quarantined(self._view.state, quarantine)
            limit = min(limit, quarantine.position)
        chunk = Chunk(start, start, [], [])
        while chunk.end < limit and chunk.end - start < size_max:
            if not self._extend(chunk, limit, size_max - (chunk.end - start), whole_messages):
                break
        if chunk.tail_size and not self._may_pin:
            _copy(chunk)
        return chunk

    def _extend(self, chunk: Chunk, limit: int, room: int, whole_messages: bool) -> bool:
        region = self._region(chunk.end)
        stop = min(limit, region.end)
        reader, start = region.reader, chunk.end
        end = reader.chunk_end(start, stop, room, whole_messages)
        if end - start > room or (end < stop and reader.boundary(end) != BOUNDARY_APPEND):
            if chunk.buffers:
                return False  # the next append does not fit, and a cut belongs into its own chunk
            if room < READ_SIZE_MAX:
                end = _one_append(reader, start, stop, whole_messages)
        chunk.buffers += reader.read(start, end)
        if isinstance(reader, Tail):
            chunk.tail_size += end - start
        chunk.append_ends += reader.append_ends(start, end)
        if end == region.end and chunk.append_ends[-1:] != [end]:
            chunk.append_ends.append(end)  # a fork's base cuts this append
        chunk.end = end
        return True

    def _region(self, position: int) -> Region:
        span = next(span for span in self._view.spans if span.start <= position < span.end)
        tail = span.tail
        held_from = tail.start
        if held_from <= position:
            return Region(tail, max(span.start, held_from), span.end)
        if not self._may_wait:
            raise NeedsDisk
        for segment in self._view.segments:
            index = segment.find(span.stream_id, position)
            if index >= 0:
                extent = segment.extent(index)
                start, end = max(span.start, extent.base), min(span.end, extent.end)
                if span.stream_id == self._view.state.stream_id:
                    self.located.append((start, end, segment.number, index))
                return Region(ExtentReader(segment, index), start, end)
        raise TailMoved


def _copy(chunk: Chunk) -> None:
    """Let go of the slabs."""
    if chunk.tail_size > COPY_SIZE_MAX:
        raise StoreBusy("slow readers hold all the memory that they may: try again")
    chunk.buffers = [b"".join(chunk.buffers)]


def quarantined(state: StreamState, quarantine: QuarantineMeta) -> StreamQuarantined:
    """The error for whoever wants to write, or to read behind the damage (I6)."""
    offset = format_offset(quarantine.position)
    return StreamQuarantined(f"{state.path}, from offset {offset} on", quarantine.where)


def first_damage(
    own: QuarantineMeta | None, inherited: QuarantineMeta | None, below: int
) -> QuarantineMeta | None:
    """Where a stream ends to be readable, if it inherits what lies ``below`` a position."""
    if inherited is None or inherited.position >= below:
        return own
    return inherited if own is None or inherited.position < own.position else own


def _one_append(reader: Reader, start: int, stop: int, whole_messages: bool) -> int:
    """The end of the append at ``start``, though it is larger than asked for; or of its cut."""
    ends = reader.append_ends(start, min(stop, start + READ_SIZE_MAX))
    return ends[0] if len(ends) else reader.chunk_end(start, stop, READ_SIZE_MAX, whole_messages)
