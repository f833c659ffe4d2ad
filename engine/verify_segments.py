"""Verify the segments: every byte of each, and the rows against what the segments say.

A flush writes each row both into LMDB and into its segment, so the newest segment that names a
stream has the very bytes of its row (I2). Source: docs/format-segment.md. It only reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import lmdb
import msgspec

from .._native.segment import Segment, SegmentDamaged
from .errors import Damaged
from .findings import Findings
from .metadata import ProducerRow, SegmentEntry, id_key, name_key
from .needs import Need, follow, need_of
from .offline import Offline
from .records import decode_row, encode
from .verify_rows import FILE, Rows

_BLOCK_SIZE = 65536
UNKNOWN = b""  # in place of a row that cannot be read
_split = msgspec.msgpack.Decoder(tuple[msgspec.Raw, dict[str, msgspec.Raw]]).decode
SEGMENT_NAME = re.compile(r"(\d{20})\.seg")

Part = tuple[int, int, int]  # (base, end, segment number) of some of a stream's wire bytes


class Stored:
    """What the segments say of the streams; newest segment first."""

    def __init__(self) -> None:
        self.parts: dict[int, list[Part]] = {}
        self.newest: dict[int, tuple[int, bytes | None]] = {}  # number, encoded row; None: removed
        self.producers: dict[bytes, bytes] = {}  # as in the table
        self.unreadable: list[SegmentEntry] = []

    def may_lack(self, lsn: int) -> bool:
        """Whether what record ``lsn`` changed may stand in a segment that cannot be read."""
        return any(entry.after_lsn < lsn <= entry.upto_lsn for entry in self.unreadable)


def open_segment(store: Offline, entry: SegmentEntry) -> Segment:
    """Raises: SegmentDamaged, OSError."""
    path = str(store.directory.segment(entry.number))
    return Segment(store.disk, path, store_id=store.directory.store_id, number=entry.number)


def verify_segments(
    opener: Callable[[SegmentEntry], Segment],
    listed: list[SegmentEntry],
    stored: Stored,
    findings: Findings,
) -> Iterator[int]:
    """Read every listed segment, the newest first. Yields the bytes checked, about."""
    for entry in sorted(listed, reverse=True, key=lambda entry: (entry.upto_lsn, entry.number)):
        file = f"segments/{entry.number:020d}.seg"
        try:
            segment = opener(entry)
        except FileNotFoundError:
            findings.add("segment-missing", f"the file of segment {entry.number} is gone", file)
            stored.unreadable.append(entry)
            continue
        except SegmentDamaged as error:
            findings.add("segment-index", error.what, file, error.position, error.stream_id)
            stored.unreadable.append(entry)
            continue
        except OSError as error:
            findings.add("segment-index", f"cannot be read: {error.strerror}", file)
            stored.unreadable.append(entry)
            continue
        try:
            _verify_entry(segment, entry, file, findings)
            yield from _verify_bytes(segment, file, findings)
            _take_rows(segment, file, stored, findings)
        finally:
            segment.close()


def _verify_entry(segment: Segment, entry: SegmentEntry, file: str, findings: Findings) -> None:
    found = (segment.level, segment.after_lsn, segment.upto_lsn, segment.size)
    expected = (entry.level, entry.after_lsn, entry.upto_lsn, entry.size)
    if found != expected:
        what = f"(level, after LSN, up to LSN, size) is {found}; the rows say {expected}"
        findings.add("segment-mismatch", what, file)


def _verify_bytes(segment: Segment, file: str, findings: Findings) -> Iterator[int]:
    left = segment.size
    step = min(_BLOCK_SIZE, left // max(1, segment.extent_count))
    for damage in segment.verify():
        if isinstance(damage, SegmentDamaged):
            what = damage.what
            if damage.stream_position is not None:
                what += f", from offset {damage.stream_position} on"
            findings.add("segment-damage", what, file, damage.position, damage.stream_id)
        elif damage is not None:
            findings.add("segment-damage", f"cannot be read: {damage.strerror}", file)
        done = min(left, step)
        left -= done
        yield done
    yield left


def _take_rows(segment: Segment, file: str, stored: Stored, findings: Findings) -> None:
    for index in range(segment.extent_count):
        extent = segment.extent(index)
        stream_id = extent.stream_id
        if extent.base < extent.end:
            part = (extent.base, extent.end, segment.number)
            stored.parts.setdefault(stream_id, []).append(part)
        if not extent.row_size:
            continue
        try:
            _take_row(segment.number, stream_id, segment.row(index), stored, findings)
        except (SegmentDamaged, OSError):  # verify found it, too
            stored.newest.setdefault(stream_id, (segment.number, UNKNOWN))
        except msgspec.DecodeError as error:
            stored.newest.setdefault(stream_id, (segment.number, UNKNOWN))
            findings.add(
                "segment-damage", f"an extent's row is none: {error}", file, None, stream_id
            )


def _take_row(number: int, stream_id: int, raw: bytes, stored: Stored, findings: Findings) -> None:
    """As bytes: what an older release wrote is compared as it wrote it."""
    row, producers = _split(raw)
    state = decode_row(row).state
    if state is not None:
        findings.paths.setdefault(stream_id, state.path)
    stored.newest.setdefault(stream_id, (number, None if state is None else bytes(row)))
    for producer_id, producer in producers.items():
        key = id_key(stream_id) + name_key(producer_id)
        stored.producers.setdefault(key, b"\x92" + encode(producer_id) + bytes(producer))


def verify_rows_against(stored: Stored, rows: Rows, findings: Findings) -> None:
    """Rows that are missing, older than their segment's, or that no segment knows."""
    damaged = {key for table, key in rows.damaged if table == "streams"}
    for stream_id, (number, value) in stored.newest.items():
        row = rows.streams.get(stream_id)
        if value == UNKNOWN or id_key(stream_id) in damaged:
            continue
        if row is None and value is not None and not stored.unreadable:
            what = f"segment {number} has a row of it, LMDB has none"
            findings.add("row-missing", what, FILE, None, stream_id)
        elif row is not None and value is None:
            what = f"has a row, but segment {number} says that it was removed"
            findings.add("row-differs", what, FILE, None, stream_id)
        elif row is not None and row != value and not _lies_in_unreadable(stream_id, rows, stored):
            what = f"its row is not the one in segment {number}"
            findings.add("row-differs", what, FILE, None, stream_id)
    for stream_id in rows.streams.keys() - stored.newest.keys():
        if not _lies_in_unreadable(stream_id, rows, stored):
            findings.add("row-differs", "no segment has a row of it", FILE, None, stream_id)
    _verify_producers(stored, rows, findings)


def _lies_in_unreadable(stream_id: int, rows: Rows, stored: Stored) -> bool:
    if not stored.unreadable:
        return False
    row = rows.row(stream_id)
    return row is not None and stored.may_lack(row.lsn)


def _verify_producers(stored: Stored, rows: Rows, findings: Findings) -> None:
    if stored.unreadable:
        return
    for key, value in stored.producers.items():
        stream_id = int.from_bytes(key[:8], "big")
        if stream_id not in rows.streams or ("producers", key) in rows.damaged:
            continue
        if rows.producers.get(key) != value:
            what = f"the row of producer {_name(value)!r} is not the newest segment's"
            findings.add("producer", what, FILE, None, stream_id)
    for key in rows.producers.keys() - stored.producers.keys():
        what = f"no segment knows the producer {_name(rows.producers[key])!r}"
        findings.add("producer", what, FILE, None, int.from_bytes(key[:8], "big"))


def _name(value: bytes) -> str:
    return msgspec.msgpack.decode(value, type=ProducerRow).producer_id


def verify_coverage(stored: Stored, rows: Rows, findings: Findings) -> None:
    """What is needed of each stream's own bytes stands in segments, and nothing twice."""
    inherited: dict[int, Need] = {}
    states = {state.stream_id: state for state in rows.states() if state.ref_count}
    for state in rows.states():
        follow(state, states.get, inherited)
    for stream_id in rows.streams:
        row = rows.row(stream_id)
        if row is None or row.state is None:
            continue
        start, end = need_of(row.state, inherited)
        if row.quarantine is not None:
            end = min(end, max(row.state.base, row.quarantine.position))
        need = Need(start, min(end, row.state.tail))
        parts = stored.parts.get(stream_id, [])
        _cover(stream_id, row.state.base, row.state.tail, need, parts, findings)


def _cover(
    stream_id: int, base: int, tail: int, need: Need, parts: list[Part], findings: Findings
) -> None:
    at = base
    for start, stop, number in sorted(parts):
        file = f"segments/{number:020d}.seg"
        _require_no_hole(stream_id, Need(at, start), need, file, findings)
        if start < at:
            what = f"offsets {start} to {min(stop, at)} are stored twice, or are not its own"
            findings.add("overlap", what, file, None, stream_id)
        at = max(at, stop)
    _require_no_hole(stream_id, Need(at, need.end), need, "segments", findings)
    if at > tail and parts:
        what = f"its row ends at offset {tail}, but segments hold it up to {at}"
        findings.add("overlap", what, FILE, None, stream_id)


def _require_no_hole(stream_id: int, gap: Need, need: Need, file: str, findings: Findings) -> None:
    start, end = max(gap.start, need.start), min(gap.end, need.end)
    if start < end:
        what = f"offsets {start} to {end} are in no segment"
        findings.add("hole", what, file, None, stream_id)


def verify_names(
    store: Offline, listed: list[SegmentEntry], next_segment: int | None, findings: Findings
) -> None:
    """Files in ``segments/`` that no row names.

    Args:
        next_segment: of the checkpoint; None if it cannot be told.
    """
    known, obsolete = {entry.number for entry in listed}, _obsolete(store, findings)
    if not store.disk.exists(store.directory.segments):
        return
    for name in store.disk.list_directory(store.directory.segments):
        match = SEGMENT_NAME.fullmatch(name)
        file = f"segments/{name}"
        if name.endswith(".tmp"):
            findings.add("segment-leftover", "a flush or compaction that was cut short", file)
        elif match is None:
            findings.add("foreign-file", "not a segment's name", file)
        elif int(match[1]) in known or next_segment is None:
            continue
        elif int(match[1]) >= next_segment:
            what = "a flush that was cut short before its commit: the log has it all"
            findings.add("segment-leftover", what, file)
        elif int(match[1]) in obsolete:
            what = "of a compaction that was cut short: other segments have it all"
            findings.add("segment-leftover", what, file)
        else:
            findings.add("segment-unlisted", "the rows do not name this segment any more", file)


def _obsolete(store: Offline, findings: Findings) -> list[int]:
    """Numbers that the rows know not to be part of the store."""
    try:
        return store.metadata.obsolete() if store.metadata is not None else []
    except (Damaged, lmdb.Error) as error:
        findings.add("row-damage", f"table info: {error}", FILE)
        return []
