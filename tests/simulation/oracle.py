"""What a store must answer and show at every moment, whoever is in the midst of what.

Two stores in memory: ``tip`` is what everything logged so far has led to, and what decisions
are judged by; ``base`` is what everything visible has led to, and what readers are judged by.
Between them are the transitions that are logged and not yet visible: a crash may keep any first
part of them, and nothing else. What was answered or shown is in ``base``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from msgspec.structs import replace as changed

from durastream.engine.memory_store import StreamStore
from durastream.engine.memory_stream import Appends, MemoryStream
from durastream.engine.options import Limits
from durastream.engine.records import touch_interval_ms
from durastream.protocol.retention import too_many_below, too_old_below, trimmed
from durastream.protocol.state import StreamState

from .workload import Operation, attempt

Accesses: TypeAlias = dict[tuple[str, int], int]  # by path and creation: the last one, in ms


class Clock:
    """Unix time in ms, moved by hand."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, ms: int) -> None:
        self.now += ms


@dataclass(frozen=True)
class Transition:
    """One record of the log that changes streams.

    Attributes:
        operation: what was asked for; None if nothing was: an expiry.
        accessed_at: when the stream there had been used last, as the decision knew it, in ms.
        earliest: where the stream begins from now on; None if it was not trimmed.
    """

    lsn: int
    at: int  # ms
    path: str
    operation: Operation | None = None
    accessed_at: int | None = None
    earliest: int | None = None


class Oracle:
    """Both stores in memory, and what lies between them.

    Attributes:
        pending: logged and not yet visible, in the order of the log.
        accessed: of each stream with a TTL, the last access that no crash may take back.
    """

    def __init__(self, limits: Limits, now: int) -> None:
        self.tip = StreamStore(limits=limits, clock=Clock(now))
        self.base = copy_with_own_clock(self.tip)
        self.pending: list[Transition] = []
        self.accessed: Accesses = {}
        self._noted: list[tuple[int, Accesses]] = []
        self._trimmable: dict[int, int] = {}  # by stream of the tip

    # -- what happens ----------------------------------------------------------------------

    def decide(self, operation: Operation, lsn: int | None, at: int) -> Any:
        """An operation was decided, and logged if it has an ``lsn``. Returns what it must be."""
        set_clock(self.tip, at)
        if lsn is None:  # and so nothing changes, not even what is over without a record of it
            return attempt(
                copy_with_own_clock(self.tip) if self._is_any_over() else self.tip, operation
            )
        before = state_at(self.tip, operation.path)
        if before is not None:
            self._note_trimmable(before, at)
        accessed_at = before.last_accessed_at if before is not None else None
        self.pending.append(Transition(lsn, at, operation.path, operation, accessed_at))
        return attempt(self.tip, operation)

    def _is_any_over(self) -> bool:
        streams = self.tip._streams
        return any(streams._has_expired(stream) for stream in streams._by_path.values())

    def expire(self, path: str, lsn: int, at: int) -> bool:
        """The end of a stream was logged; whether its time was over."""
        set_clock(self.tip, at)
        stream = stream_at(self.tip, path)
        if stream is None or not self.tip._streams._has_expired(stream):
            return False
        self.tip._streams._end(stream)
        self.pending.append(Transition(lsn, at, path))
        return True

    def trim(self, path: str, earliest: int, lsn: int, at: int) -> bool:
        """What is before ``earliest`` was given up; whether retention lets it, at an append."""
        stream = stream_at(self.tip, path)
        if stream is None or stream.state.soft_deleted:
            return False
        may_go = self._note_trimmable(stream.state, at)
        ends = stream.append_ends(0, stream.state.tail)
        if not stream.state.earliest < earliest <= may_go or earliest not in ends:
            return False
        self.pending.append(Transition(lsn, at, path, earliest=earliest))
        apply(self.tip, self.pending[-1])
        return True

    def _note_trimmable(self, state: StreamState, at: int) -> int:
        """Below where everything may be given up. Later marks may tell less than is known."""
        may_go = max(too_old_below(state, at), too_many_below(state))
        self._trimmable[state.stream_id] = max(may_go, self._trimmable.get(state.stream_id, 0))
        return self._trimmable[state.stream_id]

    def access(self, path: str, reserved: StreamState, visible: StreamState | None) -> None:
        """A stream was accessed: what it is for decisions and for readers by now."""
        for store, state in ((self.tip, reserved), (self.base, visible)):
            stream = stream_at(store, path)
            if stream is not None and state is not None:
                stream.state = changed(stream.state, last_accessed_at=state.last_accessed_at)

    def advance(self, lsn: int) -> None:
        """Everything up to ``lsn`` became visible."""
        while self.pending and self.pending[0].lsn <= lsn:
            apply(self.base, self.pending.pop(0))

    def note_accesses(self, accesses: Accesses, staged_lsn: int, durable_lsn: int) -> None:
        """Once all that is staged by now is durable, no crash may take these back."""
        self._noted.append((staged_lsn, accesses))
        known = bisect_right([lsn for lsn, _ in self._noted], durable_lsn)
        if known:
            self.accessed = self._noted[known - 1][1]
            del self._noted[:known]

    def settle_on(self, found: StreamStore) -> None:
        """This is what the store shows: there is no doubt any more."""
        self.tip, self.base = found, copy_with_own_clock(found)
        self.pending, self._noted, self._trimmable = [], [], {}
        self.accessed = last_accesses(found)

    # -- what may be -----------------------------------------------------------------------

    def candidates(self) -> Iterator[StreamStore]:
        """What a crash may leave, the most first; each the caller's own."""
        for count in range(len(self.pending), -1, -1):
            found = copy_with_own_clock(self.base)
            for transition in self.pending[:count]:
                apply(found, transition)
            yield found

    def lift(self, found: StreamStore, accesses: Accesses, looked_at: int) -> bool:
        """Take over accesses that a crash made later, or forgot before they were durable.

        Args:
            looked_at: when somebody last looked at all streams, perhaps not at all of them.
        """
        for path, stream in found._streams._by_path.items():
            state = stream.state
            if state.soft_deleted or state.ttl_seconds is None:
                continue
            earliest = self.accessed.get((path, state.created_at), state.created_at)
            latest = max(state.last_accessed_at, looked_at) + touch_interval_ms(state.ttl_seconds)
            accessed_at = accesses.get((path, state.created_at), earliest)
            if not earliest <= accessed_at <= latest:
                return False
            stream.state = changed(state, last_accessed_at=accessed_at)
        return True

    def undurable_lsn(self, *paths: str | None) -> int:
        """The last transition of these paths that is not yet visible; 0 if there is none."""
        return max((each.lsn for each in self.pending if each.path in paths), default=0)


def apply(store: StreamStore, transition: Transition) -> None:
    """Let a store in memory do what was done, at its time."""
    set_clock(store, transition.at)
    stream = stream_at(store, transition.path)
    if transition.operation is not None:
        attempt_as_known_then(store, stream, transition)
    elif stream is None:
        return
    elif transition.earliest is None:
        store._streams._end(stream)
    else:  # the bytes stay: copies of the stores share them
        stream.state = trimmed(stream.state, transition.earliest)


def attempt_as_known_then(
    store: StreamStore, stream: MemoryStream | None, transition: Transition
) -> None:
    """Of accesses since then the decision knew nothing; they are not forgotten, either."""
    assert transition.operation is not None
    latest, known = 0, transition.accessed_at
    if stream is not None and known is not None:
        latest = stream.state.last_accessed_at
        stream.state = changed(stream.state, last_accessed_at=known)
    attempt(store, transition.operation)
    if stream is not None and latest > stream.state.last_accessed_at:
        stream.state = changed(stream.state, last_accessed_at=latest)


def set_clock(store: StreamStore, at: int) -> None:
    clock = store._streams._clock._clock  # behind that of steps
    assert isinstance(clock, Clock)
    clock.now = at


def stream_at(store: StreamStore, path: str) -> MemoryStream | None:
    """What a path names, whether or not its time is over."""
    return store._streams._by_path.get(path)


def state_at(store: StreamStore, path: str) -> StreamState | None:
    stream = stream_at(store, path)
    return stream.state if stream is not None else None


def last_accesses(store: StreamStore) -> Accesses:
    """Of every stream with a TTL: when it was last used."""
    return {
        (path, stream.state.created_at): stream.state.last_accessed_at
        for path, stream in store._streams._by_path.items()
        if stream.state.ttl_seconds is not None and not stream.state.soft_deleted
    }


def copy_with_own_clock(store: StreamStore) -> StreamStore:
    return copy_of(store, Clock(store._streams._clock()))


def copy_of(store: StreamStore, clock: Callable[[], int] | None = None) -> StreamStore:
    """A store in memory that goes its own way from here; what never changes is shared."""
    streams = store._streams
    copied = StreamStore(limits=store.limits, clock=clock or streams._clock._clock)
    own = copied._streams
    own._by_id = {stream_id: copy_of_stream(each) for stream_id, each in streams._by_id.items()}
    own._by_path = {p: own._by_id[each.state.stream_id] for p, each in streams._by_path.items()}
    own._watchlist.put_back(streams._watchlist.deadlines)
    own._watchlist.overlong = set(streams._watchlist.overlong)
    own._next_id = streams._next_id
    return copied


def copy_of_stream(stream: MemoryStream) -> MemoryStream:
    copied = MemoryStream(stream.state, None)
    copied.removed, copied.depth = stream.removed, stream.depth
    copied.producers = dict(stream.producers)
    copied._appends = Appends()
    copied._appends._batches = list(stream._appends._batches)
    copied._appends._ends = list(stream._appends._ends)
    copied._inherited = stream._inherited  # parts of what is never shortened
    return copied
