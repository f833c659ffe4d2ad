"""Which bytes of each stream somebody needs: the roots of compaction (I5).

A stream needs what its readers may ask for, and a fork what it inherited, also from a source that
is deleted or trimmed. Rows are read as of the checkpoint: what the log holds behind it can only
need less, since a new fork inherits what its source shows. In doubt everything is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..protocol.state import StreamState
from .metadata import Metadata
from .records import Row

_ROWS_PER_STEP = 500
_EVERYTHING = 1 << 62


class Need(NamedTuple):
    """Positions [start, end) of a stream's own bytes."""

    start: int
    end: int


WHOLE = Need(0, _EVERYTHING)


class Needs:
    """What is needed as of now. Only worker threads may ask: rows are read."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._inherited: dict[int, Need] | None = None  # by source; None: not looked for
        self._inherited_lsn = 0

    def of(self, stream_ids: list[int]) -> dict[int, Need]:
        """The needs of those of these streams that are needed at all. Raises: lmdb.Error."""
        rows, damaged = self._metadata.rows_of(stream_ids)
        found = {stream_id: self._of_row(row) for stream_id, row in rows.items()}
        return found | dict.fromkeys(damaged, WHOLE)

    def is_doubtful(self, stream_id: int) -> bool:
        """Whether only the forks of this source could tell how little is needed of it."""
        if self._inherited is not None:
            return False
        row = self._metadata.row(stream_id)
        return row is not None and row.state is not None and _may_need_less(row.state)

    def _of_row(self, row: Row) -> Need:
        state = row.state
        if state is None:
            return WHOLE  # no such row is written
        if state.ref_count and (self._inherited is None or row.lsn > self._inherited_lsn):
            return Need(state.base, state.tail)
        return need_of(state, self._inherited or {})

    # -- forks -------------------------------------------------------------------------------

    def look_for_forks(self, checkpoint_lsn: int) -> Iterator[None]:
        """Find out what forks inherited, some hundred rows a step.

        Of a source whose row changes afterwards everything stays needed; and of all, if a source
        counts more forks than there are rows of.
        Raises: lmdb.Error, Damaged.
        """
        inherited: dict[int, Need] = {}
        missing: Counter[int] = Counter()  # forks by source: those that it counts, less those seen
        last = 0
        while rows := self._metadata.rows_from(last + 1, _ROWS_PER_STEP):
            for row in rows.values():
                if row.state is not None:
                    follow(row.state, self._state_of, inherited)
                    missing[row.state.stream_id] += row.state.ref_count
                    missing[row.state.source_id or 0] -= 1
            last = max(rows)
            yield
        del missing[0]
        if not any(missing.values()):  # else rows are missing, or changed meanwhile
            self._inherited, self._inherited_lsn = inherited, checkpoint_lsn

    def _state_of(self, stream_id: int) -> StreamState | None:
        row = self._metadata.row(stream_id)
        return None if row is None else row.state


def need_of(state: StreamState, inherited: dict[int, Need]) -> Need:
    """What is needed of a stream's own bytes, given what forks inherited of each source."""
    by_forks = inherited.get(state.stream_id)
    if state.soft_deleted:
        return by_forks or Need(state.tail, state.tail)
    own = Need(max(state.base, state.earliest), state.tail)
    return own if by_forks is None else _both(own, by_forks)


def follow(
    fork: StreamState,
    state_of: Callable[[int], StreamState | None],
    inherited: dict[int, Need],
) -> None:
    """Note what a stream shows of each source above it."""
    below, source_id = fork.base, fork.source_id
    if fork.soft_deleted:
        return  # its own forks say what they need
    while below > fork.earliest and source_id is not None:
        source = state_of(source_id)
        if source is None:
            return
        base = min(source.base, below)
        shown = Need(max(base, fork.earliest), below)
        inherited[source_id] = _both(shown, inherited.get(source_id, shown))
        below, source_id = base, source.source_id


def _both(one: Need, other: Need) -> Need:
    return Need(min(one.start, other.start), max(one.end, other.end))


def _may_need_less(state: StreamState) -> bool:
    is_trimmed = state.earliest > state.base
    return state.ref_count > 0 and (state.soft_deleted or is_trimmed)
