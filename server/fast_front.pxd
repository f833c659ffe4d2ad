# The compiled front end: see fast_front.pyx.
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from ..engine.fast_path cimport FastPath
from .due_queue cimport DueQueue
from .fast_answers cimport Answers
from .fast_events cimport Feeds, Reader
from .scanner cimport Head


@cython.final
cdef class FastFront:
    cdef object loop
    cdef object options             # HttpOptions
    cdef object app
    cdef object make_parser
    cdef object server_state
    cdef object limit_concurrency
    cdef Answers answers
    cdef FastPath path              # None: everything goes to the application
    cdef Feeds feeds                # with ``path``
    cdef object aio
    cdef bytes root
    cdef size_t path_size_max
    cdef uint64_t body_size_max
    cdef bint any_origin            # answers do not depend on the Origin
    cdef DueQueue due
    cdef set connections
    cdef double now                 # of the loop's clock, as of the last look at all connections
    cdef double keep_alive
    cdef object timer

    cdef bint is_ready(self) except -1
    cdef int attach(self) except -1
    cdef bint is_hot_path(self, const Head *head) noexcept
    cdef FastConnection pop(self)


@cython.final
cdef class FastConnection:
    cdef object __weakref__
    cdef FastFront front
    cdef object transport           # None: lost
    cdef object parser              # uvicorn's connection, made when it is first needed
    cdef bint is_cold               # what comes is the parser's
    cdef bytes rest                 # received and not looked at yet
    cdef bytes out                  # to be written
    cdef Reader reader              # while events are the answer
    cdef size_t due                 # answers that wait for the log
    cdef bint wants_parser          # as soon as nothing is due
    cdef bint has_begun             # ``rest`` is a part of a request that waits for more
    cdef bint is_held               # nothing is read from the transport
    cdef bint is_full               # the client does not take what was written
    cdef bint is_ending
    cdef bint was_used
    cdef double since               # its last change, for the time-outs
    cdef size_t stalled_size

    cdef int process(self, bytes data) except -1
    cdef Py_ssize_t request(self, const char *data, size_t size) except -2
    cdef bint append(self, const Head *head, const char *body) except -1
    cdef bint read(self, const Head *head) except -1
    cdef bint follow(self, const Head *head) except -1
    cdef int put(self, bytes answer) except -1
    cdef int write(self) except -1
    cdef int flush(self) except -1
    cdef int hand_over(self, bytes data) except -1
    cdef int hold(self) except -1
    cdef int go_on(self) except -1
    cdef int check(self, double now) except -1
