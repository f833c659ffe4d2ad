# An open segment: the Python side of segment_index and segment_blocks.
cimport cython
from libc.stdint cimport uint64_t

from .mapped_file cimport MappedFile
from .segment_blocks cimport BlockKind, ExtentRef, Window
from .segment_index cimport Finding, SegmentIndex


@cython.final
cdef class Segment:
    cdef MappedFile file                # None once closed
    cdef object view                    # memoryview of all of it
    cdef readonly str path
    cdef SegmentIndex index
    cdef uint64_t *verified             # see segment_blocks.pxd

    cdef MappedFile mapped(self)
    cdef void describe(self, MappedFile file, uint64_t index, ExtentRef *extent) noexcept nogil
    cdef MappedFile refer(self, Py_ssize_t index, ExtentRef *extent)
    cdef MappedFile refer_range(
        self, Py_ssize_t index, uint64_t start, uint64_t end, ExtentRef *extent
    )
    cdef int require(
        self, MappedFile file, ExtentRef *extent, BlockKind kind, uint64_t start, uint64_t end
    ) except -1
    cdef int window(
        self,
        MappedFile file,
        ExtentRef *extent,
        uint64_t start,
        uint64_t stop,
        bint whole_append,
        Window *window,
    ) except -1
    cdef object trouble(self, const ExtentRef *extent, const Finding *finding)
