# Answers as bytes: see fast_answers.pyx.
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from ..engine.fast_path cimport Shown


@cython.final
cdef class Answers:
    cdef object state               # uvicorn's, which renews the default headers each second
    cdef object default_headers     # those that the heads below were made with
    cdef bytes base
    cdef bytes fresh
    cdef bytes appended             # up to the position
    cdef bytes found                # up to the headers of the answer's own
    cdef bytes not_modified

    cdef int renew(self) except -1
    cdef bytes append(self, uint64_t tail)
    cdef bytes head(self, Shown shown)
    cdef bytes events(self, bint base64)
    cdef list read(self, Shown shown, bint is_now, const char *tag, size_t tag_size)
    cdef list body(self, Shown shown, bytes head)
