"""The answers of the hot path as bytes: what uvicorn and the application send, byte for byte.

What is the same in all answers is rendered once a second, when uvicorn renews the date. This
decides nothing: which answer it is says the caller.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from uvicorn.protocols.http.httptools_impl import STATUS_LINE as _STATUS_LINE

from .answer import JOIN_SIZE_MAX as _JOIN_SIZE_MAX
from .answer import NO_STORE as _NO_STORE
from .read import FRESH as _FRESH
from .read import REVALIDATE as _REVALIDATE

cdef Py_ssize_t JOIN_SIZE_MAX = _JOIN_SIZE_MAX

cdef enum:
    POSITION_DIGITS = 16


@cython.final
cdef class Answers:
    def __init__(self, server_state, base_headers, str cache_scope not None):
        self.state = server_state
        self.base = lines_of(base_headers)
        self.fresh = _FRESH % cache_scope.encode("ascii")
        self.default_headers = None

    cdef int renew(self) except -1:
        """Have today's date in the heads."""
        cdef bytes common
        if self.state.default_headers is self.default_headers:
            return 0
        self.default_headers = self.state.default_headers
        common = lines_of(self.default_headers) + self.base
        self.appended = (
            _STATUS_LINE[204] + common + b"cache-control: " + _NO_STORE
            + b"\r\nstream-next-offset: 0000000000000000_"
        )
        self.found = _STATUS_LINE[200] + common
        self.not_modified = _STATUS_LINE[304] + common
        return 0

    cdef bytes append(self, uint64_t tail):
        """204 behind an append (section 4.2)."""
        self.renew()
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.appended)
        cdef bytes answer = PyBytes_FromStringAndSize(NULL, size + POSITION_DIGITS + 4)
        cdef char *at = PyBytes_AS_STRING(answer)
        memcpy(at, PyBytes_AS_STRING(self.appended), size)
        put_position(at + size, tail)
        memcpy(at + size + POSITION_DIGITS, b"\r\n\r\n", 4)
        return answer

    cdef bytes head(self, Shown shown):
        """200 to HEAD (section 4.4)."""
        self.renew()
        return b"%bcache-control: %b\r\ncontent-type: %b\r\n%b%b\r\n" % (
            self.found, _NO_STORE, shown.content_type, next_offset(shown.tail),
            b"stream-closed: true\r\n" if shown.is_closed else b"",
        )

    cdef bytes events(self, bint base64):
        """The head of an event stream (section 9.1)."""
        self.renew()
        return (
            b"%bcache-control: no-cache\r\ncontent-type: text/event-stream\r\n"
            b"x-accel-buffering: no\r\n%btransfer-encoding: chunked\r\n\r\n"
        ) % (self.found, b"stream-sse-data-encoding: base64\r\n" if base64 else b"")

    cdef list read(self, Shown shown, bint is_now, const char *tag, size_t tag_size):
        """200 or 304 to a catch-up read that reaches the tail (sections 4.5 and 12)."""
        cdef bytes position, own
        self.renew()
        position = b"%bstream-up-to-date: true\r\n%b" % (
            next_offset(shown.tail), b"stream-closed: true\r\n" if shown.is_closed else b"",
        )
        if is_now:
            return self.body(shown, b"%bcache-control: %b\r\ncontent-type: %b\r\n%b" % (
                self.found, _NO_STORE, shown.content_type, position,
            ))
        own = b'"%x:%d:%d%b"' % (
            shown.incarnation, shown.start, shown.tail, b":c" if shown.is_closed else b"",
        )
        cache = self.fresh if shown.is_closed else _REVALIDATE
        if tag != NULL:
            if tag_size != <size_t>len(own) or memcmp(tag, PyBytes_AS_STRING(own), tag_size) != 0:
                return None         # another tag, or a list of them: the application compares
            return [b"%bcache-control: %b\r\n%betag: %b\r\n\r\n" % (
                self.not_modified, cache, position, own,
            )]
        return self.body(shown, b"%bcache-control: %b\r\n%betag: %b\r\ncontent-type: %b\r\n" % (
            self.found, cache, position, own, shown.content_type,
        ))

    cdef list body(self, Shown shown, bytes head):
        """A whole answer: small ones in one piece, large ones without a copy."""
        cdef uint64_t size = shown.tail - shown.start
        cdef list parts
        if not shown.is_json:
            parts = [b"%bcontent-length: %d\r\n\r\n" % (head, size), *shown.buffers]
        elif size == 0:
            parts = [b"%bcontent-length: 2\r\n\r\n[]" % head]
        else:                       # "[", and "]" in place of the last comma
            parts = [b"%bcontent-length: %d\r\n\r\n[" % (head, size + 1), *shown.buffers]
            last = parts.pop()      # no negative index: the build does without them
            parts += [last[:len(last) - 1], b"]"]
        if size <= <uint64_t>JOIN_SIZE_MAX:
            return [b"".join(parts)]
        return parts

    def refusal(self, answer):
        """An ``Answer`` of the application, whole."""
        cdef bytes content = b"".join(answer.body)
        self.renew()
        return b"%b%b%bcache-control: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            _STATUS_LINE[answer.status], lines_of(self.default_headers), self.base,
            answer.cache_control, lines_of(answer.headers), len(content), content,
        )


cdef bytes lines_of(headers):
    return b"".join([b"%b: %b\r\n" % header for header in headers])


cdef bytes next_offset(uint64_t position):
    cdef char digits[POSITION_DIGITS]
    put_position(digits, position)
    return b"stream-next-offset: 0000000000000000_%b\r\n" % (<bytes>digits[:POSITION_DIGITS])


cdef inline void put_position(char *at, uint64_t position) noexcept nogil:
    cdef int i
    for i in range(POSITION_DIGITS - 1, -1, -1):
        at[i] = <char>(c"0" + position % 10)
        position //= 10
