# Event streams of the compiled front end: see fast_events.pyx.
cimport cython
from libc.stdint cimport uint64_t

from ..engine.fast_path cimport FastPath
from .fast_answers cimport Answers


# What follows a position, up to the tail: encoded once, whoever asks.
@cython.final
cdef class Event:
    cdef uint64_t tail
    cdef bint is_closed
    cdef bint is_news               # else the position is the tail, and there is nothing to say
    cdef bytes data                 # the data event; empty if there are no bytes
    cdef dict chunks                # cursor -> the whole as a chunk of the answer

    cdef bytes chunk(self, uint64_t cursor)


@cython.final
cdef class Feeds:
    cdef FastPath path
    cdef Answers answers
    cdef object service
    cdef object state               # uvicorn's: tasks that a shutdown waits for
    cdef object loop
    cdef uint64_t thread
    cdef dict by_path               # bytes -> Feed
    cdef list readers               # in no order; the clock goes round
    cdef Py_ssize_t at
    cdef uint64_t event_size
    cdef double heartbeat, max_age, period, tick
    cdef double now                 # of the loop's clock, as of the last step
    cdef object timer

    cdef Reader follow(self, object owner, object transport, bytes path, object query)
    cdef Feed feed(self, bytes path, uint64_t incarnation, bytes content_type)
    cdef uint64_t cursor(self) except? 0
    cdef int register(self, Reader reader) except -1
    cdef int forget(self, Reader reader) except -1


# The readers of one stream.
@cython.final
cdef class Feed:
    cdef object __weakref__
    cdef Feeds feeds
    cdef bytes path
    cdef uint64_t incarnation
    cdef str content_type
    cdef bint is_text
    cdef list readers
    cdef Py_ssize_t at              # the next to be looked at
    cdef Py_ssize_t left            # to be looked at before the feed parks
    cdef bint is_scheduled, is_news
    cdef readonly bint is_parked
    cdef public bint cancelled      # the store ended the wait
    cdef uint64_t seen_tail         # as of the last look
    cdef bint seen_closed
    cdef dict events                # position -> Event, while ``events_lsn`` is visible
    cdef uint64_t events_lsn
    cdef uint64_t cursor

    cdef int schedule(self) except -1
    cdef int add(self, Reader reader) except -1
    cdef int remove(self, Reader reader) except -1
    cdef int go_round(self) except -1
    cdef int rest(self) except -1
    cdef Event event_at(self, uint64_t position)
    cdef bint serve(self, Reader reader) except -1


@cython.final
cdef class Reader:
    cdef object __weakref__
    cdef readonly object owner      # the connection; None: lost
    cdef object transport
    cdef Feeds feeds
    cdef Feed feed                  # None: ended, or a task sends what was missed
    cdef bytes path
    cdef uint64_t incarnation
    cdef bytes content_type
    cdef uint64_t position
    cdef uint64_t cursor            # of the last control event
    cdef double since               # of the last write
    cdef double deadline
    cdef Py_ssize_t index           # in feed.readers
    cdef Py_ssize_t place           # in feeds.readers
    cdef bint is_full
    cdef object outlet              # of the task

    cdef int leave(self) except -1
    cdef int finish(self) except -1
    cdef int fall_behind(self) except -1
    cdef bint check(self, double now) except -1
    cdef int set_full(self, bint is_full) except -1
    cdef int lose(self) except -1
