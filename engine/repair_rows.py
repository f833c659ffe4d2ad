"""What is known of each stream before the log is replayed: from segments, or else from LMDB.

Segments describe themselves, so of a stream the newest row in any of them counts (I2). LMDB is
asked only where a segment, or a row in one, is gone; and only if its list of segments shows that
it belongs to them. It only reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import lmdb
import msgspec

from ..protocol.state import ProducerState
from .errors import Damaged
from .findings import Findings
from .metadata import Checkpoint, Metadata, ProducerRow, SegmentEntry, id_key
from .options import FileStoreOptions
from .records import Row, decode_row
from .repair_segments import SegmentFile, SegmentReader, Segments
from .verify_rows import Rows, read_rows

_split = msgspec.msgpack.Decoder(tuple[msgspec.Raw, dict[str, ProducerState]]).decode
Producers = dict[str, ProducerState]


@dataclass(slots=True)
class Known:
    """A stream. ``raw`` are the bytes of its row in the newest segment that has one."""

    stream_id: int
    row: Row  # state None: removed
    raw: bytes | None = None
    producers: Producers = field(default_factory=dict)
    stored_producers: Producers = field(default_factory=dict)  # those that segments hold
    doubt: str | None = None  # why nobody can tell whether this is all of it
    is_newer: bool = False  # ``row`` is not the one in ``raw``


class Doubt(NamedTuple):
    """A row is damaged of which LMDB, if it is as new as ``upto_lsn``, has a copy."""

    what: str
    upto_lsn: int


class OldRows:
    """The rows that LMDB still has, if it is this store's."""

    def __init__(self, rows: Rows, checkpoint: Checkpoint, *, has_all_streams: bool) -> None:
        self._rows = rows
        self.checkpoint = checkpoint
        self._has_all_streams = has_all_streams
        self._producers: dict[int, Producers] | None = None

    @property
    def segments(self) -> list[SegmentEntry]:
        return self._rows.segments

    @property
    def stream_ids(self) -> Iterable[int]:
        return self._rows.streams.keys()

    def row(self, stream_id: int) -> tuple[Row, bytes] | None:
        raw = self._rows.streams.get(stream_id)
        return None if raw is None else (decode_row(raw), raw)

    def lacks(self, stream_id: int) -> bool:
        """Whether there was certainly no such stream as of the checkpoint."""
        damaged = ("streams", id_key(stream_id)) in self._rows.damaged
        return self._has_all_streams and not damaged and stream_id not in self._rows.streams

    def producers(self, stream_id: int) -> Producers:
        if self._producers is None:
            self._producers = {}
            for key, value in self._rows.producers.items():
                found = msgspec.msgpack.decode(value, type=ProducerRow)
                of_stream = self._producers.setdefault(int.from_bytes(key[:8], "big"), {})
                of_stream[found.producer_id] = found.state
        return self._producers.get(stream_id, {})


def read_old_rows(
    directory: Path, store_id: bytes, headers: dict[int, SegmentEntry]
) -> OldRows | None:
    """LMDB's rows, None if they cannot be read, or are of another store than the segments.

    Args:
        store_id: that they must name.
        headers: the segments as they describe themselves.
    """
    map_size = FileStoreOptions().lmdb_map_size
    if not (directory / "data.mdb").exists():
        return None
    try:
        metadata = Metadata(directory, map_size=map_size, read_only=True, store_id=store_id)
    except (lmdb.Error, Damaged, msgspec.DecodeError):
        return None
    try:
        return _read(metadata, headers)
    except (lmdb.Error, Damaged, msgspec.DecodeError):
        return None
    finally:
        metadata.close()


def _read(metadata: Metadata, headers: dict[int, SegmentEntry]) -> OldRows | None:
    checkpoint = metadata.checkpoint()
    rows = read_rows(metadata, Findings())
    if checkpoint is None or not rows.is_complete or not _belongs(rows.segments, headers):
        return None
    count = len(rows.streams) + sum(table == "streams" for table, _ in rows.damaged)
    has_all = count == metadata.recorded_sum("streams").count
    return OldRows(rows, checkpoint, has_all_streams=has_all)


def _belongs(listed: list[SegmentEntry], headers: dict[int, SegmentEntry]) -> bool:
    """Nothing in LMDB names its store: the segments that it lists must be those that are there."""
    same = differing = 0
    for entry in listed:
        header = headers.get(entry.number)
        if header is not None:
            ranges = (entry.after_lsn, entry.upto_lsn), (header.after_lsn, header.upto_lsn)
            same, differing = same + (ranges[0] == ranges[1]), differing + (ranges[0] != ranges[1])
    return same > differing if headers else True


def gather(reader: SegmentReader, segments: Segments, old: OldRows | None) -> dict[int, Known]:
    """Every stream that segments or LMDB know, as of the newest of them."""
    known: dict[int, Known] = {}
    doubts: dict[int, Doubt] = {}
    for file in reversed(segments.files):
        _take_rows(reader, file, known, doubts)
    for found in known.values():
        found.producers = dict(found.stored_producers)
    if old is not None and not segments.has_all_rows:
        _ask(old, known, doubts)
    for stream_id, doubt in doubts.items():
        if stream_id in known:
            known[stream_id].doubt = doubt.what
    return known


def _take_rows(
    reader: SegmentReader, file: SegmentFile, known: dict[int, Known], doubts: dict[int, Doubt]
) -> None:
    """The rows of a segment, which is older than those that were taken before."""
    for held, value in reader.rows(file):
        stream_id = held.stream_id
        if value is None:
            what = f"its row in segments/{file.name} is damaged"
            doubts.setdefault(stream_id, Doubt(what, file.upto_lsn))
            continue
        raw, producers = _split(value)
        found = known.get(stream_id)
        if found is None:
            found = known[stream_id] = Known(stream_id, decode_row(raw), bytes(raw))
        for producer_id, state in producers.items():
            found.stored_producers.setdefault(producer_id, state)


def _ask(old: OldRows, known: dict[int, Known], doubts: dict[int, Doubt]) -> None:
    """LMDB knows what segments that are gone held, as of its checkpoint."""
    for stream_id in {*old.stream_ids, *known}:
        found, stored = known.get(stream_id), old.row(stream_id)
        if stored is not None:
            if found is None:
                found = known[stream_id] = Known(stream_id, stored[0])
            elif stored[0].lsn > found.row.lsn:
                found.row, found.is_newer = stored[0], True
            for producer_id, state in old.producers(stream_id).items():
                _advance(found.producers, producer_id, state)
        elif found is not None and found.row.lsn <= old.checkpoint.lsn and old.lacks(stream_id):
            found.row, found.is_newer = Row(None, old.checkpoint.lsn), True
        else:
            continue
        doubt = doubts.get(stream_id)
        if doubt is not None and doubt.upto_lsn <= old.checkpoint.lsn:
            del doubts[stream_id]


def _advance(producers: Producers, producer_id: str, state: ProducerState) -> None:
    """A producer's state never goes back."""
    before = producers.get(producer_id)
    if before is None or (state.epoch, state.last_seq) > (before.epoch, before.last_seq):
        producers[producer_id] = state
