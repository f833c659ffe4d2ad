"""A block of memory that holds records from staging until they are flushed.

Slabs are the unflushed tail of every stream at once: the log writes them, tails index them,
readers hold views of them. So a slab must never move, shrink or change what it has given out;
it goes when the log, every tail and every view has let go, and its memory then goes back to the
system at once.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t size, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t size)
    enum: PROT_READ
    enum: PROT_WRITE
    enum: MAP_PRIVATE
    enum: MAP_ANONYMOUS
    void *MAP_FAILED


@cython.final
cdef class SlabMemory:
    """How much the slabs of one log take together."""

    def __cinit__(self):
        self.size = 0


@cython.final
@cython.no_gc
cdef class Slab:
    def __cinit__(self, uint64_t capacity, SlabMemory counted=None):
        if capacity == 0:
            raise ValueError("a slab needs a capacity above 0")
        cdef void *memory = mmap(
            NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
        )
        if memory == MAP_FAILED:
            raise MemoryError(f"no memory for a slab of {capacity} bytes")
        self.memory = <uint8_t *>memory
        self.capacity = capacity
        self.counted = counted
        if counted is not None:
            counted.size += capacity
        self.used = self.first_lsn = self.last_lsn = 0

    def __dealloc__(self):
        if self.memory == NULL:
            return
        munmap(self.memory, self.capacity)
        if self.counted is not None:
            self.counted.size -= self.capacity

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
