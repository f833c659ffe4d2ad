"""One stream in memory: its reserved and its visible state, and its row of the next flush.

Rules are decided on values of ``StreamState``. An append moves no more of them than the tail and
the time of the last access, so these stand beside the value here, and a new value is made only
when somebody looks: a thousand appends make none. Guarded by the store's lock like all else of
the catalog; nothing here waits, and nothing here decides.
"""
cimport cython

from msgspec.structs import replace

from .._native.ends cimport BOUNDARY_APPEND
from ..protocol.headers import is_json

cdef enum:
    BOUNDARIES_MAX = 64             # of one stream, then it begins anew
    LOCATED_MAX = 64

NOBODY = frozenset()                # few streams are waited for: no set of its own for each


cdef inline object brought_up(object base, const Position *position):
    return replace(base, tail=position.tail, last_accessed_at=position.accessed_at)


cdef inline Position position_of(object state):
    return Position(state.tail, state.last_accessed_at)


@cython.final
cdef class Dirty:
    def __init__(self, uint64_t stream_id, str path not None, uint64_t generation=0):
        self.stream_id = stream_id
        self.path = path
        self.generation = generation
        self.producers = {}

    @property
    def state(self):
        if self.moved:
            self.base = brought_up(self.base, &self.position)
            self.moved = False
        return self.base

    @state.setter
    def state(self, state):
        self.base, self.moved = state, False

    cdef void move(self, object base, Position position) noexcept:
        self.base, self.position, self.moved = base, position, True


@cython.final
cdef class Entry:
    def __init__(self, state, *, uint64_t lsn, bint visible):
        self.stream_id = state.stream_id
        self.origin = state
        self.content_type = state.content_type.encode("latin-1")
        self.is_json = is_json(state.content_type)
        self.tail = Tail(state.tail if visible else state.base)
        self.lsn = lsn
        self.reserved = state
        self.visible = state if visible else None
        self.producers = {}
        self.producers_complete = not visible
        self.producers_read = {}
        self.waiters = NOBODY
        self.logged_at = state.last_accessed_at
        self.used = True

    # -- states ---------------------------------------------------------------------------

    @property
    def reserved(self):
        if self.reserved_moved:
            self.reserved_base = brought_up(self.reserved_base, &self.reserved_position)
            self.reserved_moved = False
        return self.reserved_base

    @reserved.setter
    def reserved(self, state):
        self.reserved_base, self.reserved_moved = state, False
        self.takes_appends = state is not None and only_appends_change(state)
        if state is not None:
            self.reserved_position = position_of(state)

    @property
    def visible(self):
        if self.visible_moved:
            self.visible_base = brought_up(self.visible_base, &self.visible_position)
            self.visible_moved = False
        return self.visible_base

    @visible.setter
    def visible(self, state):
        self.visible_base, self.visible_moved = state, False
        self.shows_plainly = state is not None and shows_plainly(state)
        if state is not None:
            self.visible_position = position_of(state)
            self.earliest, self.is_closed = state.earliest, state.closed

    @property
    def is_plain(self):
        return self.takes_appends and self.quarantine is None

    cdef void move_reserved(self, uint64_t tail, int64_t accessed_at, uint64_t lsn) noexcept:
        self.reserved_position = Position(tail, accessed_at)
        self.reserved_moved = True
        self.logged_at = accessed_at
        self.lsn = lsn
        self.used = True

    cdef void move_visible(self, uint64_t tail, int64_t accessed_at) noexcept:
        self.visible_position = Position(
            tail, max(accessed_at, self.visible_position.accessed_at)
        )
        self.visible_moved = True

    def flushed(self, Dirty row not None):
        if self.dirty is row:
            self.dirty = None

    # -- what reads found -----------------------------------------------------------------

    def learn(self, uint64_t boundary, list extents not None):
        if self.boundaries is None or len(self.boundaries) >= BOUNDARIES_MAX:
            self.boundaries = set()
        self.boundaries.add(boundary)
        if self.located is None or len(self.located) >= LOCATED_MAX:
            self.located = []
        for extent in extents:
            if extent not in self.located:
                self.located.append(extent)

    cdef bint is_boundary(self, uint64_t position) except -1:
        """Whether readers can have been given a position; False also if that is not known."""
        if position == self.earliest:
            return True
        if position >= self.tail.start:
            return self.tail.boundary(position) == BOUNDARY_APPEND
        return self.boundaries is not None and position in self.boundaries

    cdef tuple extent_at(self, uint64_t position):
        """Where a flushed position was found before, newest first; None if it was not."""
        if self.located is not None:
            for extent in reversed(self.located):
                if extent[0] <= position < extent[1]:
                    return extent
        return None

    # -- readers that wait ----------------------------------------------------------------

    def fire(self):
        waiters, self.waiters = self.waiters, NOBODY
        for waiter in waiters:
            waiter.fire()

    def park(self, waiter):
        if isinstance(self.waiters, set):
            self.waiters.add(waiter)
        else:
            self.waiters = {waiter}

    def unpark(self, waiter):
        if isinstance(self.waiters, set):
            self.waiters.discard(waiter)


cdef bint shows_plainly(object state) except -1:
    """Whether a read finds all bytes under this stream's id, and is no access that counts."""
    return not (
        state.soft_deleted
        or state.source_id is not None
        or state.ttl_seconds is not None
        or state.expires_at_ms is not None
    )


cdef bint only_appends_change(object state) except -1:
    """Whether nothing but room can stand against an append, and time ends or trims nothing."""
    return not (
        state.closed
        or state.soft_deleted
        or state.ttl_seconds is not None
        or state.expires_at_ms is not None
        or state.retention is not None
    )


@cython.final
cdef class Binding:
    def __init__(self, str path not None, Entry entry, uint64_t lsn):
        self.path = path
        self.reserved = self.visible = entry
        self.lsn = lsn
        self.used = True
