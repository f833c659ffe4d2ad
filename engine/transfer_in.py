"""Import streams into a store: the same bytes at the same offsets, and all that goes with them.

Each append becomes a record; producers, Stream-Seq and the close come last. A stream whose import
was interrupted is a beginning of it: the same import, run again, compares it and goes on. A
stream that is another one is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from .._native.errors import TailMoved
from .._native.segment import SegmentDamaged
from ..protocol.errors import StreamError, StreamGone
from ..protocol.expiry import is_expired
from ..protocol.headers import parse_expires_at
from ..protocol.payload import Payload
from ..protocol.producer import ProducerRequest
from ..protocol.state import ProducerState, StreamState
from .adoption import adopt, adopt_append
from .entry import Entry
from .errors import BackupDamaged, StorageError
from .file_engine import FileEngine
from .ranges import RangeReader
from .step import Seen
from .transfer_format import Appended, Incoming, StreamLine
from .transfer_out import producers_of

Value = TypeVar("Value")

_AHEAD_MAX = 2_000  # records logged that are not yet durable


class Refused(Exception):
    """A stream cannot be imported: the message says why. The one that is there is as it was."""


@dataclass(frozen=True, slots=True)
class ImportNote:
    path: str
    text: str


@dataclass(slots=True)
class ImportResult:
    """What became of the streams. Sizes are bytes."""

    imported: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)  # were there already, equal
    refused: list[ImportNote] = field(default_factory=list)
    damaged: list[ImportNote] = field(default_factory=list)  # in the source; not imported
    notes: list[ImportNote] = field(default_factory=list)  # on streams that were imported
    size: int = 0  # written


class Import:
    """One import of ``streams`` into an open store."""

    def __init__(self, engine: FileEngine, streams: Sequence[Incoming]) -> None:
        self._engine = engine
        self._streams = streams
        self._lsn = 0
        self._ahead = 0
        self.total_size = sum(stream.line.size for stream in streams)
        self.result = ImportResult()

    def run(self) -> Iterator[int]:
        """Import; yields bytes done. Raises: StorageError, OSError."""
        for stream in self._streams:
            line = stream.line
            try:
                stream.check()
                changed = yield from self._import(stream)
            except BackupDamaged as damage:
                self.result.damaged.append(ImportNote(line.path, str(damage)))
                continue
            except StorageError:
                raise
            except (Refused, StreamError) as refusal:
                why = str(refusal)
                if isinstance(refusal, StreamGone):
                    why = "the stream that is there is deleted, and kept for its forks"
                self.result.refused.append(ImportNote(line.path, why))
                continue
            if stream.note:
                self.result.notes.append(ImportNote(line.path, stream.note))
            (self.result.imported if changed else self.result.present).append(line.path)
        self._wait()

    def _import(self, stream: Incoming) -> Generator[int, None, bool]:
        """Whether anything was changed."""
        line, wanted = stream.line, state_of(stream.line)
        if is_expired(wanted, self._engine.now()):
            raise Refused("its time is over")
        entry, found, is_new = self._log(partial(adopt, self._engine.operations, state=wanted))
        _require_same(wanted, found)
        at = wanted.base
        for append in stream.appends():
            end = at + len(append.data)
            if end <= found.tail:
                self._require_stored(found, at, append.data)
            elif at < found.tail or found.closed:
                raise Refused("a shorter stream is there, with other bytes or closed")
            else:
                self._append(entry, append, time_of(line, at))
            yield len(append.data)
            at = end
        if at < found.tail:
            raise Refused("a longer stream is there")
        self.result.size += at - found.tail
        return self._finish(line, entry, found) or is_new or at > found.tail

    def _append(self, entry: Entry, append: Appended, at: int) -> None:
        payload = Payload(append.data, append.message_sizes)
        self._adopt(entry, payload=payload, at=at)

    def _finish(self, line: StreamLine, entry: Entry, found: StreamState) -> bool:
        """Producers, then Stream-Seq, the close and the last access; whether any was missing."""
        by, changed = line.closed_by, False
        known = producers_of(self._engine, entry)
        for producer_id, state in line.producers.items():
            if _is_known(known.get(producer_id), state) or (by and by.producer_id == producer_id):
                continue
            if found.closed:
                raise Refused("a closed stream is there, with other producers")
            request = ProducerRequest(producer_id, state.epoch, state.last_seq)
            self._adopt(entry, producer=request)
            changed = True
        if (line.closed, line.last_seq) != (found.closed, found.last_seq):
            closer = ProducerRequest(by.producer_id, by.epoch, by.seq) if by is not None else None
            self._adopt(entry, seq=line.last_seq, producer=closer, close=line.closed)
            changed = True
        return changed

    def _adopt(self, entry: Entry, payload: Payload | None = None, **fields: Any) -> None:
        self._log(
            partial(adopt_append, self._engine.operations, entry=entry, payload=payload, **fields)
        )

    # -- the store -----------------------------------------------------------------------------

    def _log(self, step: Callable[[Seen], Value]) -> Value:
        outcome = self._engine.decide(step)
        self._lsn = max(self._lsn, outcome.lsn)
        self._ahead += 1
        if self._ahead >= _AHEAD_MAX:
            self._wait()
        return outcome.result()

    def _wait(self) -> None:
        self._engine.wait_durable(self._lsn)
        self._ahead = 0

    def _require_stored(self, found: StreamState, start: int, data: bytes) -> None:
        if self._stored(found, start, start + len(data)) != data:
            raise Refused("a stream with other bytes is there")

    def _stored(self, found: StreamState, start: int, end: int) -> bytes:
        parts = b""
        while start + len(parts) < end:
            _, view = self._engine.run(lambda seen: self._engine.view(seen, found.path))
            at = start + len(parts)
            try:
                with self._engine.using_files():
                    reader = RangeReader(view, may_wait=True)
                    chunk = reader.read(at, end - at, whole_messages=False)
            except TailMoved:
                continue
            except SegmentDamaged as damage:
                raise Refused(f"the stream that is there is damaged ({damage})") from damage
            parts += b"".join(chunk.buffers)
        return parts[: end - start]


def state_of(line: StreamLine) -> StreamState:
    """A stream at its beginning."""
    text = line.expires_at
    return StreamState(
        stream_id=0,
        path=line.path,
        content_type=line.content_type,
        created_at=line.created_at,
        last_accessed_at=line.created_at if _ages(line) else line.last_accessed_at,
        tail=line.earliest,
        base=line.earliest,
        earliest=line.earliest,
        ttl_seconds=line.ttl_seconds,
        expires_at=text,
        expires_at_ms=parse_expires_at(text) if text is not None else None,
        retention=line.retention,
    )


def _ages(line: StreamLine) -> bool:
    """Whether it matters when each append was. With a TTL an old access would end the stream."""
    return bool(line.marks) and line.ttl_seconds is None


def time_of(line: StreamLine, position: int) -> int:
    """When the append at ``position`` was, as far as it is known; Unix ms."""
    if not _ages(line):
        return line.last_accessed_at
    times = [mark.at for mark in line.marks if mark.position <= position]
    return times[-1] if times else line.created_at


def _require_same(wanted: StreamState, found: StreamState) -> None:
    for name in ("content_type", "created_at", "base", "ttl_seconds", "expires_at"):
        if getattr(wanted, name) != getattr(found, name):
            raise Refused(f"another stream is there: its {name} is {getattr(found, name)}")


def _is_known(known: ProducerState | None, state: ProducerState) -> bool:
    return known is not None and (known.epoch, known.last_seq) == (state.epoch, state.last_seq)
