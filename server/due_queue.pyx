"""The answers to appends that are not durable yet, in the order of the log: a ring of numbers.

One object for each request would be a tenth of what the request costs. LSNs ascend, since appends
are logged on the loop's own thread; whoever asks for the first item makes sure that there is one.
"""
cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove


@cython.final
cdef class DueQueue:
    def __cinit__(self):
        self.items = NULL
        self.head = self.count = self.capacity = 0

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.count):
            Py_DECREF(<object>self.items[self.head + i].owner)
        free(self.items)

    def __len__(self):
        return self.count

    cdef int reserve(self) except -1:
        """Room for one more; after it, ``push`` cannot fail."""
        cdef Due *grown
        cdef size_t capacity
        if self.head + self.count < self.capacity:
            return 0
        if self.head > self.capacity // 2:
            memmove(self.items, self.items + self.head, self.count * sizeof(Due))
            self.head = 0
            return 0
        capacity = max(<size_t>64, 2 * self.capacity)
        grown = <Due *>realloc(self.items, capacity * sizeof(Due))
        if grown == NULL:
            raise MemoryError("no memory for the queue of answers")
        self.items, self.capacity = grown, capacity
        return 0

    cdef void push(self, uint64_t lsn, uint64_t tail, object owner) noexcept:
        Py_INCREF(owner)
        self.items[self.head + self.count] = Due(lsn, tail, <PyObject *>owner)
        self.count += 1

    cdef bint is_ready(self, uint64_t visible_lsn) noexcept:
        """Whether the first one may leave."""
        return self.count > 0 and self.items[self.head].lsn <= visible_lsn

    cdef uint64_t first_tail(self) noexcept:
        return self.items[self.head].tail

    cdef object pop(self):
        """Take the first one off; its owner."""
        cdef PyObject *kept = self.items[self.head].owner
        owner = <object>kept
        self.count -= 1
        self.head = self.head + 1 if self.count else 0
        Py_DECREF(owner)
        return owner
