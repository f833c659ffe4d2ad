# The head of a hot request, found without a library's callbacks: see scanner.pyx.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

cdef enum Method:
    METHOD_POST
    METHOD_GET
    METHOD_HEAD

cdef enum ScanResult:
    SCAN_MORE = 0                   # the head is not whole yet
    SCAN_UNKNOWN = -1               # not a request that is known here: a parser has to look


cdef struct Slice:
    const char *data
    size_t size


# Slices point into the scanned bytes; one that was not sent has no data.
cdef struct Head:
    Method method
    Slice path
    Slice query                     # without the question mark
    Slice content_type
    Slice if_none_match
    uint64_t content_length
    bint has_length
    bint has_origin


# The size of the head in bytes, behind its empty line; or a ScanResult.
cdef Py_ssize_t scan_head(const char *data, size_t size, Head *head) noexcept nogil
