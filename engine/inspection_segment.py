"""One segment as plain values: its header, and every extent with its stream and its row.

For ``durastream inspect --segment``. What is damaged is shown as such; whose fault it is, and
what to do, ``verify`` says. Source: docs/format-segment.md. It only reads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from .._native.segment import Segment, SegmentDamaged
from .inspection import listed_segments, open_store
from .inspection_log import NotThere
from .records import decode_segment_row

Plain = dict[str, Any]


def inspect_segment(path: Path, number: int) -> Plain:
    """Segment ``number``, listed by the rows or not.

    Raises: NotThere, DirectoryInUse, UnknownFormat, OpenError, OSError.
    """
    with open_store(path) as store:
        file = store.directory.segment(number)
        listed = any(entry.number == number for entry in listed_segments(store))
        found: Plain = {"number": number, "file": file.name, "listed": listed}
        if not store.disk.exists(file):
            raise NotThere(f"{path}: no file of segment {number}{', which is listed' * listed}")
        try:
            segment = Segment(
                store.disk, os.fspath(file), store_id=store.directory.store_id, number=number
            )
        except SegmentDamaged as damage:
            return {**found, "problem": f"{damage.what}, at byte {damage.position}"}
        try:
            return {**found, **_segment(segment), "problem": None}
        finally:
            segment.close()


def _segment(segment: Segment) -> Plain:
    return {
        "level": segment.level,
        "after_lsn": segment.after_lsn,
        "upto_lsn": segment.upto_lsn,
        "created_ms": segment.created_ms,
        "size": segment.size,
        "data_size": segment.data_size,
        "messages": segment.message_count,
        "extents": [_extent(segment, index) for index in range(segment.extent_count)],
    }


def _extent(segment: Segment, index: int) -> Plain:
    extent = segment.extent(index)
    found: Plain = {
        "stream_id": extent.stream_id,
        "base": extent.base,
        "end": extent.end,
        "messages": extent.message_count,
        "path": None,
        "row_lsn": None,
        "removed": False,
        "producers": 0,
        "problem": None,
    }
    if not extent.row_size:
        return found
    try:
        kept = decode_segment_row(segment.row(index))
    except SegmentDamaged as damage:
        return {**found, "problem": f"{damage.what}, at byte {damage.position}"}
    except msgspec.DecodeError as error:
        return {**found, "problem": f"the row cannot be decoded: {error}"}
    row = kept.row
    found |= {"row_lsn": row.lsn, "removed": row.state is None, "producers": len(kept.producers)}
    if row.state is not None:
        found["path"] = row.state.path
    return found
