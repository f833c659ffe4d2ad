"""Watches one open store from inside and holds every decision and every view against the oracle.

Decisions are made under the store's lock, one at a time, so the order of them is the one that
counts: the oracle decides the same in the same moment. Records, accesses and the moment at which
something becomes visible are seen where they happen; from them alone the oracle moves.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

from durastream._native.errors import LogFailed, LogFull, RecordTooLarge
from durastream.engine.catalog import Cold
from durastream.engine.errors import StorageError
from durastream.engine.memory_stream import MemoryStream
from durastream.engine.records import Kind, touch_interval_ms
from durastream.protocol.errors import StreamError
from durastream.protocol.expiry import is_expired
from durastream.protocol.offset import format_offset
from durastream.protocol.results import AppendResult
from durastream.protocol.state import StreamState

from .oracle import Clock, Oracle, last_accesses, set_clock, state_at, stream_at
from .workload import Operation, comparable

NO_DECISION = (Cold, StorageError, LogFailed, LogFull, RecordTooLarge)


class WatchedProjection:
    """A store's projection, which tells when what is visible moved."""

    def __init__(self, projection: Any, advanced: Callable[[], None]) -> None:
        self.watched, self._advanced = projection, advanced

    def __getattr__(self, name: str) -> Any:
        return getattr(self.watched, name)

    def advance(self, durable_lsn: int) -> None:
        self.watched.advance(durable_lsn)
        self._advanced()


class Violation(AssertionError):
    """The store broke a promise."""


@dataclass(eq=False)
class Call:
    """What one client asks for, and what became of it."""

    operation: Operation
    is_decided: bool = False
    lsn: int = 0  # what its answer must wait for
    expected: Any = None


@dataclass(eq=False)
class Reader:
    """Who waits for news; and the state that it was shown last."""

    shown: StreamState | None = None


CALL: ContextVar[Call | None] = ContextVar("call", default=None)  # of the task that asks
READER: ContextVar[Reader | None] = ContextVar("reader", default=None)


class Witness:
    """The oracle's eyes in one open store. ``violation`` is the first that was seen."""

    def __init__(self, store: Any, oracle: Oracle, clock: Clock) -> None:
        self.oracle = oracle
        self.violation: Violation | None = None
        self.is_watching = True
        self._engine = store._engine
        self._clock = clock
        self._logged: list[int] = []  # LSNs of the decision being made
        # By incarnation: what readers may be given, and what has to be durable by then.
        self._shown: dict[int, tuple[MemoryStream, int]] = {}
        self._unlogged: dict[str, tuple[int, int]] = {}  # by path: creation, and what is promised
        self._watch_operations()
        self._watch_engine()

    def fail(self, what: str) -> NoReturn:
        violation = Violation(what)
        self.violation = self.violation or violation
        raise violation

    # -- where it looks --------------------------------------------------------------------

    def _watch_operations(self) -> None:
        operations = self._engine.operations
        for method in ("create", "append", "close", "delete"):
            setattr(operations, method, self._deciding(method, getattr(operations, method)))
        stage, touch, visible = operations._stage, operations.touch, operations.visible
        log_access = operations.log_access

        def staging(seen: Any, kind: Kind, state: Any, *arguments: Any) -> int:
            lsn: int = stage(seen, kind, state, *arguments)
            if self.is_watching:
                self._note_record(lsn, kind, state.path, arguments[1])
            return lsn

        def touching(entry: Any) -> None:
            before = (entry.reserved, entry.visible)
            touch(entry)
            if self.is_watching and (entry.reserved, entry.visible) != before:
                self._note_access(entry)

        def logging(entry: Any, state: Any) -> None:
            log_access(entry, state)
            is_logged = entry.logged_at == state.last_accessed_at
            self._unlogged.pop(state.path, None)
            if not is_logged:  # the log takes no records: nobody waits for that (docs)
                latest = entry.logged_at + touch_interval_ms(state.ttl_seconds)
                self._unlogged[state.path] = state.created_at, latest

        def showing(seen: Any, path: str) -> Any:
            found = visible(seen, path)
            if self.is_watching:
                self._check_visible(path, found[1] if found is not None else None)
            return found

        append_plain = operations.append_plain

        def appending(seen: Any, entry: Any, payload: Any) -> Any:
            result = append_plain(seen, entry, payload)
            if self.is_watching:
                self._logged.append(seen.lsn)
            return result

        operations._stage, operations.touch, operations.visible = staging, touching, showing
        operations.append_plain = appending
        operations.log_access = logging

    def _watch_engine(self) -> None:
        engine = self._engine
        read_view = engine.read_view

        def advanced() -> None:
            if self.is_watching:
                self.oracle.advance(engine.projection.visible_lsn)

        def reading(entry: Any, view: Any, *arguments: Any, **named: Any) -> Any:
            result = read_view(entry, view, *arguments, **named)
            if self.is_watching:
                self._check_read(view.state, result)
            return result

        engine.projection = WatchedProjection(engine.projection, advanced)
        engine.read_view = reading

    # -- decisions and records -------------------------------------------------------------

    def _deciding(self, method: str, decide: Any) -> Any:
        def deciding(seen: Any, path: Any, *arguments: Any) -> Any:
            if not self.is_watching:
                return decide(seen, path, *arguments)
            self._logged = []
            try:
                found = decide(seen, path, *arguments)
            except NO_DECISION:
                raise
            except StreamError as refusal:
                self._decided(method, path, type(refusal).__name__)
                raise
            self._decided(method, path, comparable(found))
            return found

        return deciding

    def note_append(self, lsn: int) -> None:
        """An append was decided and logged in a step that nobody could look into."""
        call = CALL.get()
        if self.is_watching and call is not None:
            path = call.operation.path
            tail = self._engine.catalog.bindings[path].reserved.tail.end
            self._logged = [lsn]
            self._decided("append", path, AppendResult(format_offset(tail), True, False))

    def _decided(self, method: str, target: Any, found: Any) -> None:
        """The store decided ``found``; so must the oracle."""
        call = CALL.get()
        if call is None or (method == "delete" and call.operation.method != "delete"):
            call = Call(Operation(method, target))  # one of many that one request deletes
        operation, oracle = call.operation, self.oracle
        lsn = self._logged[-1] if self._logged else None
        source = operation.arguments.get("forked_from")
        call.lsn = max(lsn or 0, oracle.undurable_lsn(operation.path, source))
        call.expected, call.is_decided = oracle.decide(operation, lsn, self._engine.now()), True
        self._note_accesses()
        self._clock.advance(1)  # for the next step: this one is one moment
        if found != call.expected:
            self.fail(f"{operation}: {found!r} instead of {call.expected!r}")

    def _note_record(self, lsn: int, kind: Kind, path: str, meta: Any) -> None:
        if kind is Kind.DELETE and meta.expired:
            if not self.oracle.expire(path, lsn, self._engine.now()):
                self.fail(f"{path} expired before its time")
        elif kind is Kind.TRIM:
            if not self.oracle.trim(path, meta.earliest, lsn, self._engine.now()):
                self.fail(f"{path} gave up what was before {meta.earliest}, and may not yet")
        elif kind is Kind.QUARANTINE:
            self.fail(f"{path}: quarantined without damage: {meta}")
        elif kind is not Kind.TOUCH:
            self._logged.append(lsn)

    def _note_access(self, entry: Any) -> None:
        reserved, visible = entry.reserved, entry.visible
        self.oracle.access(reserved.path, reserved, visible)
        self._note_accesses()

    def _note_accesses(self) -> None:
        log = self._engine.log
        if not self._engine.is_usable:
            return  # readers that outlast the last flush are remembered by nobody
        accesses = last_accesses(self.oracle.tip)
        for path, (created_at, latest) in self._unlogged.items():
            if (path, created_at) in accesses:
                accesses[path, created_at] = min(latest, accesses[path, created_at])
        self.oracle.note_accesses(accesses, log.staged_lsn, log.durable_lsn)

    # -- what is shown ---------------------------------------------------------------------

    def _check_visible(self, path: str, found: Any) -> None:
        """A reader is shown what is durable, and all of it.

        Unless its time is over: then what is logged counts, and the answer waits for that.
        """
        oracle = self.oracle
        base = state_at(oracle.base, path)
        shows_logged = base is not None and self._is_over(base)
        if found is None or found.soft_deleted:
            if not (base is None or base.soft_deleted or shows_logged or self._has_ended(path)):
                self.fail(f"{path}: not shown, but there: {base}")
            return
        store = oracle.tip if shows_logged else oracle.base
        expected = state_at(store, path)
        if expected is None or visible_part(expected) != visible_part(found):
            self.fail(f"{path}: a reader is shown {found} instead of {expected}")
        stream = stream_at(store, path)
        assert stream is not None
        self._shown[found.stream_id] = stream, oracle.undurable_lsn(path) if shows_logged else 0
        reader = READER.get()
        if reader is not None:
            reader.shown = found

    def _has_ended(self, path: str) -> bool:
        """Whether its end is logged, which the answer then waits for; or cannot be at present."""
        tip = state_at(self.oracle.tip, path)
        return tip is None or tip.soft_deleted or self._is_over(tip)

    def _is_over(self, state: StreamState) -> bool:
        return not state.soft_deleted and is_expired(state, self._engine.now())

    def _check_read(self, state: Any, result: Any) -> None:
        """The bytes of a view, and whether they are all, are those of the moment it was taken."""
        if state.stream_id not in self._shown:
            self.fail(f"{state.path}: read, and never shown to be there: {state}")
        stream, lsn = self._shown[state.stream_id]
        if lsn > self._engine.projection.visible_lsn:
            self.fail(f"{state.path}: read before it was durable: {state}")
        end = result.start + result.size
        if b"".join(result.buffers) != b"".join(stream.read(result.start, end)):
            self.fail(f"{state.path}: other bytes than those appended, {result.start}..{end}")
        at_tail = end == state.tail
        if (result.up_to_date, result.closed) != (at_tail, at_tail and state.closed):
            self.fail(f"{state.path}: {result} of a stream that is {state}")

    def check_answer(self, call: Call, found: Any) -> None:
        """An answer is what was decided, and all that it tells of is visible by then."""
        if not self.is_watching:
            return
        if not call.is_decided:
            self.fail(f"{call.operation}: answered {found!r} without a decision")
        if found != call.expected:
            self.fail(f"{call.operation}: answered {found!r} instead of {call.expected!r}")
        if call.lsn > self._engine.projection.visible_lsn:
            self.fail(f"{call.operation}: answered before what it tells of was durable")

    def now(self) -> int:
        """Let the oracle's readers see the present time, as the store's do."""
        for store in (self.oracle.tip, self.oracle.base):
            set_clock(store, self._clock.now)
        return self._clock.now


def visible_part(state: Any) -> tuple[Any, ...]:
    """What users can tell of a state."""
    return (
        state.content_type, state.created_at, state.tail, state.base, state.earliest, state.closed,
        state.closed_by, state.last_seq, state.ttl_seconds, state.expires_at_ms, state.forked_from,
        state.fork_offset, state.fork_sub_offset, state.ref_count, state.soft_deleted,
        state.retention, state.marks,
    )  # fmt: skip
