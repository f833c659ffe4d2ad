"""One stream in memory: its own appends, and the part it inherits from its sources.

A stream is a row of *spans*, root of the fork chain first: [start, end) of the appends of one
stream each. A fork's ``base`` may cut an append of its source; in the fork, the append ends
there. Every look-up is a bisection, so its cost does not grow with the number of messages.

Nothing here locks, decides or waits: that is the store's.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from ..protocol.headers import is_json
from ..protocol.payload import Payload
from ..protocol.results import Bytes
from ..protocol.retention import trimmed
from ..protocol.state import ProducerState, StreamState
from .options import READ_SIZE_MAX
from .waiting import Waiter


class Batch(NamedTuple):
    """The wire bytes of one append, [start, end)."""

    start: int
    end: int
    data: bytes
    message_ends: array[int]  # positions; one for an append to a byte stream


class Appends:
    """The appends made to one stream, in order and without gaps."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self._ends: list[int] = []

    def add(self, start: int, payload: Payload) -> None:
        data = bytes(payload.data)
        sizes = payload.message_sizes or (len(data),)
        message_ends = array("Q", accumulate(sizes, initial=start))[1:]
        self._batches.append(Batch(start, start + len(data), data, message_ends))
        self._ends.append(start + len(data))

    def drop_below(self, position: int) -> None:
        """Forget the appends that end at or before ``position``."""
        count = bisect_right(self._ends, position)
        del self._batches[:count], self._ends[:count]

    def at(self, position: int) -> Batch:
        """The append that holds the byte at ``position``."""
        return self._batches[bisect_right(self._ends, position)]

    def overlapping(self, start: int, end: int) -> list[Batch]:
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, end)
        return self._batches[first : last + 1]

    def ends_within(self, start: int, end: int) -> list[int]:
        """Where appends end in (start, end]."""
        return self._ends[bisect_right(self._ends, start) : bisect_right(self._ends, end)]

    def last_end_within(self, start: int, end: int) -> int | None:
        index = bisect_right(self._ends, end) - 1
        return self._ends[index] if index >= 0 and self._ends[index] > start else None


class Span(NamedTuple):
    """[start, end) of what one stream appended, as another stream (or itself) shows it."""

    appends: Appends
    start: int
    end: int


class MemoryStream:
    """One incarnation of a stream. ``state.tail`` is the end of its last span."""

    def __init__(self, state: StreamState, source: MemoryStream | None) -> None:
        self.state = state
        self.removed = False
        self.producers: dict[str, ProducerState] = {}
        self.waiters: set[Waiter] = set()
        self.depth: int = 0 if source is None else source.depth + 1
        self._appends = Appends()
        self._inherited = [] if source is None else source._spans_below(state.base)
        self._is_json = is_json(state.content_type)

    def add(self, start: int, payload: Payload) -> None:
        """Take over the data of an append that was accepted."""
        if payload.size:
            self._appends.add(start, payload)

    def append_start(self, position: int) -> int:
        """Where the append begins that holds the byte at ``position``."""
        span = self._span(position)
        return max(span.start, span.appends.at(position).start)

    def trim(self, earliest: int) -> None:
        """Give up everything before ``earliest``; forks keep what they inherited."""
        self.state = trimmed(self.state, earliest)
        if not self.state.ref_count:
            self._appends.drop_below(earliest)

    def fire(self) -> None:
        """Wake every reader parked here."""
        for waiter in self.waiters:
            waiter.fire()

    # -- positions ---------------------------------------------------------------------------

    def is_boundary(self, position: int) -> bool:
        """Whether readers can have been given ``position``: see ``protocol.fork.Boundaries``."""
        if position in (0, self.state.tail):
            return True
        span = self._span(position)
        batch = span.appends.at(position)
        if position in (span.start, batch.start):
            return True
        if batch.end - batch.start <= READ_SIZE_MAX:
            return False
        if self._is_json:
            index = bisect_left(batch.message_ends, position)
            return batch.message_ends[index] == position
        return (position - batch.start) % READ_SIZE_MAX == 0

    def message_end(self, start: int, count: int) -> int | None:
        """The end of the ``count``-th message behind ``start``, if its append has so many."""
        if start >= self.state.tail:
            return None
        span = self._span(start)
        ends = span.appends.at(start).message_ends
        index = bisect_right(ends, start) + count - 1
        if index >= len(ends):
            return None
        if ends[index] <= span.end:
            return ends[index]
        return None if self._is_json or count > 1 else span.end

    def chunk_end(self, start: int, size: int) -> int:
        """Where an answer of at most ``size`` bytes from ``start`` on ends.

        The last end of an append that fits. If not even one fits, its end; but of an append
        longer than READ_SIZE_MAX only a part, cut where ``is_boundary`` knows it.
        """
        limit = min(start + size, self.state.tail)
        for span in reversed(list(self._spans())):
            if span.end <= start:
                break
            if span.end <= limit:
                return span.end
            end = span.appends.last_end_within(max(start, span.start), limit)
            if end is not None:
                return end
        return self._cut(start) if start < self.state.tail else start

    def _cut(self, start: int) -> int:
        span = self._span(start)
        batch = span.appends.at(start)
        end = min(batch.end, span.end)
        if not self._is_json:
            multiple = (start - batch.start) // READ_SIZE_MAX + 1
            return min(end, batch.start + multiple * READ_SIZE_MAX)
        if end - start <= READ_SIZE_MAX:
            return end
        first = bisect_right(batch.message_ends, start)
        last = bisect_right(batch.message_ends, start + READ_SIZE_MAX) - 1
        return batch.message_ends[max(first, last)]

    # -- bytes -------------------------------------------------------------------------------

    def read(self, start: int, end: int) -> Iterator[Bytes]:
        """The bytes [start, end) in pieces, none copied."""
        for span in self._spans():
            low, high = max(start, span.start), min(end, span.end)
            if low >= high:
                continue
            for batch in span.appends.overlapping(low, high):
                if low <= batch.start and batch.end <= high:
                    yield batch.data
                else:
                    first, last = max(low, batch.start), min(high, batch.end)
                    yield memoryview(batch.data)[first - batch.start : last - batch.start]

    def append_ends(self, start: int, end: int) -> list[int]:
        """Where appends end in (start, end]."""
        found = []
        for span in self._spans():
            low, high = max(start, span.start), min(end, span.end)
            if low < high:
                found += span.appends.ends_within(low, high)
                if high == span.end and found[-1:] != [high]:
                    found.append(high)
        return found

    # -- spans -------------------------------------------------------------------------------

    def _spans(self) -> Iterator[Span]:
        yield from self._inherited
        if self.state.tail > self.state.base:
            yield Span(self._appends, self.state.base, self.state.tail)

    def _spans_below(self, end: int) -> list[Span]:
        return [
            Span(span.appends, span.start, min(span.end, end))
            for span in self._spans()
            if span.start < end
        ]

    def _span(self, position: int) -> Span:
        """The span that holds the byte at ``position``, which is below the tail."""
        return next(span for span in self._spans() if position < span.end)
