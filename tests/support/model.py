"""What a store of streams does, in the simplest terms: every stream is a list of appends.

Written from the protocol alone and sharing no code with the package but its errors, so that
a mistake would have to be made twice to go unnoticed. Slow and small on purpose.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from durastream.protocol.errors import (
    EmptyAppend,
    ForkSourceGone,
    ForkSourceNotFound,
    InvalidForkOffset,
    InvalidJson,
    InvalidOffset,
    SequenceConflict,
    StreamClosed,
    StreamExists,
    StreamGone,
    StreamNotFound,
)

JSON = "application/json"
BYTES = "application/octet-stream"

Producer = tuple[str, int, int]  # id, epoch, seq


def token(position: int) -> str:
    return "0" * 16 + "_" + str(position).zfill(16)


@dataclass
class ModelStream:
    content_type: str
    ttl_seconds: int | None
    accessed_at: int
    appends: list[list[bytes]] = field(default_factory=list)  # each a list of messages
    closed: bool = False
    closed_by: Producer | None = None
    last_seq: str | None = None
    producers: dict[str, tuple[int, int]] = field(default_factory=dict)
    source: ModelStream | None = None
    fork: tuple[str, int, int] | None = None  # path, offset, sub-offset
    forks: int = 0
    soft_deleted: bool = False

    @property
    def offsets(self) -> list[int]:
        """Every position ever handed out."""
        found = [0]
        for messages in self.appends:
            found.append(found[-1] + sum(map(len, messages)))
        return found

    @property
    def data(self) -> bytes:
        return b"".join(b"".join(messages) for messages in self.appends)

    def messages_of(self, data: bytes) -> list[bytes]:
        if self.content_type != JSON:
            return [data]
        try:
            value = json.loads(data)
        except ValueError:
            raise InvalidJson from None
        values = value if isinstance(value, list) else [value]
        return [json.dumps(v, separators=(",", ":")).encode() + b"," for v in values]


class Model:
    """All streams, and the answers of section 4 as plain values."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.streams: dict[str, ModelStream] = {}

    # -- the time ----------------------------------------------------------------------------

    def advance(self, seconds: int) -> None:
        self.now_ms += 1000 * seconds
        for path, stream in list(self.streams.items()):
            if stream.ttl_seconds is None or stream.soft_deleted:
                continue
            if self.now_ms >= stream.accessed_at + 1000 * stream.ttl_seconds:
                self._end(path)

    # -- operations --------------------------------------------------------------------------

    def create(self, path: str, content_type: str, ttl: int | None, data: bytes) -> bool:
        if path in self.streams:
            there = self.streams[path]
            if there.soft_deleted:
                raise StreamGone(path)
            if (there.content_type, there.ttl_seconds, there.closed, there.fork) != (
                content_type, ttl, False, None,
            ):  # fmt: skip
                raise StreamExists(path)
            return False
        stream = ModelStream(content_type, ttl, self.now_ms)
        if data and stream.messages_of(data):
            stream.appends.append(stream.messages_of(data))
        self.streams[path] = stream
        return True

    def fork(self, path: str, source_path: str, offset: int, sub_offset: int) -> bool:
        source = self.streams.get(source_path)
        if path in self.streams:
            there = self.streams[path]
            if there.soft_deleted:
                raise StreamGone(path)
            if there.fork != (source_path, offset, sub_offset) or there.closed:
                raise StreamExists(path)
            return False
        if source is None:
            raise ForkSourceNotFound(source_path)
        if source.soft_deleted:
            raise ForkSourceGone(source_path)
        if offset not in source.offsets:
            raise InvalidForkOffset(source_path)
        count = source.offsets.index(offset)
        appends = [list(messages) for messages in source.appends[:count]]
        if sub_offset:
            appends.append(self._part(source, count, sub_offset))
        stream = ModelStream(source.content_type, source.ttl_seconds, self.now_ms, appends)
        stream.source, stream.fork = source, (source_path, offset, sub_offset)
        source.forks += 1
        self.streams[path] = stream
        return True

    def _part(self, source: ModelStream, count: int, sub_offset: int) -> list[bytes]:
        following = source.appends[count] if count < len(source.appends) else []
        if source.content_type == JSON:
            if sub_offset > len(following):
                raise InvalidForkOffset
            return following[:sub_offset]
        data = b"".join(following)
        if sub_offset > len(data):
            raise InvalidForkOffset
        return [data[:sub_offset]]

    def append(
        self,
        path: str,
        data: bytes,
        *,
        seq: str | None = None,
        producer: Producer | None = None,
        close: bool = False,
    ) -> tuple[str, bool]:
        """What became of it (``appended`` or a producer's status), and whether it is closed."""
        stream = self._live(path)
        if stream.closed:
            if producer is not None and producer == stream.closed_by:
                stream.accessed_at = self.now_ms
                return "duplicate", True
            raise StreamClosed(path, token(stream.offsets[-1]))
        status = self._producer_status(stream, producer)
        if status == "duplicate":
            stream.accessed_at = self.now_ms
        if status != "accepted":
            return status, False
        last_seq = stream.last_seq
        if seq is not None and last_seq is not None and seq.encode() <= last_seq.encode():
            raise SequenceConflict(path, seq, last_seq)
        messages = stream.messages_of(data)
        if not messages:
            raise EmptyAppend
        stream.appends.append(messages)
        stream.last_seq = stream.last_seq if seq is None else seq
        self._accept(stream, producer, close)
        return "accepted", close

    def close(self, path: str, producer: Producer | None) -> tuple[str, bool]:
        stream = self._live(path)
        if stream.closed:
            if producer is not None and producer != stream.closed_by:
                raise StreamClosed(path, token(stream.offsets[-1]))
            stream.accessed_at = self.now_ms
            return ("duplicate" if producer else "accepted"), True
        status = self._producer_status(stream, producer)
        if status == "duplicate":
            stream.accessed_at = self.now_ms
        if status != "accepted":
            return status, False
        self._accept(stream, producer, True)
        return "accepted", True

    def read(self, path: str, offset: int) -> bytes:
        stream = self._live(path)
        if offset not in stream.offsets:
            raise InvalidOffset
        stream.accessed_at = self.now_ms
        return stream.data[offset:]

    def follow(self, path: str, offset: int) -> list[tuple[bytes, str]]:
        """The appends behind ``offset``, each with the offset behind it."""
        self.read(path, offset)
        stream = self.streams[path]
        ends = zip(stream.appends, stream.offsets[1:], strict=True)
        return [(b"".join(parts), token(end)) for parts, end in ends if end > offset]

    def delete(self, path: str) -> bool:
        if path not in self.streams:
            return False
        if self.streams[path].soft_deleted:
            raise StreamGone(path)
        self._end(path)
        return True

    # -- parts -------------------------------------------------------------------------------

    def _live(self, path: str) -> ModelStream:
        if path not in self.streams:
            raise StreamNotFound(path)
        if self.streams[path].soft_deleted:
            raise StreamGone(path)
        return self.streams[path]

    def _producer_status(self, stream: ModelStream, producer: Producer | None) -> str:
        if producer is None:
            return "accepted"
        name, epoch, seq = producer
        if name not in stream.producers:
            return "accepted" if seq == 0 else "sequence_gap"
        known_epoch, last = stream.producers[name]
        if epoch < known_epoch:
            return "stale_epoch"
        if epoch > known_epoch:
            return "accepted" if seq == 0 else "invalid_epoch_seq"
        if seq <= last:
            return "duplicate"
        return "accepted" if seq == last + 1 else "sequence_gap"

    def _accept(self, stream: ModelStream, producer: Producer | None, close: bool) -> None:
        stream.accessed_at = self.now_ms
        if producer is not None:
            stream.producers[producer[0]] = producer[1:]
        if close:
            stream.closed, stream.closed_by = True, producer

    def _end(self, path: str) -> None:
        stream = self.streams[path]
        if stream.forks:
            stream.soft_deleted = True
            return
        del self.streams[path]
        source = stream.source
        if source is not None:
            source.forks -= 1
            if not source.forks and source.soft_deleted:
                self._end(next(p for p, s in self.streams.items() if s is source))
