"""Streams of a data directory of the Node server, npm's @durable-streams/server: file per stream.

    metadata.lmdb              a row a stream, as that server's own packages encode it
    streams/DIRECTORY.log      frames: size (u32, big-endian), payload, a line feed

LMDB's file is one that only lmdb-js reads, so Node reads it, with the packages of the server
itself. What that server would not serve after a start is not imported: a torn frame, and what
stands behind one. Its offsets count the frames' headers; here they are positions in the data.
"""

from __future__ import annotations

import subprocess
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..protocol.headers import is_json
from ..protocol.json_body import split_messages
from ..protocol.state import ClosedBy, ProducerState
from .errors import BackupDamaged, OpenError
from .transfer_format import Appended, StreamLine

_SCRIPT = Path(__file__).with_name("node_metadata.mjs")
_HEADER, _END = 4, b"\n"
_DEPTH_MAX = 100_000


class _Producer(msgspec.Struct, rename="camel"):
    epoch: int
    last_seq: int
    last_updated: int = 0


class _ClosedBy(msgspec.Struct, rename="camel"):
    producer_id: str
    epoch: int
    seq: int


class NodeRow(msgspec.Struct, rename="camel"):
    """A row of that server's metadata, as far as it is needed."""

    path: str
    created_at: int
    directory_name: str
    content_type: str | None = None
    last_accessed_at: int | None = None
    last_seq: str | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None
    closed: bool | None = False
    closed_by: _ClosedBy | None = None
    producers: dict[str, _Producer] | None = None
    forked_from: str | None = None
    fork_offset: str | None = None
    soft_deleted: bool | None = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame, and where it ends in its file."""

    payload: bytes
    end: int


def is_node_directory(path: Path) -> bool:
    return (path / "metadata.lmdb").exists() and not (path / "FORMAT").exists()


def read_node_directory(path: Path, installed: Path) -> list[NodeStream]:
    """All streams that are not deleted.

    Args:
        installed: a directory in which npm installed the server.

    Raises: OpenError.
    """
    rows = {row.path: row for row in _read_rows(path, installed)}
    return [NodeStream(path, row, rows) for row in rows.values() if not row.soft_deleted]


def _read_rows(path: Path, installed: Path) -> list[NodeRow]:
    command = ["node", str(_SCRIPT), str(path), str(installed)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        raise OpenError("node: not found; it reads that server's metadata: install it") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace")
        if "@durable-streams/server" in said:
            raise OpenError(
                f"{installed}: @durable-streams/server is not installed there; name the directory "
                "in which it is with --node-modules"
            )
        lines = [line for line in said.splitlines() if "Error" in line] or [f"{done.returncode}"]
        raise OpenError(f"{path / 'metadata.lmdb'}: Node could not read it: {lines[0]}")
    return [msgspec.json.decode(line, type=NodeRow) for line in done.stdout.splitlines()]


class NodeStream:
    """One stream, for an import."""

    def __init__(self, folder: Path, row: NodeRow, rows: dict[str, NodeRow]) -> None:
        self._folder = folder
        self._row = row
        self._rows = rows
        by = row.closed_by
        self.line = StreamLine(
            path=row.path,
            content_type=row.content_type or "application/octet-stream",
            created_at=row.created_at,
            last_accessed_at=row.last_accessed_at or row.created_at,
            size=self._file(row).stat().st_size if self._file(row).exists() else 0,
            closed=bool(row.closed),
            closed_by=ClosedBy(by.producer_id, by.epoch, by.seq) if by is not None else None,
            last_seq=row.last_seq,
            ttl_seconds=row.ttl_seconds,
            expires_at=row.expires_at,
            producers={
                name: ProducerState(state.epoch, state.last_seq, state.last_updated)
                for name, state in (row.producers or {}).items()
            },
            forked_from=row.forked_from,
        )
        self.note = ""

    def check(self) -> None:
        """Raises: BackupDamaged if its file, or the source of a fork, is not there."""
        for row in self._lineage():
            if not self._file(row).exists():
                raise self._damaged("its file is missing", row)
        if lost := self._lost(self._row):
            self.note = f"{lost} bytes behind its last whole frame were left out"

    def appends(self) -> Iterator[Appended]:
        json = is_json(self.line.content_type)
        for frame in self._frames(self._row):
            if frame.payload:
                yield _appended(frame.payload, json=json)

    def _file(self, row: NodeRow) -> Path:
        return self._folder / "streams" / f"{row.directory_name}.log"

    def _lineage(self) -> Iterator[NodeRow]:
        """The stream and the sources that it inherits from."""
        row: NodeRow | None = self._row
        while row is not None:
            yield row
            if row.forked_from is None:
                return
            source = self._rows.get(row.forked_from)
            if source is None or source.created_at > row.created_at:
                # That server finds a source by its path, and then reads what is there now.
                raise self._damaged("the stream that it was forked from is gone", row)
            row = source

    def _frames(self, row: NodeRow) -> Iterator[Frame]:
        """All frames of a stream, those that it inherits first; ends are that server's offsets."""
        base = 0
        if row.forked_from is not None:
            base = int((row.fork_offset or "0_0").partition("_")[2])
            for frame in self._frames(self._rows[row.forked_from]):
                if frame.end > base:
                    break
                yield frame
        for frame in read_frames(self._file(row)):
            yield Frame(frame.payload, base + frame.end)

    def _lost(self, row: NodeRow) -> int:
        end = 0
        for frame in read_frames(self._file(row)):
            end = frame.end
        return self._file(row).stat().st_size - end

    def _damaged(self, what: str, row: NodeRow) -> BackupDamaged:
        where = f"streams/{row.directory_name}.log"
        return BackupDamaged(f"{self.line.path}: {what}", where, "it cannot be imported")


def read_frames(path: Path) -> Iterator[Frame]:
    """The whole frames of a file, up to the first that is not."""
    position = 0
    with path.open("rb") as file:
        while len(header := file.read(_HEADER)) == _HEADER:
            size = int.from_bytes(header, "big")
            payload = file.read(size)
            if len(payload) < size or file.read(1) != _END:
                return
            position += _HEADER + size + 1
            yield Frame(payload, position)


def _appended(payload: bytes, *, json: bool) -> Appended:
    """A JSON frame is its messages, each with a comma behind it."""
    if not json:
        return Appended(payload, array("I", [len(payload)]))
    messages = split_messages(b"[%b]" % payload.removesuffix(b","), _DEPTH_MAX)
    sizes = array("I", [len(message) + 1 for message in messages])
    return Appended(b"".join(b"%b," % message for message in messages), sizes)
