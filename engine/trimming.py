"""Move the beginning of a stream on, as far as its retention lets it (docs/protocol.md).

By age the place is known from the stream's marks; by bytes an append's start must be looked up,
perhaps in a segment. So this belongs to housekeeping, never to a request. What is given up is
logged first; forks keep what they inherited, and compaction frees what nobody needs.
"""

from __future__ import annotations

from .._native.errors import TailMoved
from .._native.segment import SegmentDamaged
from ..protocol.errors import StreamError
from ..protocol.retention import next_event_ms, too_many_below, too_old_below
from ..protocol.state import StreamState
from .catalog import Cold
from .entry import Entry
from .file_engine import FileEngine
from .ranges import RangeReader
from .step import Result, Step

NEVER = 1 << 62  # Unix time, ms
_STUCK_MAX = 10_000  # then they are all looked at once more


class Trimming:
    """The trimming of one engine's streams."""

    def __init__(self, engine: FileEngine) -> None:
        self._engine = engine
        # Streams whose first append holds more than is kept: nothing can be given up. Until when.
        self._stuck: dict[int, int] = {}

    def is_stuck(self, stream_id: int) -> bool:
        """Whether there is no use in looking at a stream that did not change."""
        return self._engine.now() < self._stuck.get(stream_id, 0)

    def trim(self, stream_id: int) -> bool:
        """Trim a stream if that is due; whether its beginning moved. Blocks."""
        self._stuck.pop(stream_id, None)
        found = _run(self._engine, lambda seen: self._engine.operations.to_trim(stream_id))
        if found is None:
            return False
        entry, state = found
        if trim_entry(self._engine, entry, state):
            return True
        due = next_event_ms(state)
        if len(self._stuck) >= _STUCK_MAX:
            self._stuck.clear()
        self._stuck[stream_id] = NEVER if due is None else due
        return False


def trim_entry(engine: FileEngine, entry: Entry, state: StreamState) -> bool:
    """Move the beginning of a stream as far as it may."""
    earliest, limit = too_old_below(state, engine.now()), too_many_below(state)
    if limit > earliest:
        earliest = max(earliest, _append_start(engine, entry, state, limit))
    return bool(_run(engine, lambda seen: engine.operations.trim(seen, entry, earliest)))


def _append_start(engine: FileEngine, entry: Entry, state: StreamState, position: int) -> int:
    """Where the append begins that holds ``position``; the stream's beginning if it is damaged."""
    while True:
        view = _run(engine, lambda seen: engine.view_of(entry, state))
        if view is None:
            return state.earliest
        try:
            with engine.using_files():
                return RangeReader(view, may_wait=True).append_start(position)
        except TailMoved:
            continue
        except (SegmentDamaged, OSError, StreamError):
            return state.earliest


def _run(engine: FileEngine, step: Step[Result]) -> Result | None:
    """A step with all that it misses; None if it is refused: there is another time."""
    while True:
        try:
            return engine.attempt(step).result()
        except Cold as cold:
            try:
                engine.load(cold)
            except StreamError:
                return None
        except StreamError:
            return None
