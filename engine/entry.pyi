from collections.abc import Set
from typing import final

from .._native.tail import Tail
from ..protocol.state import ProducerState, StreamState
from .records import QuarantineMeta
from .waiting import Waiter

NOBODY: frozenset[Waiter]

@final
class Dirty:
    """A stream's row as of the visible state, and its producers since the last flush."""

    lsn: int
    quarantine: QuarantineMeta | None
    producers: dict[str, ProducerState]
    trimmed_from: int | None  # the earliest position before, if it moved
    generation: int  # of the set that it belongs to
    def __init__(self, stream_id: int, path: str, generation: int = 0) -> None: ...
    @property
    def stream_id(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def state(self) -> StreamState | None:
        """None: removed."""

    @state.setter
    def state(self, state: StreamState | None) -> None: ...

@final
class Entry:
    """One incarnation of a stream in memory; there is never a second one of it.

    Args:
        lsn: of the last record that changed the state.
        visible: whether the state is visible already, from a row; else it was just reserved.
    """

    lsn: int  # of the last record that changed ``reserved``
    logged_at: int  # the last access that a record holds
    producers: dict[str, ProducerState]  # reserved, as changed by this process
    producers_complete: bool  # no other producers are in LMDB
    producers_read: dict[str, ProducerState | None]  # others, as LMDB has them
    waiters: Set[Waiter]
    quarantine: QuarantineMeta | None
    used: bool
    def __init__(self, state: StreamState, *, lsn: int, visible: bool) -> None: ...
    @property
    def stream_id(self) -> int: ...
    @property
    def origin(self) -> StreamState:
        """The first state known: what never changes can be read here."""

    @property
    def tail(self) -> Tail: ...
    @property
    def content_type(self) -> bytes: ...
    @property
    def is_json(self) -> bool: ...
    @property
    def reserved(self) -> StreamState | None:
        """As decided by everything logged; None: removed."""

    @reserved.setter
    def reserved(self, state: StreamState | None) -> None: ...
    @property
    def visible(self) -> StreamState | None:
        """As far as it is durable."""

    @visible.setter
    def visible(self, state: StreamState | None) -> None: ...
    @property
    def is_plain(self) -> bool:
        """Whether an append of data alone can only be refused for its own form, or for room."""

    def flushed(self, row: Dirty) -> None:
        """Let go of a row that was written."""

    def learn(self, boundary: int, extents: list[tuple[int, int, int, int]]) -> None:
        """Remember what a read found: a position handed out, and flushed ranges of the stream.

        Args:
            extents: base, end, segment's number and the extent's index in it.
        """

    def fire(self) -> None:
        """Wake every reader parked here."""

    def park(self, waiter: Waiter) -> None:
        """Have a reader woken at the next change."""

    def unpark(self, waiter: Waiter) -> None:
        """Take a reader back, fired or not."""

@final
class Binding:
    """What a path names."""

    reserved: Entry | None
    visible: Entry | None
    lsn: int  # of the last record that changed it
    used: bool
    def __init__(self, path: str, entry: Entry | None, lsn: int) -> None: ...
    @property
    def path(self) -> str: ...
