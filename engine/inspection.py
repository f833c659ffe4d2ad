"""What a store consists of, and all that it holds of one stream, as plain values.

For ``durastream inspect`` and for programs: dictionaries and lists that JSON takes as they are.
Sizes and positions are bytes, times Unix times in ms. It only reads; what is wrong is for
``verify`` to judge, but is never hidden here. Beside a store in use, all is as of one commit
and of the log as far as it was written then.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from .._native.disk import PosixDisk
from .._native.segment import Segment, SegmentDamaged
from .._native.wal_types import ScannedRecord
from .directory import FORMAT_VERSION
from .errors import Damaged
from .log_states import LoggedStream, LogStates
from .metadata import ProducerRow, SegmentEntry, id_key
from .offline import Offline, open_offline
from .records import Kind, decode_meta
from .verify_online import settle

Plain = dict[str, Any]

_LAST_RECORDS = 10
_FILE_KINDS = {1: "roll", 2: "recovery"}
_TABLES = ("streams", "paths", "producers", "deadlines", "segments")


def inspect_store(path: Path) -> Plain:
    """The directory as a whole. Raises: DirectoryInUse, UnknownFormat, OpenError, OSError."""
    with open_store(path) as store:
        found: Plain = {
            "directory": str(path),
            "store_id": store.directory.store_id.hex(),
            "online": store.in_use,
            "format": FORMAT_VERSION,
            "checkpoint": plain(store.checkpoint),
            "trouble": None if store.trouble is None else store.trouble._asdict(),
            "rows": _row_counts(store),
            "log": None if store.is_new else _log(store),
            "segments": [],
        }
        found["segments"] = [_segment(store, entry) for entry in listed_segments(store)]
        return found


def inspect_stream(path: Path, name: str) -> Plain | None:
    """One stream, by its path or, for one that has no path any more, by its id in digits.

    None if there is no such stream. Raises: as ``inspect_store``; Damaged if the rows or the
    stream's row cannot be read.
    """
    with open_store(path) as store:
        look = look_at_stream(store, name)
        return None if look is None else look.found()


def look_at_stream(store: Offline, name: str) -> StreamLook | None:
    """None if there is no such stream. Raises: Damaged if the rows cannot be read."""
    if store.trouble is not None:
        raise Damaged(store.trouble.what, store.trouble.file)
    if store.is_new:
        return None
    look = StreamLook(store, name)
    return look if look.state is not None else None


@contextmanager
def open_store(path: Path) -> Iterator[Offline]:
    """Open a directory, also one in use: then of a moment at which nothing in it was amiss.

    Raises: DirectoryInUse, UnknownFormat, OpenError, Damaged, OSError.
    """
    with open_offline(path, PosixDisk(), in_use=True) as store:
        if store.snapshot is not None:
            settle(store).close()
        yield store


def plain(value: Any) -> Any:
    """A structure of the engine with its fields' names, instead of as an array."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


# -- the whole -----------------------------------------------------------------------------


def _row_counts(store: Offline) -> Plain | None:
    if store.metadata is None:
        return None
    return {table: store.metadata.recorded_sum(table).count for table in _TABLES}


def _log(store: Offline) -> Plain:
    frames = records = data_size = 0
    kinds: dict[str, int] = {}
    scan = store.scan_log()
    for frame in scan:
        frames += 1
        records += len(frame.records)
        for record in frame.records:
            data_size += record.data_size
            kind = kind_name(record.kind)
            kinds[kind] = kinds.get(kind, 0) + 1
    walk = scan.walk
    used = {sequence: position for sequence, position, _ in walk.chain}
    files = [
        {
            "file": os.path.basename(file.path),
            "kind": _FILE_KINDS.get(file.kind),
            "first_lsn": file.first_lsn,
            "size": file.size,
            "used": used.get(sequence),  # None: not needed behind the checkpoint
            "problem": file.problem,
        }
        for sequence, file in sorted(walk.files.items())
    ]
    return {
        "files": files,
        "frames": frames,
        "records": records,
        "records_by_kind": kinds,
        "data_size": data_size,
        "last_lsn": walk.last_lsn,
        "proven_lsn": walk.base_lsn,
        # Where somebody writes meanwhile, it can be a race: that is for ``verify`` to tell.
        "damage": [
            damage._asdict() for damage in (*walk.damage, *walk.harmless) if not store.in_use
        ],
        "torn": [
            {"file": torn.file, "position": torn.position} for torn in walk.torn if not store.in_use
        ],
    }


def listed_segments(store: Offline) -> list[SegmentEntry]:
    """Those that the rows list. Raises: Damaged."""
    return [] if store.metadata is None else store.metadata.segments()


def _segment(store: Offline, entry: SegmentEntry) -> Plain:
    found: Plain = {**plain(entry), "file": store.directory.segment(entry.number).name}
    segment = open_segment(store, entry)
    if isinstance(segment, str):
        return {**found, "problem": segment}
    found |= {
        "created_ms": segment.created_ms,
        "extents": segment.extent_count,
        "data_size": segment.data_size,
        "messages": segment.message_count,
        "problem": None,
    }
    segment.close()
    return found


def open_segment(store: Offline, entry: SegmentEntry) -> Segment | str:
    """The segment, or why it cannot be opened."""
    path = os.fspath(store.directory.segment(entry.number))
    try:
        return Segment(store.disk, path, store_id=store.directory.store_id, number=entry.number)
    except SegmentDamaged as error:
        return f"{error.what}, at byte {error.position}"
    except OSError as error:
        return error.strerror or str(error)


def kind_name(kind: int) -> str:
    return Kind(kind).name.lower() if kind in set(Kind) else f"kind {kind}"


# -- one stream ----------------------------------------------------------------------------


class StreamLook:
    """Everything of one stream: from its row, from the log behind it, from the segments."""

    def __init__(self, store: Offline, name: str) -> None:
        assert store.metadata is not None
        self.store = store
        self._rows = store.metadata
        self._states = LogStates(self._rows.row)
        self._records: dict[int, deque[Plain]] = {}
        self._counts: dict[int, list[int]] = {}  # records, wire bytes
        self._fold()
        self.stream_id = self._named(name)
        self._row = self._rows.row(self.stream_id)
        self._stream = self._states.stream(self.stream_id)
        row_state = None if self._row is None else self._row.state
        self.state = self._stream.state or row_state  # the last there was

    def found(self) -> Plain:
        row, stream, state = self._row, self._stream, self.state
        assert state is not None
        count, data_size = self._counts.get(self.stream_id, [0, 0])
        return {
            "path": state.path,
            "stream_id": self.stream_id,
            "removed": stream.state is None,
            "state": plain(stream.state),  # as rows and log together leave it
            "row": None if row is None else plain(row.state),  # as of the checkpoint
            "row_lsn": None if row is None else row.lsn,
            "quarantine": plain(stream.quarantine),
            "extents": self._extents(self.stream_id),
            "log": {
                "records": count,
                "data_size": data_size,
                "last": list(self._records.get(self.stream_id, ())),
            },
            "producers": self._producers(stream),
        }

    def _fold(self) -> None:
        for frame in self.store.scan_log():
            for record in frame.records:
                for _ in self._states.apply(record):
                    pass
                counts = self._counts.setdefault(record.stream_id, [0, 0])
                counts[0] += 1
                counts[1] += record.data_size
                last = self._records.setdefault(record.stream_id, deque(maxlen=_LAST_RECORDS))
                last.append(_record(record, frame.file))

    def _named(self, name: str) -> int:
        """0, which no stream has, if there is none."""
        if name.isdecimal():
            return int(name)
        logged = [
            stream.stream_id
            for stream in self._states.streams.values()
            if stream.state is not None and stream.state.path == name
        ]
        if logged:
            return max(logged)
        row = self._rows.find(name)
        return 0 if row is None or row.state is None else row.state.stream_id

    def _extents(self, stream_id: int) -> list[Plain]:
        found: list[Plain] = []
        for entry in self._rows.segments():
            file = self.store.directory.segment(entry.number).name
            segment = open_segment(self.store, entry)
            if isinstance(segment, str):
                found.append({"segment": file, "problem": segment})
                continue
            for base, end, index in segment.extents_of(stream_id):
                messages = segment.extent(index).message_count
                found.append({"segment": file, "base": base, "end": end, "messages": messages})
            segment.close()
        return found

    def _producers(self, stream: LoggedStream) -> list[Plain]:
        found: dict[str, Plain] = {}
        prefix = id_key(stream.stream_id)
        for stored in self._rows.scan("producers", prefix):
            if not stored.key.startswith(prefix):
                break
            if not stored.is_whole:
                raise Damaged(f"row {stored.key!r} of table producers", "meta.lmdb")
            row = msgspec.msgpack.decode(stored.value, type=ProducerRow)
            found[row.producer_id] = {**plain(row.state), "from": "row"}
        for producer_id, state in stream.producers.items():
            found[producer_id] = {**plain(state), "from": "log"}
        return [{"producer_id": producer_id, **found[producer_id]} for producer_id in sorted(found)]


def _record(record: ScannedRecord, file: str) -> Plain:
    meta = None
    if not record.damaged:
        try:
            meta = plain(decode_meta(record.kind, record.meta))
        except (ValueError, msgspec.DecodeError):
            meta = None
    return {
        "lsn": record.lsn,
        "kind": kind_name(record.kind),
        "file": os.path.basename(file),
        "position": record.position,
        "base": record.base,
        "data_size": record.data_size,
        "messages": record.message_count,
        "damaged": record.damaged,
        "meta": meta,
    }
