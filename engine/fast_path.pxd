# What a front end asks of a file store without a Python object per request: see fast_path.pyx.
cimport cython
from libc.stdint cimport int64_t, uint64_t

from .._native.log cimport Log
from .entry cimport Entry
from .projection cimport Projection


# A stream as readers see it, and a range of it that reaches its tail.
@cython.final
cdef class Shown:
    cdef readonly uint64_t start
    cdef readonly uint64_t tail     # and the end of the range
    cdef readonly uint64_t incarnation
    cdef readonly bint is_closed
    cdef readonly bint is_json
    cdef readonly bytes content_type
    cdef readonly list buffers      # the range's bytes; None from ``look``


@cython.final
cdef class FastPath:
    cdef object engine, operations, lock, clock
    cdef dict bindings              # the catalog's
    cdef Log log
    cdef Projection projection
    cdef int depth_max              # nesting of JSON bodies
    cdef uint64_t pinned_size_max   # bytes

    # The LSN that the answer must wait for, and the stream's new tail; 0: not for this path, ask
    # the store. ``path`` is a stream's, as it is; ``body`` has at least one byte.
    cdef uint64_t append(
        self,
        const char *path,
        Py_ssize_t path_size,
        const char *content_type,
        Py_ssize_t content_type_size,
        const char *body,
        Py_ssize_t body_size,
        uint64_t *tail,
    ) except? 0
    # Answers that wait for an LSN up to this one may leave.
    cdef uint64_t visible_lsn(self) noexcept
    # The bytes from an offset (no size: from the start) to the tail, if they are at most so many
    # and need no disk; None: ask the store. It is no access that any rule counts.
    cdef Shown read(
        self,
        const char *path,
        Py_ssize_t path_size,
        const char *offset,
        Py_ssize_t offset_size,
        uint64_t size_max,
    )
    # The same for who was told of ``start`` before, of this very stream.
    cdef Shown follow(self, bytes path, uint64_t incarnation, uint64_t start, uint64_t size_max)
    # Have a Waiter fired at the next news of a stream, until ``unpark``; how it is now. None: it is
    # not there, or not for this path.
    cdef Shown park(self, bytes path, uint64_t incarnation, object waiter)
    cdef int unpark(self, bytes path, object waiter) except -1
    # What HEAD tells, if that is all there is to tell; None: ask the store.
    cdef Shown look(self, const char *path, Py_ssize_t path_size)
    cdef int64_t now_ms(self) except? -1
    cdef Entry shown_entry(self, str path)
    cdef list pieces(self, Entry entry, uint64_t start, uint64_t end)
    cdef Entry plain_entry(self, str path, const char *content_type, Py_ssize_t size)
    cdef uint64_t append_json(self, Entry entry, const char *body, Py_ssize_t size) except? 0
    cdef uint64_t log_append(
        self, Entry entry, const void *data, uint64_t size, object sizes
    ) except? 0
