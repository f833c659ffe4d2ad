"""Streams as files: the folder that ``export`` writes and ``import`` reads.

    FOLDER/streams.jsonl      a line of JSON for the folder, then one for each stream
    FOLDER/data/NNN-NAME.bin  the stream's wire bytes
    FOLDER/data/NNN-NAME.ends where its messages and appends end

``streams.jsonl`` is written last: a folder without it is no export. To the byte:
docs/format-export.md. Nothing here knows of a store.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import msgspec

from ..protocol.state import ClosedBy, Mark, ProducerState, Retention
from .errors import BackupDamaged, OpenError
from .options import MIB

assert sys.byteorder == "little", "setup.py refuses others"

FORMAT_VERSION = 1
LIST = "streams.jsonl"
_KIND = "durastream export"
_NAME_SIZE_MAX = 100
_ENDS_PER_READ = 65_536


class ExportHeader(msgspec.Struct, frozen=True):
    """The first line."""

    format: int
    name: str
    exported_at: int  # Unix ms
    source: str


class StreamLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stream. Times are Unix times in ms, sizes bytes, positions count wire bytes."""

    path: str
    content_type: str
    created_at: int
    last_accessed_at: int
    file: str = ""  # below the folder; the ends are beside it
    size: int = 0
    message_count: int = 0
    sha256: str = ""  # of the wire bytes
    ends_sha256: str = ""
    earliest: int = 0  # position of the first byte
    closed: bool = False
    closed_by: ClosedBy | None = None
    last_seq: str | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None  # as given
    producers: dict[str, ProducerState] = {}
    retention: Retention | None = None
    marks: tuple[Mark, ...] = ()  # when appends began where, if there is a retention by age
    forked_from: str | None = None  # for information: the source's bytes are in the file


@dataclass(frozen=True, slots=True)
class Appended:
    """One append: wire bytes, and the sizes of its messages."""

    data: bytes
    message_sizes: array[int]  # of uint32


class Incoming(Protocol):
    """A stream to be imported, wherever it comes from."""

    line: StreamLine
    note: str  # what a user should know of it once it was checked; empty: nothing

    def check(self) -> None:
        """Whether it is whole, before any of it is used. Raises: BackupDamaged, OSError."""
        ...

    def appends(self) -> Iterator[Appended]:
        """All appends in order. Raises: BackupDamaged, OSError."""
        ...


class StreamWriter:
    """Writes the two files of a stream."""

    def __init__(self, folder: Path, number: int, path: str) -> None:
        name = quote(path.strip("/").replace("/", "-"), safe="-")[:_NAME_SIZE_MAX]
        self._folder = folder
        self.file = f"data/{number:06d}-{name}.bin"
        self._data = (folder / self.file).open("xb")
        self._ends = (folder / self.file).with_suffix(".ends").open("xb")
        self._digests = sha256(), sha256()
        self.size = 0
        self.message_count = 0

    def write(self, data: bytes, ends: array[int]) -> None:
        """Some bytes, and the ends among them: (position << 1) | 1 if an append ends there."""
        raw = ends.tobytes()
        self._data.write(data)
        self._ends.write(raw)
        self._digests[0].update(data)
        self._digests[1].update(raw)
        self.size += len(data)
        self.message_count += len(ends)

    def finish(self, line: StreamLine) -> StreamLine:
        """Close the files; the line for them."""
        self.close()
        return msgspec.structs.replace(
            line,
            file=self.file,
            size=self.size,
            message_count=self.message_count,
            sha256=self._digests[0].hexdigest(),
            ends_sha256=self._digests[1].hexdigest(),
        )

    def close(self) -> None:
        self._data.close()
        self._ends.close()


class ExportedStream:
    """A stream in an exported folder."""

    def __init__(self, folder: Path, line: StreamLine) -> None:
        self._folder = folder
        self.line = line
        self.note = ""

    def check(self) -> None:
        """Whether its files are what was written. Raises: BackupDamaged, OSError."""
        for path, digest in self._files():
            found = sha256()
            try:
                with path.open("rb") as file:
                    while chunk := file.read(MIB):
                        found.update(chunk)
            except FileNotFoundError:
                raise self._damaged("the file is missing", path) from None
            if found.hexdigest() != digest:
                raise self._damaged("not what was exported", path)

    def _files(self) -> Iterator[tuple[Path, str]]:
        path = self._folder / self.line.file
        yield path, self.line.sha256
        yield path.with_suffix(".ends"), self.line.ends_sha256

    def _damaged(self, what: str, path: Path) -> BackupDamaged:
        where = str(path.relative_to(self._folder))
        return BackupDamaged(f"{self.line.path}: {what}", where, "export the stream again")

    def appends(self) -> Iterator[Appended]:
        path, at = self._folder / self.line.file, self.line.earliest
        sizes: array[int] = array("I")
        with path.open("rb") as data:
            for end in self._read_ends(path.with_suffix(".ends")):
                sizes.append((end >> 1) - at)
                at = end >> 1
                if end & 1:
                    yield Appended(data.read(sum(sizes)), sizes)
                    sizes = array("I")

    def _read_ends(self, path: Path) -> Iterator[int]:
        with path.open("rb") as file:
            while raw := file.read(8 * _ENDS_PER_READ):
                yield from array("Q", raw)


def write_list(folder: Path, header: ExportHeader, lines: list[StreamLine]) -> None:
    """Make the folder an export, whole or not at all."""
    temporary = folder / f"{LIST}.tmp"
    with temporary.open("wb") as file:
        for line in (header, *lines):
            file.write(msgspec.json.encode(line) + b"\n")
    temporary.rename(folder / LIST)


def header_for(source: str, now_ms: int) -> ExportHeader:
    return ExportHeader(FORMAT_VERSION, _KIND, now_ms, source)


def read_list(folder: Path) -> list[ExportedStream]:
    """All streams of an export. Raises: OpenError, BackupDamaged, OSError."""
    if not (folder / LIST).is_file():
        raise OpenError(f"{folder}: no export is here (no {LIST})")
    with (folder / LIST).open("rb") as file:
        try:
            header = msgspec.json.decode(file.readline(), type=ExportHeader)
            if header.name != _KIND or header.format > FORMAT_VERSION:
                raise OpenError(f"{folder}: not an export, or one of a newer release")
            lines = [msgspec.json.decode(line, type=StreamLine) for line in file]
        except msgspec.DecodeError as error:
            raise BackupDamaged(f"{folder} ({error})", LIST, "export again") from None
    return [ExportedStream(folder, line) for line in lines]
