"""Every operation of the file store as one step under the store's lock: decide, then log.

A step looks up states in the catalog, asks ``protocol`` for the decision, stages one record and
moves the reserved state; the change becomes visible once the record is durable. It never waits:
what is not in memory raises ``Cold``. What a step read is noted in ``Seen``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Protocol

from msgspec.structs import replace

from .._native.errors import LogFailed, LogFull
from .._native.log import Log
from ..protocol.append import AppendRequest, decide_append
from ..protocol.close import decide_close
from ..protocol.create import CreateRequest, creation_content_type, decide_create
from ..protocol.decision import Accepted
from ..protocol.delete import Removal, decide_delete
from ..protocol.describe import describe
from ..protocol.errors import StreamGone, StreamNotFound
from ..protocol.expiry import is_expired
from ..protocol.fork import Boundaries
from ..protocol.offset import format_offset
from ..protocol.payload import Payload
from ..protocol.producer import ProducerRequest
from ..protocol.results import AppendResult, CloseResult, Stream
from ..protocol.retention import (
    is_trim_due,
    trimmed,
)
from ..protocol.state import ProducerState, StreamState
from .body import Body
from .catalog import Catalog, Change, binding_after_end, has_unlogged_access
from .entry import Binding, Entry
from .errors import ReadOnly, StorageError
from .options import Limits
from .plain_append import append_plain
from .projection import Projection
from .ranges import quarantined
from .records import (
    AppendMeta,
    CreateMeta,
    Kind,
    Meta,
    QuarantineMeta,
    TouchMeta,
    TrimMeta,
    delete_meta,
    encode,
    touch_interval_ms,
)
from .step import Seen
from .watchlist import Watchlist

# What frees space, or keeps damage from being served, is logged on a full disk, too.
_FREEING = frozenset({Kind.DELETE, Kind.QUARANTINE})


class SourceBoundaries(Protocol):
    """The boundaries of a fork's source, whichever incarnation a step finds."""

    def of(self, stream_id: int) -> Boundaries: ...


class Operations:
    """Steps on the reserved states. The caller holds the store's lock."""

    def __init__(
        self,
        catalog: Catalog,
        projection: Projection,
        log: Log,
        limits: Limits,
        now: Callable[[], int],
    ) -> None:
        self._catalog = catalog
        self._projection = projection
        self._log = log
        self._limits = limits
        self._now = now
        self.next_stream_id = 1
        self.watchlist = Watchlist()
        self.write_refusal: StorageError | None = None  # why nothing can be logged at present
        self.growth_refusal: StorageError | None = None  # the same of what needs more space

    # -- looking up --------------------------------------------------------------------------

    def live(self, seen: Seen, path: str) -> tuple[Entry, StreamState]:
        """The stream that a path names, as reserved: what writes are decided on.

        Raises: Cold, StreamNotFound, StreamGone.
        """
        entry = self.current(seen, path).reserved
        state = entry.reserved if entry is not None else None
        if entry is None or state is None:
            raise StreamNotFound(path)
        if state.soft_deleted:
            raise StreamGone(path)
        return entry, state

    def visible(self, seen: Seen, path: str) -> tuple[Entry, StreamState] | None:
        """The stream that a path names, as durable: what readers are shown, without waiting.

        Only where its time is over something is waited for: the end, which is logged first if it
        is not yet, or an access that came in time. Raises: Cold.
        """
        binding = self._catalog.binding(path)
        if self._expires(binding.reserved) or self._is_over(binding.visible):
            kept = self.current(seen, path).reserved
            return None if kept is None or kept.reserved is None else (kept, kept.reserved)
        entry = binding.visible
        if entry is None or entry.visible is None:
            self._require_known(None)
            return None
        return entry, entry.visible

    def require_all(self) -> None:
        """Raises: ReadOnly if streams may be there that nobody can name."""
        self._require_known(None)

    def _require_known(self, entry: Entry | None) -> None:
        """Where damage hides whom it hit, "not found" may be wrong. Raises: ReadOnly."""
        if (entry is None or entry.reserved is None) and isinstance(self.write_refusal, ReadOnly):
            raise copy(self.write_refusal)

    def readable(self, seen: Seen, path: str) -> tuple[Entry, StreamState]:
        """``visible``, but Raises: StreamNotFound, StreamGone."""
        found = self.visible(seen, path)
        if found is None:
            raise StreamNotFound(path)
        if found[1].soft_deleted:
            raise StreamGone(path)
        return found

    def current(self, seen: Seen, path: str) -> Binding:
        """The binding of a path, after the end of an expired stream was logged."""
        binding = self._catalog.binding(path)
        entry = binding.reserved
        try:
            self._end_if_over(seen, binding)
        except (StorageError, LogFull):  # it is over all the same
            assert entry is not None
            left = binding_after_end(path, entry)
            seen.note(left.lsn)
            return left
        self._require_known(binding.reserved)
        seen.note(binding.lsn)
        if entry is not None:
            seen.note(entry.lsn)
        return binding

    def _end_if_over(self, seen: Seen, binding: Binding) -> None:
        """Raises: Cold; LogFull and StorageError if that cannot be logged now."""
        entry = binding.reserved
        if entry is not None and self._expires(entry):
            self._remove(seen, binding, entry, expired=True)

    def _expires(self, entry: Entry | None) -> bool:
        """Whether the stream's time is over; waiting readers keep it alive (section 13)."""
        if entry is None or entry.reserved is None or entry.reserved.soft_deleted:
            return False
        if entry.waiters:
            self.touch(entry)
        return is_expired(entry.reserved, self._now())

    def _is_over(self, entry: Entry | None) -> bool:
        """Whether what is visible has expired, whatever is reserved."""
        state = entry.visible if entry is not None else None
        if entry is None or state is None or state.soft_deleted:
            return False
        is_kept = entry.waiters and state.ttl_seconds is not None  # a date waits for nobody
        return not is_kept and is_expired(state, self._now())

    # -- create ------------------------------------------------------------------------------

    def create(
        self, seen: Seen, request: CreateRequest, body: Body, boundaries: SourceBoundaries
    ) -> Stream:
        """``boundaries`` are those of the source, if it is to be a fork."""
        # What it takes along has to be known: if it cannot be logged, neither can the creation.
        self._end_if_over(seen, self._catalog.binding(request.path))
        binding = self.current(seen, request.path)
        path = request.forked_from
        source = None if path is None else self.current(seen, path).reserved
        # Only now: the end of an expired fork may have taken its source along.
        existing = binding.reserved.reserved if binding.reserved is not None else None
        state = source.reserved if source is not None else None
        payload = body.payload(creation_content_type(request, state))
        created = decide_create(
            request,
            existing,
            state,
            boundaries.of(state.stream_id) if state is not None else None,
            payload,
            stream_id=self.next_stream_id,
            source_depth=self._depth(state),
            fork_depth_max=self._limits.fork_depth_max,
            now_ms=self._now(),
        )
        if created is None:
            assert existing is not None
            return describe(existing)
        assert isinstance(payload, Payload)
        self.log_create(seen, binding, created.state, payload)
        if created.source is not None:
            assert source is not None
            self._change(seen.lsn, source, created.source)
        return describe(created.state, created=True)

    def _depth(self, state: StreamState | None) -> int:
        """The number of sources above a stream. Raises: Cold."""
        depth = 0
        while state is not None and state.source_id is not None:
            state = self._catalog.entry(state.source_id).reserved
            depth += 1
        return depth

    def log_create(
        self, seen: Seen, binding: Binding, state: StreamState, payload: Payload
    ) -> None:
        """Log a new stream, decided on already, at a path that names none."""
        entry = Entry(state, lsn=0, visible=False)
        lsn = self._stage(seen, Kind.CREATE, state, state.base, CreateMeta(state), payload, entry)
        self.next_stream_id += 1
        entry.lsn = binding.lsn = lsn
        self._catalog.bind_new(binding, entry)
        self._projection.push(Change(lsn, entry, binding))
        self.watchlist.add(state)

    def watch(self, stream_id: int) -> None:
        """Have the sweeper look at a stream, if it is still there, and in memory."""
        entry = self._catalog.entries.get(stream_id)
        if entry is not None and entry.reserved is not None:
            self.watchlist.add(entry.reserved)

    # -- append and close ----------------------------------------------------------------------

    def append(
        self,
        seen: Seen,
        path: str,
        request: AppendRequest,
        body: Body,
    ) -> AppendResult:
        plain = self._plain(path, request, body)
        if plain is not None:
            return self.append_plain(seen, *plain)
        entry, state = self.live(seen, path)
        payload = body.payload(state.content_type)
        known = self._known(entry, request.producer)
        decision = decide_append(state, known, request, payload, self._now())
        if not isinstance(decision, Accepted):
            if decision.producer is None or decision.producer.status == "duplicate":
                self.touch(entry)
            return decision
        self._require_writable(entry)
        assert isinstance(payload, Payload) or request.is_empty
        self.log_append(
            seen,
            entry,
            decision.state,
            decision.producer,
            request.producer,
            request.seq if not request.is_empty else None,
            payload if isinstance(payload, Payload) and not request.is_empty else None,
        )
        return decision.result

    def _plain(self, path: str, request: AppendRequest, body: Body) -> tuple[Entry, Payload] | None:
        """The stream and the payload if no rule stands against an append. Raises: Cold."""
        if (
            not request.is_plain
            or self.write_refusal is not None
            or self.growth_refusal is not None
        ):
            return None
        entry = self._catalog.binding(path).reserved
        if entry is None or not entry.is_plain:
            return None
        content_type = entry.origin.content_type
        if request.content_type not in (None, content_type):
            return None
        payload = body.payload(content_type)
        return (entry, payload) if isinstance(payload, Payload) else None

    def append_plain(self, seen: Seen, entry: Entry, payload: Payload) -> AppendResult:
        """Log an append that no rule stands against."""
        lsn = append_plain(
            self._log, self._projection, entry, payload.data, payload.message_sizes, self._now()
        )
        seen.note(lsn)
        return AppendResult(format_offset(entry.tail.end), True, False)

    def close(self, seen: Seen, path: str, producer: ProducerRequest | None) -> CloseResult:
        entry, state = self.live(seen, path)
        decision = decide_close(state, self._known(entry, producer), producer, self._now())
        if not isinstance(decision, Accepted):
            if decision.producer is None or decision.producer.status == "duplicate":
                self.touch(entry)
            return decision
        self._require_writable(entry)
        self.log_append(seen, entry, decision.state, decision.producer, producer, None, None)
        return decision.result

    def _known(self, entry: Entry, producer: ProducerRequest | None) -> ProducerState | None:
        return None if producer is None else self._catalog.producer(entry, producer.producer_id)

    def log_append(
        self,
        seen: Seen,
        entry: Entry,
        after: StreamState,
        producer_after: ProducerState | None,
        producer: ProducerRequest | None,
        seq: str | None,
        payload: Payload | None,
    ) -> None:
        """Log an append, a close or a producer's state, decided on already."""
        before = entry.reserved
        assert before is not None
        meta = AppendMeta(
            after.last_accessed_at,
            after.closed,
            seq,
            producer.producer_id if producer is not None else None,
            producer.epoch if producer is not None else 0,
            producer.seq if producer is not None else 0,
        )
        lsn = self._stage(seen, Kind.APPEND, before, before.tail, meta, payload, entry)
        change = self._change(lsn, entry, after)
        self.watchlist.add_grown(before, after)
        entry.logged_at = after.last_accessed_at
        if producer is not None and producer_after is not None:
            entry.producers[producer.producer_id] = producer_after
            change.producer = (producer.producer_id, producer_after)

    # -- access ------------------------------------------------------------------------------

    def touch(self, entry: Entry) -> None:
        """Count as access: at once in memory, now and then in the log, without waiting."""
        state, now = entry.reserved, self._now()
        if state is None or state.ttl_seconds is None:
            return
        self._catalog.keep(entry)
        if entry.visible is not None and entry.visible.last_accessed_at < now:
            entry.visible = replace(entry.visible, last_accessed_at=now)
        if now > state.last_accessed_at:
            after = replace(state, last_accessed_at=now)
            if now - entry.logged_at < touch_interval_ms(state.ttl_seconds):
                entry.reserved = after
            else:
                self.log_access(entry, after)

    def log_access(self, entry: Entry, state: StreamState) -> None:
        """Log the last access of ``state``, as far as the log takes records."""
        try:
            meta = TouchMeta(state.last_accessed_at)
            lsn = self._stage(Seen(), Kind.TOUCH, state, state.tail, meta, None, entry)
        except (StorageError, LogFull, LogFailed):
            entry.reserved = state  # an access must not fail a read; recovery allows for it
            return
        entry.logged_at = state.last_accessed_at
        self._change(lsn, entry, state)

    def save_access(self, entry: Entry) -> bool:
        """Log the last access if only memory knows of it; False if that cannot be."""
        if entry.waiters:
            self.touch(entry)  # the wait ends now
        state = entry.reserved
        if state is None or not has_unlogged_access(entry, state):
            return True
        self.log_access(entry, state)
        return not has_unlogged_access(entry, state)

    # -- the end of a stream -------------------------------------------------------------------

    def delete(self, seen: Seen, path: str) -> bool:
        binding = self.current(seen, path)
        entry = binding.reserved
        if entry is None or entry.reserved is None:
            return False
        if entry.reserved.soft_deleted:
            raise StreamGone(path)
        self._remove(seen, binding, entry, expired=False)
        return True

    def expire(self, seen: Seen, stream_id: int) -> bool:
        """Log the end of a stream if its time is over. Raises: Cold."""
        entry = self._catalog.entry(stream_id)
        if entry.reserved is None:
            return False
        if not self._expires(entry):
            return False
        self._remove(seen, self._catalog.binding(entry.reserved.path), entry, expired=True)
        return True

    def _remove(self, seen: Seen, binding: Binding, entry: Entry, *, expired: bool) -> None:
        state = entry.reserved
        assert state is not None
        removals = decide_delete(state, self._reserved_of, self._now())
        touched = [self._removal_target(removal) for removal in removals]  # Cold before the log
        lsn = self._stage(
            seen, Kind.DELETE, state, state.tail, delete_meta(removals, self._now(), expired), None
        )
        for removal, (target, bound) in zip(removals, touched, strict=True):
            change = self._change(lsn, target, removal.after)
            if bound is not None:
                change.binding = bound
                bound.lsn = lsn
                bound.reserved = None

    def _removal_target(self, removal: Removal) -> tuple[Entry, Binding | None]:
        entry = self._catalog.entry(removal.before.stream_id)
        if removal.after is not None:
            return entry, None
        binding = self._catalog.binding(removal.before.path)
        return entry, binding if binding.reserved is entry else None

    def _reserved_of(self, stream_id: int) -> StreamState:
        state = self._catalog.entry(stream_id).reserved
        assert state is not None, "a source outlives its forks"
        return state

    # -- its beginning -------------------------------------------------------------------------

    def to_trim(self, stream_id: int) -> tuple[Entry, StreamState] | None:
        """A stream whose beginning retention lets move now. Raises: Cold."""
        entry = self._catalog.entry(stream_id)
        state = entry.reserved
        return (entry, state) if state is not None and is_trim_due(state, self._now()) else None

    def trim(self, seen: Seen, entry: Entry, earliest: int) -> bool:
        """Log that everything before ``earliest``, where an append ends, is given up."""
        state = entry.reserved
        if state is None or state.soft_deleted or earliest <= state.earliest:
            return False
        lsn = self._stage(seen, Kind.TRIM, state, state.tail, TrimMeta(earliest), None)
        self._change(lsn, entry, trimmed(state, earliest))
        return True

    # -- damage ------------------------------------------------------------------------------

    def quarantine(self, seen: Seen, entry: Entry, position: int, where: str) -> None:
        """Close a stream for writes, and for reads behind ``position`` (I6)."""
        state = entry.reserved
        if state is None or (entry.quarantine and entry.quarantine.position <= position):
            return
        meta = QuarantineMeta(position, where)
        entry.quarantine = meta
        lsn = self._stage(seen, Kind.QUARANTINE, state, state.tail, meta, None)
        self._change(lsn, entry, state)

    def _require_writable(self, entry: Entry) -> None:
        if entry.quarantine is not None:
            raise quarantined(entry.origin, entry.quarantine)

    # -- the log -------------------------------------------------------------------------------

    def _change(self, lsn: int, entry: Entry, after: StreamState | None) -> Change:
        self._catalog.keep(entry)
        entry.reserved = after
        entry.lsn = lsn
        change = Change(lsn, entry)
        self._projection.push(change)
        return change

    def _stage(
        self,
        seen: Seen,
        kind: Kind,
        state: StreamState,
        position: int,
        meta: Meta,
        payload: Payload | None,
        entry: Entry | None = None,
    ) -> int:
        refusal = self.write_refusal
        if refusal is None and kind not in _FREEING:
            refusal = self.growth_refusal
        if refusal is not None:
            raise copy(refusal)  # one object would gather everybody's tracebacks
        has_data = payload is not None and payload.size > 0
        lsn = self._log.stage(
            kind,
            state.stream_id,
            position,
            encode(meta),
            payload.data if payload is not None and has_data else None,
            payload.message_sizes if payload is not None else None,
            entry.tail if entry is not None and has_data else None,
        )
        seen.note(lsn)
        return lsn
