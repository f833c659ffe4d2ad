"""The streams in memory: which are known, reserved and visible states, who waits (I4, I8).

A *binding* says which stream a path names: the reserved one, as decided by everything logged,
and the visible one, as far as it is durable. An *entry* holds one stream: both states, its
unflushed data, its producers and its waiting readers. What is neither dirty nor in use is
evicted past a bound, and loaded again from its row.

Everything here is guarded by the store's lock, and nothing here touches a disk: a missing
entry raises ``Cold``, whose ``load`` the caller runs without the lock, then tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from msgspec.structs import replace

from ..protocol.state import ProducerState, StreamState
from .entry import Binding, Entry
from .records import Row

K = TypeVar("K")
V = TypeVar("V")


PRODUCERS_CACHED_MAX = 1024  # of one stream


class Cold(Exception):
    """Something is not in memory. ``load`` fetches it; it may wait for the disk."""

    def __init__(self, load: Callable[[], None]) -> None:
        super().__init__("not in memory")
        self.load = load


class RowMissing(LookupError):
    """A stream is referred to by its id, and there is no row of it."""


def binding_after_end(path: str, entry: Entry) -> Binding:
    """What the end of a stream leaves at its path, as long as it cannot be logged."""
    state = entry.reserved
    if state is None or not state.ref_count:
        return Binding(path, None, entry.lsn)
    state = replace(state, soft_deleted=True)
    return Binding(path, Entry(state, lsn=entry.lsn, visible=False), entry.lsn)


class Change:
    """The part of a record that becomes visible, and dirty, once the record is durable."""

    __slots__ = ("binding", "entry", "lsn", "producer", "state")

    def __init__(
        self,
        lsn: int,
        entry: Entry,
        binding: Binding | None = None,
        producer: tuple[str, ProducerState] | None = None,
    ) -> None:
        self.lsn = lsn
        self.entry = entry
        self.state = entry.reserved  # as of this record; None: removed
        self.binding = binding  # whose visible stream changes to the reserved one of now
        self.producer = producer


class RowSource(Protocol):
    """Where rows come from; may wait for the disk."""

    def find(self, path: str) -> Row | None: ...

    def row(self, stream_id: int) -> Row | None: ...

    def producer(self, stream_id: int, producer_id: str) -> ProducerState | None: ...


class Catalog:
    """All bindings and entries in memory.

    Args:
        rows: the durable rows.
        lock: the store's lock, which guards everything here.
        access_slack: given a state read from a row, by how many ms its last access may have
            been later than the row says (docs/format-metadata.md, "Accesses").
    """

    def __init__(
        self,
        rows: RowSource,
        lock: threading.Lock,
        access_slack: Callable[[Row], int],
    ) -> None:
        self._rows = rows
        self._lock = lock
        self._access_slack = access_slack
        self.bindings: dict[str, Binding] = {}
        self.entries: dict[int, Entry] = {}
        # Evicted, while somebody still reads it: what changes it must bring it back.
        self._left: WeakValueDictionary[int, Entry] = WeakValueDictionary()
        self._evictions = 0  # a row read before an eviction may be older than the evicted entry

    # -- look-up, under the lock -----------------------------------------------------------

    def binding(self, path: str) -> Binding:
        """The binding of a path, perhaps of no stream. Raises: Cold."""
        found = self.bindings.get(path)
        if found is None:
            raise Cold(lambda: self._load_path(path))
        found.used = True
        return found

    def entry(self, stream_id: int) -> Entry:
        """A stream by its id: a fork's source. Raises: Cold, whose load raises RowMissing."""
        found = self.entries.get(stream_id)
        if found is None:
            raise Cold(lambda: self._load_entry(stream_id))
        found.used = True
        return found

    def producer(self, entry: Entry, producer_id: str) -> ProducerState | None:
        """The reserved state of a producer. Raises: Cold."""
        found = entry.producers.get(producer_id)
        if found is not None or entry.producers_complete:
            return found
        if producer_id not in entry.producers_read:
            raise Cold(lambda: self._load_producer(entry, producer_id))
        return entry.producers_read[producer_id]

    def forget_producers(self, entry: Entry, flushed: dict[str, ProducerState]) -> None:
        """Past the bound, let go of states that LMDB has by now, unless they changed since."""
        if len(entry.producers) <= PRODUCERS_CACHED_MAX:
            return
        for producer_id, state in flushed.items():
            if entry.producers.get(producer_id) is state:
                del entry.producers[producer_id]
        entry.producers_complete = False
        entry.producers_read = {}

    def bind_new(self, binding: Binding, entry: Entry) -> None:
        binding.reserved = entry
        self.entries[entry.stream_id] = entry

    def keep(self, entry: Entry) -> None:
        """Have an entry that changes in the catalog, though it was evicted since it was found."""
        if entry.stream_id not in self.entries and self._left.pop(entry.stream_id, None) is entry:
            self.entries[entry.stream_id] = entry

    # -- loading, without the lock ---------------------------------------------------------

    def _load_path(self, path: str) -> None:
        while True:
            evictions = self._evictions
            row = self._rows.find(path)
            with self._lock:
                if evictions == self._evictions or path in self.bindings:
                    self._adopt_binding(path, row)
                    return

    def _load_entry(self, stream_id: int) -> None:
        while True:
            evictions = self._evictions
            row = self._rows.row(stream_id)
            with self._lock:
                if evictions == self._evictions or stream_id in self.entries:
                    if row is None and stream_id not in self.entries:
                        raise RowMissing(f"the row of stream {stream_id}, which must be there")
                    if row is not None:
                        self._adopt_entry(row)
                    return

    def _load_producer(self, entry: Entry, producer_id: str) -> None:
        while True:
            cache = entry.producers_read
            state = self._rows.producer(entry.stream_id, producer_id)
            with self._lock:
                if cache is entry.producers_read:  # else a flush may have written a newer state
                    if len(cache) >= PRODUCERS_CACHED_MAX:
                        cache.clear()
                    cache[producer_id] = state
                    return

    def _adopt_binding(self, path: str, row: Row | None) -> None:
        if path not in self.bindings:
            entry = None if row is None else self._adopt_entry(row)
            self.bindings[path] = Binding(path, entry, 0)

    def _adopt_entry(self, row: Row) -> Entry:
        assert row.state is not None
        stream_id = row.state.stream_id
        found = self.entries.get(stream_id)
        if found is None and (found := self._left.pop(stream_id, None)) is not None:
            self.entries[stream_id] = found
        if found is None:
            accessed_at = row.state.last_accessed_at + self._access_slack(row)
            state = replace(row.state, last_accessed_at=accessed_at)
            found = Entry(state, lsn=row.lsn, visible=True)
            found.logged_at = row.state.last_accessed_at  # what was allowed for is not logged
            found.quarantine = row.quarantine
            self.entries[found.stream_id] = found
        return found

    # -- eviction, under the lock ----------------------------------------------------------

    def evict(self, checkpoint_lsn: int, keep_max: int, examine_max: int) -> list[Entry]:
        """Forget what was not used since the last look, at most ``examine_max`` at a time.

        Returns entries that must first log their last access.
        """
        unlogged: list[Entry] = []
        excess = len(self.bindings) - keep_max
        if excess > 0:
            for path in _oldest(self.bindings, min(excess, examine_max)):
                binding = self.bindings.pop(path)
                if binding.used or not self._idle(binding, checkpoint_lsn):
                    binding.used = False
                    self.bindings[path] = binding  # to the young end
                self._evictions += 1
        excess = len(self.entries) - keep_max
        if excess > 0:
            for stream_id in _oldest(self.entries, min(excess, examine_max)):
                self._evict_entry(stream_id, checkpoint_lsn, unlogged)
        return unlogged

    @property
    def size(self) -> int:
        """Bindings and entries in memory."""
        return len(self.bindings) + len(self.entries)

    def _idle(self, binding: Binding, checkpoint_lsn: int) -> bool:
        entry = binding.reserved
        return (
            binding.lsn <= checkpoint_lsn
            and binding.visible is entry
            and (entry is None or (entry.lsn <= checkpoint_lsn and not entry.waiters))
        )

    def _evict_entry(self, stream_id: int, checkpoint_lsn: int, unlogged: list[Entry]) -> None:
        entry = self.entries.pop(stream_id)
        state = entry.reserved
        keep = entry.used or entry.lsn > checkpoint_lsn or bool(entry.waiters)
        if state is not None:
            bound = self.bindings.get(state.path)
            keep = keep or (bound is not None and entry in (bound.reserved, bound.visible))
            if not keep and has_unlogged_access(entry, state):
                unlogged.append(entry)
                keep = True
        if keep:
            entry.used = False
            self.entries[stream_id] = entry
        else:
            self._left[stream_id] = entry
        self._evictions += 1


def has_unlogged_access(entry: Entry, state: StreamState) -> bool:
    """Whether a TTL's deadline would move back if only the logged accesses counted."""
    return state.ttl_seconds is not None and state.last_accessed_at > entry.logged_at


def _oldest(mapping: dict[K, V], count: int) -> list[K]:
    return list(islice(mapping, count))
