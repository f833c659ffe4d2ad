"""The streams of a memory store, and the effect of every decision on them.

Every method is one atomic step: the store holds its lock around it. Nothing here takes
long, waits, or looks at arguments; rules are ``protocol``'s, bytes ``memory_stream``'s.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from ..protocol.append import AppendRequest, decide_append
from ..protocol.close import decide_close
from ..protocol.create import CreateRequest, decide_create
from ..protocol.decision import Accepted, Result
from ..protocol.delete import decide_delete
from ..protocol.describe import describe
from ..protocol.errors import InvalidRequest, OffsetGone, StreamGone, StreamNotFound
from ..protocol.expiry import is_expired, touch
from ..protocol.offset import format_offset
from ..protocol.payload import EMPTY, Payload
from ..protocol.producer import ProducerRequest
from ..protocol.read import is_end, is_up_to_date, resolve_offset
from ..protocol.results import AppendResult, CloseResult, ReadResult, Stream, WaitResult
from ..protocol.retention import too_many_below, too_old_below
from ..protocol.state import ProducerState, StreamState
from .errors import StoreClosed
from .memory_stream import MemoryStream
from .options import Limits
from .waiting import Waiter
from .watchlist import Watchlist


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A reader at a position of one incarnation, whatever becomes of the path."""

    stream: MemoryStream
    position: int
    size: int


class MemoryStreams:
    """All streams, by path and by id."""

    def __init__(self, limits: Limits, clock: Callable[[], int]) -> None:
        self._limits = limits
        self._clock = clock
        self._by_path: dict[str, MemoryStream] = {}  # soft-deleted ones included
        self._by_id: dict[int, MemoryStream] = {}
        self._watchlist = Watchlist()
        # Random, so that no entity tag of an earlier process matches (section 12).
        self._next_id = secrets.randbits(48)

    # -- look up -----------------------------------------------------------------------------

    def find(self, path: str) -> MemoryStream | None:
        """The stream at a path, soft-deleted included; one whose time is over ends here."""
        stream = self._by_path.get(path)
        if stream is not None and self._has_expired(stream):
            self._end(stream)
            stream = self._by_path.get(path)
        return stream

    def state(self, path: str) -> StreamState | None:
        stream = self.find(path)
        return stream.state if stream is not None else None

    def live(self, path: str) -> MemoryStream:
        """Raises: StreamNotFound, StreamGone."""
        stream = self.find(path)
        if stream is None:
            raise StreamNotFound(path)
        if stream.state.soft_deleted:
            raise StreamGone(path)
        return stream

    def live_or_none(self, path: str) -> MemoryStream | None:
        stream = self.find(path)
        return stream if stream is not None and not stream.state.soft_deleted else None

    def paths(self) -> list[str]:
        return [path for path in sorted(self._by_path) if self.live_or_none(path) is not None]

    # -- create, append, close ---------------------------------------------------------------

    def create(self, request: CreateRequest, payload: Payload | InvalidRequest) -> Stream:
        self.find(request.path)
        source = self.find(request.forked_from) if request.forked_from is not None else None
        # Only now: the end of an expired fork may have taken its source along.
        existing = self.state(request.path)
        created = decide_create(
            request,
            existing,
            source.state if source is not None else None,
            source,
            payload,
            stream_id=self._next_id,
            source_depth=source.depth if source is not None else 0,
            fork_depth_max=self._limits.fork_depth_max,
            now_ms=self._clock(),
        )
        if created is None:
            assert existing is not None
            return describe(existing)
        assert isinstance(payload, Payload)
        self._next_id += 1
        stream = MemoryStream(created.state, source)
        stream.add(created.state.base, payload)
        self._by_path[request.path] = self._by_id[created.state.stream_id] = stream
        self._watchlist.add(created.state)
        if source is not None and created.source is not None:
            source.state = created.source
        return describe(created.state, created=True)

    def append(
        self, path: str, request: AppendRequest, payload: Payload | InvalidRequest
    ) -> AppendResult:
        stream = self.live(path)
        known = _known(stream, request.producer)
        decision = decide_append(stream.state, known, request, payload, self._clock())
        added = payload if isinstance(payload, Payload) and not request.is_empty else EMPTY
        return self._effect(stream, request.producer, added, decision)

    def close(self, path: str, request: ProducerRequest | None) -> CloseResult:
        stream = self.live(path)
        decision = decide_close(stream.state, _known(stream, request), request, self._clock())
        return self._effect(stream, request, EMPTY, decision)

    def _effect(
        self,
        stream: MemoryStream,
        request: ProducerRequest | None,
        payload: Payload,
        decision: Accepted[Result] | Result,
    ) -> Result:
        if not isinstance(decision, Accepted):
            if decision.producer is None or decision.producer.status == "duplicate":
                self.touch(stream)
            return decision
        stream.add(stream.state.tail, payload)
        before, stream.state = stream.state, decision.state
        self._watchlist.add_grown(before, stream.state)
        if request is not None and decision.producer is not None:
            stream.producers[request.producer_id] = decision.producer
        stream.fire()
        return decision.result

    # -- read and wait -----------------------------------------------------------------------

    def read(self, path: str, offset: str | None, size: int) -> ReadResult:
        pending = self.open_read(path, offset, size)
        self.touch(pending.stream)
        return _chunk(pending)

    def open_read(self, path: str, offset: str | None, size: int) -> PendingRead:
        """Raises: StreamNotFound, StreamGone, InvalidOffset, OffsetGone."""
        stream = self.live(path)
        return PendingRead(stream, resolve_offset(stream.state, offset, stream.is_boundary), size)

    def poll(self, pending: PendingRead, waiter: Waiter, *, timed_out: bool) -> WaitResult | None:
        """What a waiting reader gets; None: nothing yet, and ``waiter`` is parked (4.6).

        Looking and parking are one step, so no wake-up is missed. A parked reader keeps a
        TTL from running out.

        Raises: StreamNotFound, StreamGone, if the stream ended meanwhile; OffsetGone;
        StoreClosed.
        """
        stream = pending.stream
        if waiter.cancelled:
            raise StoreClosed("the store ended the wait")
        if not stream.removed and self._has_expired(stream):
            self._end(stream)
        if stream.removed:
            raise StreamNotFound(stream.state.path)
        if stream.state.soft_deleted:
            raise StreamGone(stream.state.path)
        if pending.position < stream.state.earliest:
            raise OffsetGone(stream.state.path, format_offset(stream.state.earliest))
        self.touch(stream)
        result = _chunk(pending)
        if result.size or result.closed or timed_out:
            nothing = not result.size and not result.closed
            return WaitResult(result, timed_out=nothing, stream_closed=stream.state.closed)
        stream.waiters.add(waiter)
        return None

    def next_deadline_ms(self, pending: PendingRead) -> int | None:
        """How many ms from now on the stream ends whoever waits; None if it does not."""
        expires_at_ms = pending.stream.state.expires_at_ms
        return None if expires_at_ms is None else expires_at_ms - self._clock()

    def cancel_waits(self) -> None:
        for stream in self._by_id.values():
            for waiter in stream.waiters:
                waiter.cancelled = True
            stream.fire()

    def touch(self, stream: MemoryStream) -> None:
        """Count as access (section 13)."""
        stream.state = touch(stream.state, self._clock())

    # -- the end of a stream -----------------------------------------------------------------

    def delete(self, path: str) -> bool:
        stream = self.find(path)
        if stream is None:
            return False
        if stream.state.soft_deleted:
            raise StreamGone(path)
        self._end(stream)
        return True

    def clear(self) -> None:
        streams = list(self._by_id.values())
        self._by_path.clear()
        self._by_id.clear()
        self._watchlist = Watchlist()
        for stream in streams:
            stream.removed = True
            stream.fire()

    def sweep(self) -> int:
        """End the streams whose time is over; how many. Costs those that were due."""
        count = 0
        for stream_id in self._watchlist.take_due(self._clock(), None):
            stream = self._by_id.get(stream_id)
            if stream is None or stream.state.soft_deleted:
                continue
            if self._has_expired(stream):
                self._end(stream)
                count += 1
                continue
            if stream.waiters:
                self.touch(stream)
            self._trim(stream)
            self._watchlist.add(stream.state)
        for stream_id in self._watchlist.take_overlong() & self._by_id.keys():
            self._trim(self._by_id[stream_id])
        return count

    def _trim(self, stream: MemoryStream) -> None:
        """Move the beginning on, as far as retention lets it."""
        state = stream.state
        earliest, limit = too_old_below(state, self._clock()), too_many_below(state)
        if limit > earliest:
            earliest = max(earliest, stream.append_start(limit))
        if earliest > state.earliest and not state.soft_deleted:
            stream.trim(earliest)

    def _has_expired(self, stream: MemoryStream) -> bool:
        """Whether its time is over and no parked reader keeps it alive."""
        state = stream.state
        if state.soft_deleted or (state.ttl_seconds is not None and stream.waiters):
            return False
        return is_expired(state, self._clock())

    def _end(self, stream: MemoryStream) -> None:
        removals = decide_delete(stream.state, lambda i: self._by_id[i].state, self._clock())
        for removal in removals:
            changed = self._by_id[removal.before.stream_id]
            if removal.after is not None:
                changed.state = removal.after
                continue
            changed.removed = True
            del self._by_id[removal.before.stream_id]
            del self._by_path[removal.before.path]
        stream.fire()


def _known(stream: MemoryStream, request: ProducerRequest | None) -> ProducerState | None:
    return stream.producers.get(request.producer_id) if request is not None else None


def _chunk(pending: PendingRead) -> ReadResult:
    stream, start = pending.stream, pending.position
    state, end = stream.state, stream.chunk_end(start, pending.size)
    pieces = list(stream.read(start, end))
    return ReadResult(
        offset=format_offset(start),
        next_offset=format_offset(end),
        up_to_date=is_up_to_date(state, end),
        closed=is_end(state, end),
        incarnation=state.stream_id,
        content_type=state.content_type,
        buffers=pieces if len(pieces) <= 1 else [b"".join(pieces)],
        size=end - start,
        append_ends=stream.append_ends(start, end),
        start=start,
    )
