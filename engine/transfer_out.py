"""Export streams of a store to a folder, with all that is known of them.

A read for an export is no access: no deadline moves. Each stream is as of one moment; nobody may
delete one meanwhile. Format: docs/format-export.md.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import msgspec

from .._native.errors import TailMoved
from .._native.segment import SegmentDamaged
from ..protocol.errors import StreamNotFound
from ..protocol.headers import is_json
from ..protocol.json_body import split_messages
from ..protocol.state import ProducerState, StreamState
from .entry import Entry
from .errors import BackupDamaged, OpenError
from .file_engine import FileEngine
from .metadata import ProducerRow, id_key
from .options import MIB
from .ranges import Chunk, RangeReader, View
from .transfer_format import StreamLine, StreamWriter, header_for, write_list

_DEPTH_MAX = 100_000  # what is stored was accepted, whatever the limit was then


class Export:
    """One export of the streams at ``paths`` to ``folder``, which is empty or new.

    Attributes:
        lines: what was exported.
        total_size: bytes to do, known once the first were done.
    """

    def __init__(self, engine: FileEngine, folder: Path, paths: Sequence[str]) -> None:
        self._engine = engine
        self._folder = folder
        self._paths = paths
        self.lines: list[StreamLine] = []
        self.total_size = 0

    def run(self) -> Iterator[int]:
        """Export; yields bytes done. Raises: OpenError, StreamNotFound, Damaged, OSError."""
        found = [self._view(path) for path in self._paths]
        self.total_size = sum(view.state.tail - view.state.earliest for _, view in found)
        make_folder(self._folder)
        for number, (entry, view) in enumerate(found, 1):
            yield from self._export(number, entry, view.state)
        header = header_for(os.fspath(self._engine.path), self._engine.now())
        write_list(self._folder, header, self.lines)

    def _view(self, path: str) -> tuple[Entry, View]:
        return self._engine.run(lambda seen: self._engine.view(seen, path))

    def _export(self, number: int, entry: Entry, state: StreamState) -> Iterator[int]:
        writer = StreamWriter(self._folder, number, state.path)
        try:
            at = state.earliest
            while at < state.tail:
                chunk = self._read(state, at)
                data = b"".join(chunk.buffers)
                writer.write(data, message_ends(state.content_type, data, at, chunk.append_ends))
                yield len(data)
                at = chunk.end
            producers = producers_of(self._engine, entry)
            self.lines.append(writer.finish(line_of(state, producers)))
        finally:
            writer.close()

    def _read(self, state: StreamState, at: int) -> Chunk:
        whole = is_json(state.content_type)
        while True:
            _, view = self._view(state.path)
            if view.state.stream_id != state.stream_id:
                raise StreamNotFound(state.path)
            try:
                with self._engine.using_files():
                    # Not what was appended since.
                    reader = RangeReader(replace(view, state=state), may_wait=True)
                    return reader.read(at, MIB, whole_messages=whole)
            except TailMoved:
                continue  # a flush moved it into a segment
            except SegmentDamaged as damage:
                where = f"{damage.path}, byte {damage.position}"
                advice = "leave the stream out, or restore it from a backup"
                raise BackupDamaged(state.path, where, advice) from damage


def producers_of(engine: FileEngine, entry: Entry) -> dict[str, ProducerState]:
    """All producers of a stream, as reserved. Blocks. Raises: BackupDamaged."""
    prefix = id_key(entry.stream_id)
    with engine.lock:
        newest = dict(entry.producers)
    found: dict[str, ProducerState] = {}
    with engine.using_files():
        for row in engine.metadata.scan("producers", prefix):
            if not row.key.startswith(prefix):
                break
            if not row.is_whole:
                what = f"{entry.origin.path}: a producer's row"
                raise BackupDamaged(what, "meta.lmdb", "leave the stream out")
            producer = msgspec.msgpack.decode(row.value, type=ProducerRow)
            found[producer.producer_id] = producer.state
    return {**found, **newest}


def line_of(state: StreamState, producers: dict[str, ProducerState]) -> StreamLine:
    """What the list says of a stream, but for its files."""
    return StreamLine(
        path=state.path,
        content_type=state.content_type,
        created_at=state.created_at,
        last_accessed_at=state.last_accessed_at,
        earliest=state.earliest,
        closed=state.closed,
        closed_by=state.closed_by,
        last_seq=state.last_seq,
        ttl_seconds=state.ttl_seconds,
        expires_at=state.expires_at,
        producers=producers,
        retention=state.retention,
        marks=state.marks,
        forked_from=state.forked_from,
    )


def message_ends(
    content_type: str, data: bytes, start: int, append_ends: Sequence[int]
) -> array[int]:
    """The ends in a chunk: of a byte stream, those of appends; of JSON, of messages, too."""
    if not is_json(content_type):
        return array("Q", [end << 1 | 1 for end in append_ends])
    sizes = (len(message) + 1 for message in split_messages(b"[%b]" % data[:-1], _DEPTH_MAX))
    marked = set(append_ends)
    ends = list(accumulate(sizes, initial=start))[1:]
    assert ends[-1] == start + len(data), "stored messages are trimmed"
    return array("Q", [end << 1 | (end in marked) for end in ends])


def make_folder(folder: Path) -> None:
    """An empty folder for an export. Raises: OpenError if it is not empty, OSError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OpenError(f"{folder}: is not empty; choose an empty or new folder")
    (folder / "data").mkdir(parents=True, exist_ok=True)
