"""Verify the rows: each checksum, each table's count and sum, and the tables against each other.

The rows are those of the checkpoint; what the log changed since is ``verify_log``'s subject.
Source: docs/format-metadata.md, "LMDB". It only reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

import lmdb
import msgspec

from ..protocol.retention import listed_event_ms
from ..protocol.state import StreamState
from .findings import Findings
from .metadata import Metadata, PathRow, SegmentEntry, id_key, name_key
from .metadata_table import TableSum
from .records import Row, decode_row

FILE = "meta.lmdb/data.mdb"
Value = TypeVar("Value")


class Rows:
    """All rows that could be read, encoded as they are: decoded ones would take much more."""

    def __init__(self, *, is_complete: bool = True) -> None:
        self.streams: dict[int, bytes] = {}
        self.paths: dict[bytes, bytes] = {}
        self.producers: dict[bytes, bytes] = {}
        self.deadlines: set[bytes] = set()
        self.segments: list[SegmentEntry] = []
        self.damaged: set[tuple[str, bytes]] = set()  # (table, key)
        self.is_complete = (
            is_complete  # False: LMDB could not be walked, so that any may be missing
        )

    def row(self, stream_id: int) -> Row | None:
        """A stream's row. Raises: LookupError if it is damaged."""
        value = self.streams.get(stream_id)
        if value is not None:
            return decode_row(value)
        if ("streams", id_key(stream_id)) in self.damaged:
            raise LookupError(f"the row of stream {stream_id} is damaged")
        return None

    def states(self) -> Iterator[StreamState]:
        for value in self.streams.values():
            state = decode_row(value).state
            if state is not None:
                yield state


def read_rows(metadata: Metadata, findings: Findings) -> Rows:
    """Every table, row by row."""
    rows = Rows()
    for key, value in _table(metadata, "streams", rows, findings):
        if _decoded(value, Row, "streams", key, rows, findings) is not None:
            rows.streams[int.from_bytes(key, "big")] = value
    rows.paths = dict(_table(metadata, "paths", rows, findings))
    rows.producers = dict(_table(metadata, "producers", rows, findings))
    rows.deadlines = {key for key, _ in _table(metadata, "deadlines", rows, findings)}
    for key, value in _table(metadata, "segments", rows, findings):
        entry = _decoded(value, SegmentEntry, "segments", key, rows, findings)
        if entry is not None:
            rows.segments.append(entry)
    return rows


def _table(
    metadata: Metadata, name: str, rows: Rows, findings: Findings
) -> Iterator[tuple[bytes, bytes]]:
    """The whole rows of a table; the others, and a wrong sum, are findings."""
    count = total = 0
    try:
        for key, value, checksum, is_whole in metadata.scan(name):
            count += 1
            total += checksum
            if is_whole:
                yield key, value
            else:
                rows.damaged.add((name, key))
                what = f"table {name}: the row of {_shown(name, key)}: checksum mismatch"
                findings.add("row-damage", what, FILE, stream_id=_stream_id(name, key))
    except lmdb.Error as error:
        rows.is_complete = False
        findings.add("rows-unreadable", f"table {name}: {error}", FILE)
        return
    expected = metadata.recorded_sum(name)
    if TableSum(count, total & (2**64 - 1)) != expected:
        what = f"table {name}: {count} rows where {expected.count} were written"
        if count == expected.count:
            what = f"table {name}: other rows than were written"
        findings.add("table-sum", what, FILE)


def _decoded(
    value: bytes, kind: type[Value], table: str, key: bytes, rows: Rows, findings: Findings
) -> Value | None:
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except msgspec.DecodeError as error:
        rows.damaged.add((table, key))
        what = f"table {table}: the row of {_shown(table, key)}: {error}"
        findings.add("row-damage", what, FILE, stream_id=_stream_id(table, key))
        return None


def _stream_id(table: str, key: bytes) -> int | None:
    if table == "deadlines":
        return int.from_bytes(key[8:16], "big")
    return int.from_bytes(key[:8], "big") if table in ("streams", "producers") else None


def _shown(table: str, key: bytes) -> str:
    stream_id = _stream_id(table, key)
    if table == "producers":
        return f"producer {key[9:].decode(errors='replace')!r} of stream {stream_id}"
    if stream_id is not None:
        return f"stream {stream_id}"
    if table == "segments":
        return f"segment {int.from_bytes(key, 'big')}"
    return repr(key[1:].decode(errors="replace"))


def verify_tables(rows: Rows, next_stream_id: int, findings: Findings) -> None:
    """Paths, deadlines, references: what the tables say of each other."""
    states = {state.stream_id: state for state in rows.states()}
    _verify_paths(rows, states, findings)
    _verify_deadlines(rows, states, findings)
    for key in rows.producers:
        stream_id = int.from_bytes(key[:8], "big")
        if stream_id not in states and ("streams", key[:8]) not in rows.damaged:
            findings.add("producer", "a producer of no stream", FILE, stream_id=stream_id)
    if states and max(states) >= next_stream_id:
        what = f"the next stream is to be {next_stream_id}, but there is {max(states)}"
        findings.add("checkpoint", what, FILE)
    unknown = {int.from_bytes(key, "big") for table, key in rows.damaged if table == "streams"}
    verify_references(states.values(), unknown, "as of the checkpoint", FILE, findings)


def _verify_paths(rows: Rows, states: dict[int, StreamState], findings: Findings) -> None:
    bound: set[int] = set()
    for key, value in rows.paths.items():
        found = _decoded(value, PathRow, "paths", key, rows, findings)
        if found is None:
            continue
        state = states.get(found.stream_id)
        bound.add(found.stream_id)
        if name_key(found.path) != key:
            what = f"the path {found.path!r} has another path's key"
            findings.add("path-binding", what, FILE, stream_id=found.stream_id)
        elif state is not None and state.path != found.path:
            what = f"the path {found.path!r} leads to the stream of {state.path!r}"
            findings.add("path-binding", what, FILE, stream_id=found.stream_id)
        elif state is None and ("streams", id_key(found.stream_id)) not in rows.damaged:
            what = f"the path {found.path!r} leads to stream {found.stream_id}, which has no row"
            findings.add("path-binding", what, FILE, stream_id=found.stream_id)
        findings.paths.setdefault(found.stream_id, found.path)
    for stream_id, state in states.items():
        if stream_id not in bound and ("paths", name_key(state.path)) not in rows.damaged:
            what = f"the path {state.path!r} does not lead to its stream"
            findings.add("path-binding", what, FILE, stream_id=stream_id)


def _verify_deadlines(rows: Rows, states: dict[int, StreamState], findings: Findings) -> None:
    expected = set()
    for stream_id, state in states.items():
        deadline = listed_event_ms(state)
        if deadline is not None:
            expected.add(id_key(max(0, deadline)) + id_key(stream_id))
    lost = {key for table, key in rows.damaged if table == "deadlines"}
    for key in sorted(expected - rows.deadlines - lost):
        stream_id = int.from_bytes(key[8:], "big")
        what = "its deadline is not in the table: it would never expire unasked"
        findings.add("deadline", what, FILE, stream_id=stream_id)
    for key in sorted(rows.deadlines - expected):
        if ("streams", key[8:]) not in rows.damaged:
            stream_id = int.from_bytes(key[8:], "big")
            findings.add("deadline", "a deadline that its row does not have", FILE, None, stream_id)


def verify_references(
    states: Iterable[StreamState], unknown: set[int], when: str, file: str, findings: Findings
) -> None:
    """Every fork has its source, and every source as many forks as it counts."""
    by_id = {state.stream_id: state for state in states}
    forks = Counter(state.source_id for state in by_id.values() if state.source_id is not None)
    for state in by_id.values():
        source_id = state.source_id
        source = None if source_id is None else by_id.get(source_id)
        if source_id is not None and source is None and source_id not in unknown:
            what = f"its source, stream {source_id}, is not there, {when}"
            findings.add("source-missing", what, file, stream_id=state.stream_id)
        elif source is not None and source.tail < state.base:
            what = f"forked at {state.base}, but its source ends at {source.tail}, {when}"
            findings.add("source-missing", what, file, stream_id=state.stream_id)
        count = forks[state.stream_id]
        if state.ref_count != count and not unknown:
            what = f"counts {state.ref_count} forks, but {count} name it as their source, {when}"
            findings.add("reference-count", what, file, stream_id=state.stream_id)
