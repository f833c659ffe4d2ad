"""Every byte class of every file of a store, and what damage to it may do.

Derived from docs/format-*.md: a place is found by reading the files as those say, with the
readable twins of the native readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from durastream.engine import segment_py, wal_py
from durastream.engine.records import Kind

from .lmdb_classes import LmdbFile
from .specimen import Specimen

LMDB = "meta.lmdb/data.mdb"
LINK, WATERMARK = 1, 2


class Harm(Enum):
    """What damage may cost. Whatever it is, ``verify`` names it, if it is not NONE."""

    NONE = "nothing: nobody reads these bytes, or they can be done without"
    UNREAD = "nothing while the store runs, it is a copy or for repair"
    STREAM = "the stream that it hit, and those that inherit from it"
    ROW = "the row that it hit and, if that was its key, look-ups beside it"
    STORE = "the store: refused, or read-only"
    NEWEST = "the newest frame, which nothing proves yet"
    ANY = "any of these: what was hit is not known"


@dataclass(frozen=True)
class Place:
    """Bytes [start, end) of a file; ``stream_id`` is the stream that they belong to."""

    file: str
    start: int
    end: int
    stream_id: int | None = None


@dataclass
class ByteClass:
    name: str
    harm: Harm
    places: list[Place] = field(default_factory=list)


class Classes:
    """Gathers places by class."""

    def __init__(self) -> None:
        self.found: dict[str, ByteClass] = {}

    def add(
        self, name: str, harm: Harm, file: str, start: int, end: int, stream_id: int | None = None
    ) -> None:
        if start < end:
            known = self.found.setdefault(name, ByteClass(name, harm))
            assert known.harm == harm, name
            known.places.append(Place(file, start, end, stream_id))

    def fields(self, prefix: str, harm: Harm, file: str, start: int, layout: Layout) -> None:
        for name, size in layout:
            self.add(f"{prefix}: {name}", harm, file, start, start + size)
            start += size


Layout = list[tuple[str, int]]

WAL_HEADER: Layout = [
    ("magic", 8), ("version", 4), ("kind", 2), ("flags", 2), ("store id", 16), ("sequence", 8),
    ("incarnation", 8), ("size", 8), ("predecessor", 24), ("base LSN", 8), ("first LSN", 8),
    ("kept LSN", 8), ("kept end", 8), ("resume LSN", 8), ("checksum", 8),
]  # fmt: skip
FRAME: Layout = [
    ("magic", 4), ("version", 2), ("flags", 2), ("incarnation", 8), ("first LSN", 8),
    ("watermark", 8), ("size", 4), ("record count", 4), ("successor", 16), ("checksum", 8),
]  # fmt: skip
RECORD: Layout = [
    ("header checksum", 8), ("LSN", 8), ("stream id", 8), ("base", 8), ("size", 4),
    ("data size", 4), ("metadata size", 4), ("message count", 4), ("kind", 1), ("flags", 1),
    ("reserved", 6), ("body checksum", 8),
]  # fmt: skip
SEGMENT_HEADER: Layout = [
    ("magic", 8), ("version", 4), ("level", 4), ("store id", 16), ("number", 8), ("LSNs", 16),
    ("creation", 8), ("reserved", 4024), ("checksum", 8),
]  # fmt: skip
ENTRY: Layout = [
    ("stream id", 8), ("base", 8), ("end", 8), ("position", 8), ("message count", 8),
    ("row size", 4), ("flags", 4), ("row checksum", 8), ("reserved", 32), ("checksum", 8),
]  # fmt: skip
FOOTER: Layout = [
    ("magic", 8), ("version", 4), ("flags", 4), ("header checksum", 8), ("index position", 8),
    ("extent count", 8), ("sums", 16), ("file size", 8), ("reserved", 56), ("checksum", 8),
]  # fmt: skip


def classify(specimen: Specimen) -> dict[str, ByteClass]:
    classes = Classes()
    for name, content in specimen.files.items():
        if name == LMDB:
            _lmdb(classes, content)
        elif name.startswith("segments/"):
            _segment(classes, name, content)
    classes.add("FORMAT", Harm.STORE, "FORMAT", 0, len(specimen.files["FORMAT"]))
    _log(classes, specimen)
    _sectors(classes, specimen)
    return classes.found


# -- the log -------------------------------------------------------------------------------


def _log(classes: Classes, specimen: Specimen) -> None:
    """The specimen ends with a crash right behind a checkpoint-less stretch of the log."""
    files = {name: content for name, content in specimen.files.items() if name.startswith("wal/0")}
    last = max(files)
    for name, content in files.items():
        header, frames = wal_py.read_frames(content)
        classes.fields("log header", Harm.STORE, name, 0, WAL_HEADER)
        classes.add("log header: rest of its page", Harm.NONE, name, 128, 4096)
        for frame in frames:
            if (header.sequence, frame.position) < specimen.checkpoint:
                stop = frame.position + _span(frame)
                classes.add("log: before the checkpoint", Harm.ANY, name, frame.position, stop)
                continue
            kept = frame.position < header.kept_end
            newest = name == last and frame is frames[-1]
            _frame(classes, name, content, frame, kept, newest)
        end = frames[-1].position + _span(frames[-1])
        classes.add("log: behind the last frame", Harm.NONE, name, end, len(content))
    if "wal/spare.wal" in specimen.files:
        spare = specimen.files["wal/spare.wal"]
        classes.add("log: spare file", Harm.NONE, "wal/spare.wal", 0, len(spare))


def _span(frame: wal_py.Frame) -> int:
    return -(-(64 + frame.header.size) // 4096) * 4096


def _frame(
    classes: Classes, file: str, content: bytes, frame: wal_py.Frame, kept: bool, newest: bool
) -> None:
    at, end = frame.position, frame.position + _span(frame)
    if newest:
        classes.add("log: newest frame", Harm.NEWEST, file, at, at + 64 + frame.header.size)
        return
    if frame.header.flags in (LINK, WATERMARK):
        kind = "LINK frame" if frame.header.flags == LINK else "watermark frame"
        classes.add(kind, Harm.STORE if kept else Harm.NONE, file, at, at + 64)
        classes.add("frame: padding", Harm.NONE, file, at + 64, end)
        return
    if kept:
        classes.add("rewritten frame: header", Harm.STORE, file, at, at + 64)
    else:
        classes.fields("frame", Harm.STORE, file, at, FRAME)
    at += 64
    for record in frame.records:
        _record(classes, file, at, record, "rewritten record" if kept else "record")
        at += record.header.size
    classes.add("frame: padding", Harm.NONE, file, at, end)


def _record(classes: Classes, file: str, at: int, record: wal_py.Record, prefix: str) -> None:
    header = record.header
    if prefix == "record":
        classes.fields(prefix, Harm.STORE, file, at, RECORD)
    else:
        classes.add(f"{prefix}: header", Harm.STORE, file, at, at + 64)
    cursor = at + 64
    parts = [("sizes", 4 * header.message_count if header.flags else 0)]
    parts += [("metadata", header.meta_size), ("data", header.data_size)]
    harm, owner = Harm.STREAM, header.stream_id
    if header.kind in (Kind.CREATE, Kind.DELETE):  # the path, or whom it took along, is hidden
        harm, prefix = Harm.STORE, f"{prefix} of a creation or deletion"
    for name, size in parts:
        padded = wal_py.padded(size)
        classes.add(f"{prefix}: {name}", harm, file, cursor, cursor + size, owner)
        classes.add(f"{prefix}: padding", harm, file, cursor + size, cursor + padded, owner)
        cursor += padded


# -- segments ------------------------------------------------------------------------------


def _segment(classes: Classes, file: str, content: bytes) -> None:
    header = segment_py.read_header(content)
    footer = segment_py.read_footer(content, header)
    classes.fields("segment header", Harm.STORE, file, 0, SEGMENT_HEADER)
    for entry in segment_py.read_index(content, header, footer):
        _extent(classes, file, entry)
    for index in range(footer.extent_count):
        at = footer.index_position + 96 * index
        classes.fields("index entry", Harm.STORE, file, at, ENTRY)
    classes.fields("segment footer", Harm.STORE, file, len(content) - 128, FOOTER)


def _extent(classes: Classes, file: str, entry: segment_py.SegmentEntry) -> None:
    owner, at = entry.stream_id, entry.position
    classes.add("extent header", Harm.UNREAD, file, at, at + 96)
    size = entry.end - entry.base
    parts = [
        ("wire bytes", Harm.STREAM, size),
        ("wire bytes: padding", Harm.STREAM, -size % 8),
        ("checksums of wire bytes", Harm.STREAM, 8 * -(-(size + -size % 8) // 65536)),
        ("ends", Harm.STREAM, 8 * entry.message_count),
        ("checksums of ends", Harm.STREAM, 8 * -(-8 * entry.message_count // 65536)),
        ("extent's row", Harm.UNREAD, entry.row_size),
        ("extent's row: padding", Harm.UNREAD, -entry.row_size % 8),
    ]
    at += 96
    for name, harm, part_size in parts:
        classes.add(name, harm, file, at, at + part_size, owner)
        at += part_size


# -- rows ----------------------------------------------------------------------------------

_HARMLESS = {
    "lmdb pad of a page", "lmdb meta page: rest", "lmdb page: room", "lmdb node: pad",
    "lmdb free: room", "lmdb value's page: room", "lmdb free page", "lmdb branch: first key",
    "lmdb newer meta: map size", "lmdb older meta: map size", "lmdb older meta: last page",
    "lmdb older meta: free tree", "lmdb older meta: main tree",
}  # fmt: skip
_ROWS = ("streams", "paths", "producers", "deadlines")


def _lmdb(classes: Classes, content: bytes) -> None:
    for piece in LmdbFile(content).classify():
        words = piece.name.split()[1].rstrip(":")
        harm = Harm.STORE
        if piece.name in _HARMLESS:
            harm = Harm.NONE
        elif piece.name in ("lmdb branch: key", "lmdb free: key"):
            harm = Harm.ANY  # another one between its neighbours leads to the same rows, or pages
        elif words in _ROWS:
            harm = Harm.ROW
        classes.add(piece.name, harm, LMDB, piece.start, piece.end, piece.stream_id)


# -- sectors -------------------------------------------------------------------------------


def _sectors(classes: Classes, specimen: Specimen) -> None:
    """Whole files: damage of 512 and 4,096 bytes at once, whatever it hits."""
    for name, content in specimen.files.items():
        kind = name.split("/")[0]
        if kind in ("wal", "segments", "meta.lmdb"):
            classes.add(f"{kind}: sectors", Harm.ANY, name, 0, len(content))


def summary(classes: dict[str, ByteClass]) -> Iterator[str]:
    for byte_class in classes.values():
        size = sum(place.end - place.start for place in byte_class.places)
        yield f"{byte_class.name:44} {size:8} bytes  {byte_class.harm.name}"
