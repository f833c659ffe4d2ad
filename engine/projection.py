"""What is durable becomes visible, and what is visible becomes dirty, in the order of the log.

The log is the only thing that an acknowledgement depends on; the visible states and the rows
are projections of it (I2). A change waits here from staging until its record is durable, then
it is applied: the visible state moves, readers are woken, the row is dirty until flushed.
Everything is guarded by the store's lock; nothing here waits for anything.
"""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from ..protocol.state import ProducerState, StreamState
from .catalog import Change
from .records import QuarantineMeta


class Dirty:
    """A stream's row as of the visible state, and its producers since the last flush."""

    __slots__ = (
        "lsn", "path", "producers", "quarantine", "state", "stream_id", "trimmed_from"
    )  # fmt: skip

    def __init__(self, stream_id: int, path: str) -> None:
        self.stream_id = stream_id
        self.path = path
        self.state: StreamState | None = None  # None: removed
        self.lsn = 0
        self.quarantine: QuarantineMeta | None = None
        self.producers: dict[str, ProducerState] = {}
        self.trimmed_from: int | None = None  # the earliest position before, if it moved


class Projection:
    """Changes on their way from the log to the readers and to the next flush."""

    def __init__(self) -> None:
        self._pending: deque[Change] = deque()
        self.dirty: dict[int, Dirty] = {}
        self.visible_lsn = 0
        self.next_stream_id = 1  # behind the last stream whose creation was visible

    def push(self, change: Change) -> None:
        """Queue a change whose record was just staged."""
        self._pending.append(change)

    def advance(self, durable_lsn: int) -> None:
        """Apply every change up to the durable watermark."""
        pending = self._pending
        while pending and pending[0].lsn <= durable_lsn:
            self.apply(pending[0])
            pending.popleft()  # only now: if Ctrl-C cut this short, it is applied once more
        self.visible_lsn = max(self.visible_lsn, durable_lsn)

    def apply(self, change: Change) -> None:
        entry, state = change.entry, change.state
        before = entry.visible
        if state is not None and before is not None:
            state = _latest_access(before, state)
        entry.visible = state
        self.next_stream_id = max(self.next_stream_id, entry.stream_id + 1)
        dirty = self._dirty_row(entry.stream_id, entry.origin.path)
        dirty.state, dirty.lsn, dirty.quarantine = state, change.lsn, entry.quarantine
        if state is not None and before is not None and state.earliest > before.earliest:
            dirty.trimmed_from = (
                before.earliest if dirty.trimmed_from is None else dirty.trimmed_from
            )
        if change.producer is not None:
            producer_id, producer = change.producer
            dirty.producers[producer_id] = producer
        binding = change.binding
        if binding is not None:
            if state is not None:
                binding.visible = entry
            elif binding.visible is entry:
                binding.visible = None
        if _readers_care(before, state):
            entry.fire()

    def take_dirty(self) -> dict[int, Dirty]:
        """Everything dirty as of ``visible_lsn``; changes from now on start a new set."""
        taken, self.dirty = self.dirty, {}
        return taken

    def give_back(self, taken: dict[int, Dirty]) -> None:
        """After a failed flush: newer states win, producers are merged."""
        for stream_id, older in taken.items():
            newer = self.dirty.get(stream_id)
            if newer is None:
                self.dirty[stream_id] = older
            else:
                newer.producers = older.producers | newer.producers
                if older.trimmed_from is not None:
                    newer.trimmed_from = older.trimmed_from

    def _dirty_row(self, stream_id: int, path: str) -> Dirty:
        found = self.dirty.get(stream_id)
        if found is None:
            found = self.dirty[stream_id] = Dirty(stream_id, path)
        return found


def _latest_access(before: StreamState, state: StreamState) -> StreamState:
    """Keep an access that came after the record was logged: it moved the deadline already."""
    if before.last_accessed_at <= state.last_accessed_at:
        return state
    return replace(state, last_accessed_at=before.last_accessed_at)


def _readers_care(before: StreamState | None, after: StreamState | None) -> bool:
    if before is None or after is None:
        return True
    return (before.tail, before.closed, before.soft_deleted) != (
        after.tail,
        after.closed,
        after.soft_deleted,
    )
