"""How many bytes of each segment a flush leaves dead: what compaction goes by.

An estimate, kept in the rows of segments: bytes of streams that were removed, and those that
retention gave up while no fork needed them. It may be too high (a fork's source that was trimmed
before is counted again), never decides what is dropped, and is exact again after a merge.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from .._native.segment import Segment
from .entry import Dirty
from .metadata import SegmentEntry

_EVERYTHING = (1 << 63) - 1


def with_dead(
    segments: Sequence[Segment], listed: dict[int, SegmentEntry], dirty: Iterable[Dirty]
) -> list[SegmentEntry]:
    """The rows of those segments of which more is dead, once these changes are made."""
    ids, starts, ends = array("Q"), array("Q"), array("Q")
    for row in dirty:
        if row.state is None:
            found = (row.stream_id, 0, _EVERYTHING)
        elif row.trimmed_from is not None and not row.state.ref_count:
            found = (row.stream_id, row.trimmed_from, row.state.earliest)
        else:
            continue
        for values, value in zip((ids, starts, ends), found, strict=True):
            values.append(value)
    if not ids:
        return []
    return list(_changed(segments, listed, (ids, starts, ends)))


def dead_on_arrival(segment: Segment, dirty: Iterable[Dirty]) -> int:
    """Bytes of a flush's own segment that retention gave up before they were flushed."""
    found = [
        (row.stream_id, 0, row.state.earliest)
        for row in dirty
        if row.trimmed_from is not None and row.state is not None and not row.state.ref_count
    ]
    if not found:
        return 0
    ids, starts, ends = (array("Q", values) for values in zip(*found, strict=True))
    return min(segment.size, segment.held_size(ids, starts, ends))


def _changed(
    segments: Sequence[Segment],
    listed: dict[int, SegmentEntry],
    ranges: tuple[array[int], array[int], array[int]],
) -> Iterable[SegmentEntry]:
    for segment in segments:
        size = segment.held_size(*ranges)
        if size:
            entry = listed[segment.number]
            yield replace(entry, dead_size=min(entry.size, entry.dead_size + size))
