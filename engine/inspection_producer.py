"""What a stream knows of one producer, and how it came to know it.

For ``durastream inspect PATH --producer ID``: a fenced producer gets 403 because a newer epoch
wrote; this says which record or which segment brought it. Rules: docs/protocol.md, idempotent
producers. It only reads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from .._native.segment import SegmentDamaged
from ..protocol.state import ProducerState
from .inspection import StreamLook, listed_segments, look_at_stream, open_segment, open_store
from .records import AppendMeta, decode_meta, decode_segment_row

Plain = dict[str, Any]


def inspect_producer(path: Path, stream: str, producer_id: str) -> Plain | None:
    """The history of a producer of a stream, oldest first; None if there is no such stream.

    Segments tell its state as of each flush; the log behind the checkpoint, every accepted
    batch. Raises: DirectoryInUse, UnknownFormat, OpenError, Damaged, OSError.
    """
    with open_store(path) as store:
        look = look_at_stream(store, stream)
        if look is None or look.state is None:
            return None
        problems: list[str] = []
        history = [*_in_segments(look, producer_id, problems), *_in_log(look, producer_id)]
        return {
            "path": look.state.path,
            "stream_id": look.stream_id,
            "producer_id": producer_id,
            "closed": look.state.closed,
            "history": history,
            "problems": problems,
            **_conclusion(history),
        }


def _in_segments(look: StreamLook, producer_id: str, problems: list[str]) -> list[Plain]:
    found = []
    for entry in sorted(listed_segments(look.store), key=lambda entry: entry.upto_lsn):
        segment = open_segment(look.store, entry)
        if isinstance(segment, str):
            problems.append(f"segment {entry.number}: {segment}")
            continue
        for _, _, index in segment.extents_of(look.stream_id):
            try:
                if not segment.extent(index).row_size:
                    continue
                producers = decode_segment_row(segment.row(index)).producers
            except (SegmentDamaged, msgspec.DecodeError) as error:
                problems.append(f"segment {entry.number}: {error}")
                continue
            if producer_id in producers:
                place = {"segment": entry.number, "first_lsn": entry.after_lsn + 1}
                found.append({**place, "lsn": entry.upto_lsn, **_state(producers[producer_id])})
        segment.close()
    return found


def _in_log(look: StreamLook, producer_id: str) -> list[Plain]:
    found = []
    for frame in look.store.scan_log():
        for record in frame.records:
            if record.stream_id != look.stream_id or record.damaged:
                continue
            try:
                meta = decode_meta(record.kind, record.meta)
            except (ValueError, msgspec.DecodeError):
                continue
            if isinstance(meta, AppendMeta) and meta.producer_id == producer_id:
                state = ProducerState(meta.producer_epoch, meta.producer_seq, meta.accessed_at)
                place = {"file": os.path.basename(frame.file), "position": record.position}
                found.append({**place, "lsn": record.lsn, **_state(state)})
    return found


def _state(state: ProducerState) -> Plain:
    return {"epoch": state.epoch, "seq": state.last_seq, "at": state.last_updated}


def _conclusion(history: list[Plain]) -> Plain:
    """Where the present epoch came from, and what would be accepted next."""
    if not history:
        return {"epoch": None, "last_seq": None, "epoch_from": None, "next": [[0, 0]]}
    last = history[-1]
    first = next(entry for entry in history if entry["epoch"] == last["epoch"])
    return {
        "epoch": last["epoch"],
        "last_seq": last["seq"],
        "epoch_from": first,  # in a segment: the epoch came with a record of its LSNs
        "next": [[last["epoch"], last["seq"] + 1], [last["epoch"] + 1, 0]],
    }
