"""A block of memory that holds records from staging until they are flushed.

Slabs are the unflushed tail of every stream at once: the log writes them, tails index them,
readers hold views of them. So a slab must never move, shrink or change what it has given out;
it goes when the log, every tail and every view has let go.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport free, malloc


@cython.final
cdef class Slab:
    def __cinit__(self, uint64_t capacity):
        if capacity == 0:
            raise ValueError("a slab needs a capacity above 0")
        self.memory = <uint8_t *>malloc(capacity)
        if self.memory == NULL:
            raise MemoryError(f"no memory for a slab of {capacity} bytes")
        self.capacity = capacity
        self.used = self.first_lsn = self.last_lsn = 0

    def __dealloc__(self):
        free(self.memory)

    def __len__(self):
        return self.used

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.memory, <Py_ssize_t>self.used, 1, flags)

    cdef uint8_t *take(self, uint64_t size, uint64_t lsn) noexcept nogil:
        """Room for the record ``lsn``, or NULL if ``size`` bytes are not left."""
        if size > self.capacity - self.used:
            return NULL
        cdef uint8_t *room = self.memory + self.used
        self.used += size
        if self.first_lsn == 0:
            self.first_lsn = lsn
        self.last_lsn = lsn
        return room
