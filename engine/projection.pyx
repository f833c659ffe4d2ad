"""What is durable becomes visible, and what is visible becomes dirty, in the order of the log.

The log is the only thing that an acknowledgement depends on; the visible states and the rows
are projections of it (I2). A change waits here from staging until its record is durable, then
it is applied: the visible state moves, readers are woken, the row is dirty until flushed.
Everything is guarded by the store's lock; nothing here waits for anything.
"""
cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from msgspec.structs import replace


@cython.final
cdef class Projection:
    def __cinit__(self):
        self.pending = NULL
        self.head = self.count = self.capacity = 0
        self.dirty = {}
        self.next_stream_id = 1

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.count):
            Py_DECREF(<object>self.pending[self.head + i].subject)
        free(self.pending)

    # -- from staging to durable ----------------------------------------------------------

    cdef int reserve(self) except -1:
        cdef Pending *grown
        cdef size_t capacity
        if self.head + self.count < self.capacity:
            return 0
        if self.head > self.capacity // 2:
            memmove(self.pending, self.pending + self.head, self.count * sizeof(Pending))
            self.head = 0
            return 0
        capacity = max(<size_t>64, 2 * self.capacity)
        grown = <Pending *>realloc(self.pending, capacity * sizeof(Pending))
        if grown == NULL:
            raise MemoryError("no memory for the queue of what waits to be durable")
        self.pending = grown
        self.capacity = capacity
        return 0

    cdef void push_pending(self, uint64_t lsn, object subject) noexcept:
        Py_INCREF(subject)
        self.pending[self.head + self.count] = Pending(lsn, <PyObject *>subject, False, 0, 0)
        self.count += 1

    cdef void push_append(
        self, uint64_t lsn, Entry entry, uint64_t tail, int64_t accessed_at
    ) noexcept:
        Py_INCREF(entry)
        self.pending[self.head + self.count] = Pending(
            lsn, <PyObject *>entry, True, tail, accessed_at
        )
        self.count += 1

    def push(self, change):
        self.reserve()
        self.push_pending(change.lsn, change)

    def advance(self, uint64_t durable_lsn):
        self.advance_to(durable_lsn)

    cdef int advance_to(self, uint64_t durable_lsn) except -1:
        cdef Pending pending
        while self.count > 0 and self.pending[self.head].lsn <= durable_lsn:
            pending = self.pending[self.head]
            if pending.is_append:
                self.apply_append(&pending)
            else:
                self.apply(<object>pending.subject)
            # Only now: if Ctrl-C cut this short, it is applied once more.
            self.head += 1
            self.count -= 1
            Py_DECREF(<object>pending.subject)
        if self.count == 0:
            self.head = 0
        if durable_lsn > self.visible_lsn:
            self.visible_lsn = durable_lsn
        return 0

    # -- applying -------------------------------------------------------------------------

    cdef int apply_append(self, const Pending *pending) except -1:
        cdef Entry entry = <Entry>pending.subject
        cdef Dirty dirty = self.dirty_row(entry)
        entry.move_visible(pending.tail, pending.accessed_at)
        dirty.move(entry.visible_base, entry.visible_position)
        dirty.lsn = pending.lsn
        dirty.quarantine = entry.quarantine
        if entry.waiters:
            entry.fire()
        return 0

    def apply(self, change):
        cdef Entry entry = change.entry
        before, state = entry.visible, change.state
        if state is not None and before is not None:
            state = latest_access(before, state)
        entry.visible = state
        self.next_stream_id = max(self.next_stream_id, entry.stream_id + 1)
        cdef Dirty dirty = self.dirty_row(entry)
        dirty.state, dirty.lsn, dirty.quarantine = state, change.lsn, entry.quarantine
        if state is not None and before is not None and state.earliest > before.earliest:
            if dirty.trimmed_from is None:
                dirty.trimmed_from = before.earliest
        if change.producer is not None:
            producer_id, producer = change.producer
            dirty.producers[producer_id] = producer
        binding = change.binding
        if binding is not None:
            if state is not None:
                binding.visible = entry
            elif binding.visible is entry:
                binding.visible = None
        if readers_care(before, state):
            entry.fire()

    cdef Dirty dirty_row(self, Entry entry):
        """The row of a stream in the present set."""
        if entry.dirty is None or entry.dirty.generation != self.generation:
            # Of an entry that was evicted and loaded again, it may be there already.
            found = self.dirty.get(entry.stream_id)
            if found is None:
                found = Dirty(entry.stream_id, entry.origin.path, self.generation)
                self.dirty[entry.stream_id] = found
            entry.dirty = found
        return entry.dirty

    # -- flushing -------------------------------------------------------------------------

    def take_dirty(self):
        taken, self.dirty = self.dirty, {}
        self.generation += 1
        return taken

    def give_back(self, dict taken not None):
        cdef Dirty older, newer
        for stream_id, row in taken.items():
            older = row
            newer = self.dirty.get(stream_id)
            if newer is None:
                older.generation = self.generation
                self.dirty[stream_id] = older
            else:
                newer.producers = older.producers | newer.producers
                if older.trimmed_from is not None:
                    newer.trimmed_from = older.trimmed_from


cdef object latest_access(object before, object state):
    """Keep an access that came after the record was logged: it moved the deadline already."""
    if before.last_accessed_at <= state.last_accessed_at:
        return state
    return replace(state, last_accessed_at=before.last_accessed_at)


cdef bint readers_care(object before, object after) except -1:
    if before is None or after is None:
        return True
    return (before.tail, before.closed, before.soft_deleted) != (
        after.tail,
        after.closed,
        after.soft_deleted,
    )
