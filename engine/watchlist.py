"""The streams that the sweeper must look at, and when, as far as no row says it.

What was flushed it finds in its table of rows; here is what is newer. Guarded by the store's
lock. A stream may be listed too often, or in vain: the sweeper looks at its state.
"""

from __future__ import annotations

import heapq

from ..protocol.retention import next_event_ms, too_many_below, trim_due_ms
from ..protocol.state import StreamState


class Watchlist:
    """Streams by the time of their next event, and those that hold too much already."""

    def __init__(self) -> None:
        self.deadlines: list[tuple[int, int]] = []  # heap of (deadline ms, stream id)
        self.overlong: set[int] = set()  # streams that hold more bytes than are kept

    def add(self, state: StreamState) -> None:
        """Have a stream looked at when its present deadline is over."""
        due = next_event_ms(state)
        if due is not None:
            heapq.heappush(self.deadlines, (due, state.stream_id))
        if too_many_below(state) > state.earliest:
            self.overlong.add(state.stream_id)

    def add_grown(self, before: StreamState, after: StreamState) -> None:
        """The same of what an append may have made too long, or gives an age."""
        if after.retention is None:
            return
        if too_many_below(after) > after.earliest:
            self.overlong.add(after.stream_id)
        if trim_due_ms(before) is None:
            self.add(after)

    def take_due(self, now_ms: int, count_max: int | None) -> list[int]:
        """Streams whose time has come, at most so many; whoever takes one adds it again."""
        due: list[int] = []
        while self.deadlines and self.deadlines[0][0] <= now_ms and len(due) != count_max:
            due.append(heapq.heappop(self.deadlines)[1])
        return due

    def take_overlong(self) -> set[int]:
        taken, self.overlong = self.overlong, set()
        return taken

    def take_deadlines(self) -> list[tuple[int, int]]:
        """All of them, to be looked through without the lock; ``put_back`` those that count."""
        taken, self.deadlines = self.deadlines, []
        return taken

    def put_back(self, deadlines: list[tuple[int, int]]) -> None:
        for each in deadlines:
            heapq.heappush(self.deadlines, each)
