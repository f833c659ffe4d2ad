"""Streams one call after the other, as plain values: what a concurrent history must be equal to.

Written from the protocol alone, as tests/support/model.py is, but so that a state is a value
that can be compared and kept, and that time is only known within bounds: a call takes effect
somewhere between its invocation and its return, so whether a TTL is over may be unknown. Then
both are possible.

Appends end in ``;`` and contain it nowhere else, so that a stream's bytes tell its offsets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from histories.checker import Call
from histories.operations import (
    BAD_EPOCH,
    BAD_OFFSET,
    BAD_SEQ,
    CLOSED,
    EXISTS,
    GONE,
    MISSING,
    SOURCE_GONE,
    SOURCE_MISSING,
    Append,
    Close,
    Create,
    Delete,
    Head,
    Operation,
    Outcome,
    Producer,
    Read,
)

# Outcomes that change nothing. Not "accepted": closing a closed stream is, too.
OBSERVATIONS = (
    MISSING, GONE, CLOSED, EXISTS, SOURCE_MISSING, SOURCE_GONE, BAD_OFFSET, BAD_SEQ, BAD_EPOCH,
    "there", "head", "gap", "stale", frozenset({EXISTS, GONE, SOURCE_GONE}),
)  # fmt: skip
CLOCK_SLACK = 2.0  # ms: clocks are read in whole ones


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream. ``accessed``: between which two times it was last used, in ms."""

    data: bytes = b""
    closed: bool = False
    closed_by: Producer | None = None
    last_seq: str | None = None
    producers: tuple[Producer, ...] = ()  # the last accepted of each
    ttl_ms: int | None = None
    accessed: tuple[float, float] = (0.0, 0.0)
    source: str | None = None
    fork_offset: int | None = None
    forks: int = 0
    soft_deleted: bool = False

    def has_offset(self, position: int) -> bool:
        return position == 0 or self.data[position - 1 : position] == b";"


Streams = tuple[tuple[str, Stream], ...]  # by path, sorted


class StreamsModel:
    """The sequential specification of the streams of one family, which have a TTL or not."""

    initial: Streams = ()

    def __init__(self, *, has_ttl: bool) -> None:
        self._observed = {*OBSERVATIONS} if has_ttl else {*OBSERVATIONS, "read", "duplicate"}

    def is_observation(self, call: Call) -> bool:
        """Refusals, and what does not count as access where that has a meaning."""
        return call.returned is not None and call.outcome[0] in self._observed

    def step(self, state: Streams, call: Call) -> list[Streams]:
        found = []
        for streams in _at_the_time(dict(state), call):
            outcome = _Step(streams, call).do(call.operation)
            after = tuple(sorted(streams.items()))
            if call.returned is None:
                if after != state:
                    found.append(after)
            elif agrees(outcome, call.outcome):
                found.append(after)
        return list(dict.fromkeys(found))


def agrees(expected: Outcome, seen: Outcome) -> bool:
    """Whether they are equal; what was seen may leave open (None, or a set) what it was."""
    return len(expected) == len(seen) and all(
        there is None or there == value or (isinstance(there, frozenset) and value in there)
        for value, there in zip(expected, seen, strict=True)
    )


# -- time ----------------------------------------------------------------------------------


def _at_the_time(streams: dict[str, Stream], call: Call) -> Iterator[dict[str, Stream]]:
    """The streams as the call may find them.

    A stream that it asks for has ended if its time is over. Another one may have, and given its
    source free, or will do so when it is asked for or swept.
    """
    asked = {call.operation.path, getattr(call.operation, "source", None)}
    choices = [
        [(path, ends) for ends in _may_end(stream, call, is_asked=path in asked)]
        for path, stream in streams.items()
    ]
    for choice in product(*choices):
        found = dict(streams)
        for path, ends in choice:
            if ends and path in found:
                _end(found, path)
        yield found


def _may_end(stream: Stream, call: Call, *, is_asked: bool) -> list[bool]:
    if stream.ttl_ms is None or stream.soft_deleted:
        return [False]
    earliest, latest = stream.accessed
    found = []
    if not is_asked or call.invoked < latest + stream.ttl_ms + CLOCK_SLACK:
        found.append(False)
    if call.returned is None or call.returned > earliest + stream.ttl_ms - CLOCK_SLACK:
        found.append(True)
    return found


def _end(streams: dict[str, Stream], path: str) -> None:
    stream = streams[path]
    if stream.forks:
        streams[path] = replace(stream, soft_deleted=True)
        return
    del streams[path]
    if stream.source is not None:
        source = streams[stream.source]
        streams[stream.source] = replace(source, forks=source.forks - 1)
        if source.forks == 1 and source.soft_deleted:
            _end(streams, stream.source)


# -- the rules -----------------------------------------------------------------------------


class _Refused(Exception):
    pass


class _Step:
    """One call on ``streams``, which it changes."""

    def __init__(self, streams: dict[str, Stream], call: Call) -> None:
        self._streams = streams
        self._call = call

    def do(self, operation: Operation) -> Outcome:
        try:
            match operation:
                case Create():
                    return self._create(operation)
                case Append():
                    return self._append(operation)
                case Close():
                    return self._close(operation)
                case Delete():
                    return self._delete(operation)
                case Read():
                    return self._read(operation)
                case Head():
                    stream = self._live(operation.path)
                    return "head", len(stream.data), stream.closed
        except _Refused as refused:
            outcome: Outcome = refused.args
            return outcome

    def _live(self, path: str) -> Stream:
        stream = self._streams.get(path)
        if stream is None:
            raise _Refused(MISSING)
        if stream.soft_deleted:
            raise _Refused(GONE)
        return stream

    def _use(self, path: str, stream: Stream) -> None:
        """Put a stream back, used at the time of the call."""
        if stream.ttl_ms is not None:
            returned = float("inf") if self._call.returned is None else self._call.returned
            earliest, latest = stream.accessed
            accessed = max(earliest, self._call.invoked), max(latest, returned)
            stream = replace(stream, accessed=accessed)
        self._streams[path] = stream

    def _create(self, asked: Create) -> Outcome:
        there = self._streams.get(asked.path)
        if there is not None:
            return self._confirm(asked, there)
        stream = Stream(asked.data, asked.closed, ttl_ms=asked.ttl_ms)
        if asked.source is not None:
            stream = self._fork(asked)
        self._use(asked.path, stream)
        return "created", len(stream.data)

    def _confirm(self, asked: Create, there: Stream) -> Outcome:
        if there.soft_deleted:
            raise _Refused(GONE)
        inherited = asked.ttl_ms if asked.source is None else there.ttl_ms
        equal = (
            asked.source == there.source
            and asked.closed == there.closed
            and inherited == there.ttl_ms
            and asked.fork_offset in (None, there.fork_offset)
        )
        if not equal:
            raise _Refused(EXISTS)
        return "there", len(there.data), there.closed

    def _fork(self, asked: Create) -> Stream:
        assert asked.source is not None
        source = self._streams.get(asked.source)
        if source is None:
            raise _Refused(SOURCE_MISSING)
        if source.soft_deleted:
            raise _Refused(SOURCE_GONE)
        offset = len(source.data) if asked.fork_offset is None else asked.fork_offset
        if offset > len(source.data) or not source.has_offset(offset):
            raise _Refused(BAD_OFFSET)
        self._streams[asked.source] = replace(source, forks=source.forks + 1)
        return Stream(
            source.data[:offset] + asked.data,
            asked.closed,
            ttl_ms=source.ttl_ms,
            source=asked.source,
            fork_offset=offset,
        )

    def _append(self, asked: Append) -> Outcome:
        stream = self._live(asked.path)
        if stream.closed:
            if asked.producer is not None and asked.producer == stream.closed_by:
                self._use(asked.path, stream)
                return "duplicate", len(stream.data), True
            raise _Refused(CLOSED, len(stream.data))
        status = self._judge(asked.path, stream, asked.producer)
        if status is not None:
            return status
        if asked.seq is not None:
            if stream.last_seq is not None and asked.seq <= stream.last_seq:
                raise _Refused(BAD_SEQ)
            stream = replace(stream, last_seq=asked.seq)
        data = stream.data + asked.data
        self._accept(asked.path, replace(stream, data=data), asked.producer, asked.close)
        return "accepted", len(data), asked.close

    def _close(self, asked: Close) -> Outcome:
        stream = self._live(asked.path)
        if stream.closed:
            if asked.producer is not None and asked.producer != stream.closed_by:
                raise _Refused(CLOSED, len(stream.data))
            self._use(asked.path, stream)
            return ("duplicate" if asked.producer else "accepted"), len(stream.data), True
        status = self._judge(asked.path, stream, asked.producer)
        if status is not None:
            return status
        self._accept(asked.path, stream, asked.producer, True)
        return "accepted", len(stream.data), True

    def _judge(self, path: str, stream: Stream, producer: Producer | None) -> Outcome | None:
        """What a producer is answered unless its request is accepted (section 5.1)."""
        if producer is None:
            return None
        name, epoch, seq = producer
        known = next(((e, s) for n, e, s in stream.producers if n == name), None)
        if known is None or epoch > known[0]:
            if seq == 0:
                return None
            return ("gap", 0) if known is None else (BAD_EPOCH,)
        if epoch < known[0]:
            return "stale", known[0]
        if seq == known[1] + 1:
            return None
        if seq > known[1]:
            return "gap", known[1] + 1
        self._use(path, stream)
        return "duplicate", len(stream.data), False

    def _accept(self, path: str, stream: Stream, producer: Producer | None, close: bool) -> None:
        if producer is not None:
            others = [one for one in stream.producers if one[0] != producer[0]]
            stream = replace(stream, producers=tuple(sorted([*others, producer])))
        if close:
            stream = replace(stream, closed=True, closed_by=producer)
        self._use(path, stream)

    def _delete(self, asked: Delete) -> Outcome:
        self._live(asked.path)
        _end(self._streams, asked.path)
        return ("deleted",)

    def _read(self, asked: Read) -> Outcome:
        stream = self._live(asked.path)
        at = len(stream.data) - self._come_since(asked) if asked.offset is None else asked.offset
        if not 0 <= at <= len(stream.data) or not stream.has_offset(at):
            raise _Refused(BAD_OFFSET)
        self._use(asked.path, stream)
        return "read", stream.data[at:], len(stream.data), stream.closed

    def _come_since(self, asked: Read) -> int:
        """The bytes that came while it waited: ``now`` was the tail when it was invoked."""
        outcome = self._call.outcome
        waited = asked.wait_ms is not None and outcome is not None and outcome[0] == "read"
        return len(outcome[1]) if waited else 0
