"""The compiled front end: POST, GET and HEAD on streams straight between socket and engine.

It takes requests of known shapes (``scanner``) for what the engine can do at once
(``engine.fast_path``), without a task, a future or a dict for each. All others it hands over: the
bytes go to uvicorn's connection on the same transport, and from there to the ASGI application,
until that connection stands between two requests again. So it decides nothing by itself, and
both front ends must answer alike (tests/wire). An append is answered after its commit, in the
order of the log; what is due on a connection is written once per commit.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.string cimport memcmp

from .scanner cimport (
    METHOD_HEAD,
    METHOD_POST,
    SCAN_MORE,
    SCAN_UNKNOWN,
    scan_head,
)

from ..protocol.errors import StreamError
from .read import parse_query
from .request import query_fields
from .status import refusal

cdef extern from "string.h" nogil:
    void *memmem(const void *data, size_t size, const void *wanted, size_t wanted_size)

cdef enum:
    HEAD_SIZE_MAX = 16384           # bytes; larger ones are the parser's to judge
    BODY_SIZE_MAX = 65536           # bytes; of larger ones memory is accounted for, in the app
    READ_SIZE_MAX = 4194304         # bytes of one answer (engine.options.READ_SIZE_MAX)
    DUE_MAX = 256                   # of one connection, which then waits
    REST_SIZE_MAX = 65536           # bytes kept behind a request that is still answered
    OFFSET_PREFIX_SIZE = 7          # "offset="


@cython.final
cdef class FastFront:
    def __init__(self, app, options, make_parser, config, server_state, loop):
        self.app, self.options, self.loop = app, options, loop
        self.make_parser = make_parser
        self.server_state = server_state
        self.limit_concurrency = config.limit_concurrency
        self.keep_alive = config.timeout_keep_alive
        settings = app.config
        self.answers = Answers(server_state, options.base_headers, settings.cache_scope)
        self.root = settings.root.encode("ascii")
        self.path_size_max = settings.limits.path_size_max
        self.body_size_max = min(settings.limits.body_size_max, BODY_SIZE_MAX)
        self.any_origin = settings.cors is None or settings.cors.is_open
        self.due = DueQueue()
        self.connections = set()
        self.now = loop.time()
        self.attach()
        self.watch()

    def connect(self):
        """A protocol for one more connection."""
        return FastConnection(self)

    def close(self):
        """The loop serves no more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.path is not None:
            self.path = None
            self.feeds.close()
            self.aio.drop_fast_path(self)

    # -- the engine -----------------------------------------------------------------------

    cdef int attach(self) except -1:
        """Find the store's fast path, if it has one and is open."""
        cdef object store = self.app.store
        if store is None or self.path is not None:
            return 0
        self.aio = store.aio
        if hasattr(self.aio, "fast_path"):
            self.path = self.aio.fast_path(self)
            self.feeds = Feeds(
                self.path, self.app.service, self.answers, self.server_state, self.loop
            )
        return 0

    cdef bint is_ready(self) except -1:
        if self.path is None:
            self.attach()
        if self.limit_concurrency is not None:
            if len(self.server_state.tasks) + self.busy() >= self.limit_concurrency:
                return False
        return self.path is not None

    def busy(self):
        """Requests under way here: appends that wait for the log, and readers of events."""
        return self.due.count + (0 if self.feeds is None else self.feeds.count)

    cdef bint is_hot_path(self, const Head *head) noexcept:
        """Whether a path is a stream's name as it stands: no dot segments, nothing reserved."""
        cdef const char *at = head.path.data
        cdef size_t size = head.path.size, root = <size_t>PyBytes_GET_SIZE(self.root), i
        if not root < size <= self.path_size_max:
            return False
        if memcmp(at, PyBytes_AS_STRING(self.root), root) != 0:
            return False
        if size >= root + 4 and memcmp(at + root, b"__ds", 4) == 0:
            return False
        for i in range(root - 1, size - 1):
            if at[i] == c"/" and (at[i + 1] == c"." or at[i + 1] == c"%"):
                return False
        return True

    def committed(self):
        """Answer the appends that are durable and visible by now."""
        cdef uint64_t tail, visible = self.path.visible_lsn()
        cdef FastConnection connection
        cdef list touched = []
        while self.due.is_ready(visible):
            tail = self.due.first_tail()
            connection = self.pop()
            if connection.out is None:
                touched.append(connection)
            connection.put(self.answers.append(tail))
        for connection in touched:
            connection.flush()

    def failed(self, make_error):
        """Nothing of what waits will become durable."""
        cdef FastConnection connection
        answer = self.answers.refusal(refusal(make_error()))
        while self.due.count > 0:
            connection = self.pop()
            connection.put(answer)
            connection.flush()

    cdef FastConnection pop(self):
        cdef FastConnection connection = <FastConnection>self.due.pop()
        connection.due -= 1
        return connection

    # -- time -----------------------------------------------------------------------------

    def watch(self):
        """Look at every connection now and then: a timer for each would cost each request."""
        cdef FastConnection connection
        self.now = self.loop.time()
        for connection in list(self.connections):
            connection.check(self.now)
        delay = min(
            1.0, self.options.head_timeout / 4, self.options.stall_timeout / 4, self.keep_alive / 4
        )
        self.timer = self.loop.call_later(delay, self.watch)


@cython.final
cdef class FastConnection:
    def __cinit__(self, FastFront front not None):
        self.front = front
        self.rest = b""
        self.since = front.now

    # -- what the transport calls ---------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        self.front.connections.add(self)
        self.front.server_state.connections.add(self)

    def connection_lost(self, exc):
        cdef Reader reader = self.reader
        self.transport = None
        self.rest, self.out = b"", None
        self.reader = None
        if reader is not None:
            reader.lose()
        self.front.connections.discard(self)
        self.front.server_state.connections.discard(self)
        if self.parser is not None:
            self.parser.connection_lost(exc)
            self.parser = None

    def eof_received(self):
        return self.parser.eof_received() if self.is_cold else None

    def data_received(self, bytes data not None):
        if self.is_cold:
            if not self.parser.is_between_requests:
                self.parser.data_received(data)
                return
            self.parser.leave()
            self.is_cold = False
        if PyBytes_GET_SIZE(self.rest) > 0:
            data = self.rest + data
            self.rest = b""
        if self.reader is not None:
            self.rest = data        # another request, which has to wait
            if PyBytes_GET_SIZE(data) > REST_SIZE_MAX:
                self.transport.pause_reading()
            return
        if self.wants_parser or self.is_full or self.due >= DUE_MAX:
            self.rest = data        # the transport had read on
            return
        self.process(data)

    def pause_writing(self):
        self.is_full = True
        if self.is_cold:
            self.parser.pause_writing()
            return
        self.since = self.front.now
        self.stalled_size = self.transport.get_write_buffer_size()
        if self.reader is not None:
            self.reader.set_full(True)
        else:
            self.hold()

    def resume_writing(self):
        cdef Reader reader = self.reader    # held: its last event ends it
        self.is_full = False
        if self.is_cold:
            self.parser.resume_writing()
            return
        self.since = self.front.now
        if reader is not None:
            reader.set_full(False)
        else:
            self.go_on()

    # -- what the server calls ------------------------------------------------------------

    def shutdown(self):
        """End as soon as everything under way is answered."""
        self.is_ending = True
        if self.is_cold:
            self.parser.shutdown()
        elif self.due == 0 and self.reader is None and self.transport is not None:
            self.transport.close()

    # -- requests -------------------------------------------------------------------------

    cdef int process(self, bytes data) except -1:
        """Take every whole request; what follows waits for more bytes, or for what is due."""
        cdef const char *at = PyBytes_AS_STRING(data)
        cdef size_t size = <size_t>PyBytes_GET_SIZE(data), done = 0
        cdef Py_ssize_t taken = 0
        while done < size:
            if self.due >= DUE_MAX or self.is_full or self.is_ending or self.reader is not None:
                break
            taken = self.request(at + done, size - done)
            if taken <= 0:
                break
            done += <size_t>taken
        if done > 0 or not self.has_begun:
            self.since = self.front.now
        self.was_used = self.was_used or done > 0
        self.has_begun = done < size
        if taken == SCAN_UNKNOWN:
            self.write()
            return self.hand_over(data[done:])
        self.rest = data[done:] if done < size else b""
        if self.due >= DUE_MAX:
            self.hold()
        self.write()
        return 0

    cdef Py_ssize_t request(self, const char *data, size_t size) except -2:
        """Bytes of one request that was taken; 0: they are not all there; -1: not for here."""
        cdef Head head
        cdef Py_ssize_t head_size = scan_head(data, size, &head)
        if head_size == SCAN_MORE:
            return 0 if size < HEAD_SIZE_MAX else SCAN_UNKNOWN
        if head_size < 0 or not self.front.is_ready() or not self.front.is_hot_path(&head):
            return SCAN_UNKNOWN
        if head.has_origin and not self.front.any_origin:
            return SCAN_UNKNOWN
        if head.method != METHOD_POST:
            return head_size if self.read(&head) else SCAN_UNKNOWN
        if not 0 < head.content_length <= self.front.body_size_max:
            return SCAN_UNKNOWN
        if head.content_type.data == NULL:
            return SCAN_UNKNOWN
        if size - <size_t>head_size < head.content_length:
            return 0
        if not self.append(&head, data + head_size):
            return SCAN_UNKNOWN
        return head_size + <Py_ssize_t>head.content_length

    cdef bint append(self, const Head *head, const char *body) except -1:
        """Append; False if the application has to."""
        cdef uint64_t tail = 0, lsn
        self.front.due.reserve()
        lsn = self.front.path.append(
            head.path.data, <Py_ssize_t>head.path.size,
            head.content_type.data, <Py_ssize_t>head.content_type.size,
            body, <Py_ssize_t>head.content_length, &tail,
        )
        if lsn == 0:
            return False
        self.front.due.push(lsn, tail, self)
        self.due += 1
        self.front.server_state.total_requests += 1
        return True

    cdef bint read(self, const Head *head) except -1:
        """Answer a GET or HEAD at once; False if the application has to."""
        cdef const char *offset = head.query.data
        cdef size_t size = head.query.size
        cdef list parts
        if self.due > 0 or head.content_length > 0:
            return False            # answers keep the order of requests
        if head.method != METHOD_HEAD and size > 0:
            if memmem(offset, size, b"live=", 5) != NULL:
                return self.follow(head)
        if head.method == METHOD_HEAD:
            shown = self.front.path.look(head.path.data, <Py_ssize_t>head.path.size)
            if shown is None:
                return False
            self.put(self.front.answers.head(shown))
            return True
        if size > 0:
            if size <= OFFSET_PREFIX_SIZE or memcmp(offset, b"offset=", OFFSET_PREFIX_SIZE) != 0:
                return False
            offset += OFFSET_PREFIX_SIZE
            size -= OFFSET_PREFIX_SIZE
        shown = self.front.path.read(
            head.path.data, <Py_ssize_t>head.path.size, offset, <Py_ssize_t>size, READ_SIZE_MAX
        )
        if shown is None:
            return False
        parts = self.front.answers.read(
            shown, size == 3, head.if_none_match.data, head.if_none_match.size
        )
        if parts is None:
            return False
        self.put(parts[0])
        if len(parts) > 1:
            self.write()
            if self.transport is not None:
                self.transport.writelines(parts[1:])
        return True

    cdef bint follow(self, const Head *head) except -1:
        """Begin to answer with server-sent events; False if the application has to."""
        cdef Reader reader
        try:
            query = parse_query(query_fields(head.query.data[:head.query.size]))
        except StreamError:
            return False
        self.write()
        reader = self.front.feeds.follow(
            self, self.transport, head.path.data[:head.path.size], query
        )
        if reader is None:
            return False
        if reader.feed is not None:
            self.reader = reader
            if self.is_full:
                reader.set_full(True)
        self.front.server_state.total_requests += 1
        return True

    def events_ended(self):
        """All events are written; the next request may have come already."""
        self.reader = None
        self.since = self.front.now
        if self.is_ending:
            self.transport.close()
        else:
            self.front.loop.call_soon(self.go_on_later)

    def go_on_later(self):
        self.go_on()

    # -- answers --------------------------------------------------------------------------

    cdef int put(self, bytes answer) except -1:
        self.out = answer if self.out is None else self.out + answer
        return 0

    cdef int write(self) except -1:
        cdef bytes out = self.out
        if out is not None:
            self.out = None
            if self.transport is not None:
                self.transport.write(out)
        return 0

    cdef int flush(self) except -1:
        """Write what became due, and go on with what had to wait for it."""
        self.write()
        self.since = self.front.now
        if self.due == 0 and self.transport is not None:
            if self.is_ending:
                self.transport.close()
            elif self.is_held:
                self.go_on()
        return 0

    cdef int hold(self) except -1:
        """Take nothing more, until ``go_on``."""
        self.is_held = True
        if not self.transport.is_closing():
            self.transport.pause_reading()
        return 0

    cdef int go_on(self) except -1:
        """Look again at what was left, if nothing stands against it any more."""
        cdef bytes data = self.rest
        if self.transport is None or self.is_full or self.due > 0 or self.is_cold:
            return 0
        if self.reader is not None:
            return 0
        if self.transport.is_closing():
            return 0
        self.rest, self.is_held = b"", False
        self.transport.resume_reading()
        if self.wants_parser:
            self.wants_parser = False
            return self.hand_over(data)
        return self.process(data)

    # -- the parser -----------------------------------------------------------------------

    cdef int hand_over(self, bytes data) except -1:
        """Let uvicorn's connection have the request that begins here, and what follows."""
        if self.due > 0:
            self.wants_parser = True
            self.rest = data
            return self.hold()
        self.is_cold = self.was_used = True
        if self.parser is None:
            self.parser = self.front.make_parser()
            self.parser.connection_made(self.transport)
        if self.is_full:
            self.parser.pause_writing()
        if self.is_ending:
            self.parser.shutdown()
        self.parser.data_received(data)
        return 0

    # -- time -----------------------------------------------------------------------------

    cdef int check(self, double now) except -1:
        """End what takes too long."""
        cdef size_t size
        cdef double waited = now - self.since
        if self.transport is None or self.is_cold or self.due > 0:
            return 0
        if self.is_full:
            if waited >= self.front.options.stall_timeout:
                size = self.transport.get_write_buffer_size()
                if size >= self.stalled_size:
                    self.transport.abort()
                self.stalled_size, self.since = size, now
        elif self.reader is not None:
            return 0                # it has a clock of its own
        elif PyBytes_GET_SIZE(self.rest) > 0:
            if waited >= self.front.options.head_timeout:
                data, self.rest = self.rest, b""
                self.hand_over(data)
                self.parser.give_up_waiting()
        else:
            patience = self.front.keep_alive if self.was_used else self.front.options.head_timeout
            if waited >= patience:
                self.transport.close()
        return 0
