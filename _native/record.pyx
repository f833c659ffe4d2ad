"""Pick records out of slabs and other buffers, without copying a byte.

Source: docs/format-wal.md, "Record". Validation is the reader's job (wal.pyx): everything here
trusts its header.
"""

cimport cython
from libc.stdlib cimport free, realloc


@cython.final
cdef class RecordBatch:
    def __cinit__(self):
        self.refs = NULL
        self.count = self.capacity = 0
        self.owners = []

    def __dealloc__(self):
        free(self.refs)

    cdef int push(self, const uint8_t *record) except -1:
        cdef RecordRef *grown
        if self.count == self.capacity:
            self.capacity = max(64, 2 * self.capacity)
            grown = <RecordRef *>realloc(self.refs, self.capacity * sizeof(RecordRef))
            if grown == NULL:
                raise MemoryError
            self.refs = grown
        self.refs[self.count] = record_ref(record)
        self.count += 1
        return 0

    def drop(self, uint64_t stream_id, uint64_t position):
        """Leave out a stream's records from ``position`` on."""
        cdef Py_ssize_t i, kept = 0
        for i in range(self.count):
            if self.refs[i].header.stream_id != stream_id or self.refs[i].header.base < position:
                self.refs[kept] = self.refs[i]
                kept += 1
        self.count = kept

    @staticmethod
    def from_buffers(records):
        """A batch over whole records (bytes-like, one each), in LSN order."""
        cdef RecordBatch batch = RecordBatch()
        cdef const uint8_t[::1] view
        for record in records:
            view = record
            batch.owners.append(record)
            batch.push(&view[0])
        return batch


cdef int check_sizes(const Py_buffer *sizes, uint64_t data_size) except -1:
    """ValueError unless these are the sizes of the messages that the data consists of."""
    cdef const uint32_t *values = <const uint32_t *>sizes.buf
    cdef uint64_t total = 0
    cdef Py_ssize_t i
    if sizes.itemsize != 4 or sizes.format == NULL or sizes.format[0] not in (c"I", c"L"):
        raise ValueError("message sizes must be unsigned integers of 32 bits, as array('I')")
    for i in range(sizes.len // 4):
        if values[i] == 0:
            raise ValueError(f"message {i} is empty")
        total += values[i]
    if total != data_size:
        raise ValueError(f"messages of {total} bytes in all, but {data_size} bytes of data")
    return 0
