"""Server-sent events without a task for each reader: encoded once, written to all who wait.

A reader is a position in a stream. A feed, one for each stream that is followed, is parked at
the stream like one reader; fired, it goes round its readers and writes to each what lies between
its position and the tail, a few at a time, so that the loop serves appends meanwhile and who
comes late gets more in one event. Who takes nothing keeps its position and costs nothing. What
is not at hand (bytes on disk, a long backlog, a text that ends inside a character) is sent by
the application's own ``EventStream``, in a task that ends at the tail.

Which event says what is decided there and in ``protocol.sse``; both must send alike (section 9).
"""
cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

from contextlib import suppress
from threading import get_ident

from ..protocol.cursor import calculate_cursor, generate_response_cursor
from ..protocol.headers import is_text
from ..protocol.offset import format_offset
from ..protocol.sse import encode_control_event, encode_data_event, uses_base64
from .event_backlog import Outlet, send_backlog
from .event_stream import ends_inside_character

from ..engine.fast_path cimport Shown

cdef enum:
    STEP_WRITES_MAX = 16            # of one feed, then the loop looks at its sockets again
    TICK_WRITES_MAX = 128

cdef bytes HEARTBEAT_CHUNK = b"3\r\n:\n\n\r\n"
cdef bytes LAST_CHUNK = b"0\r\n\r\n"


@cython.final
cdef class Event:
    def __cinit__(self):
        self.chunks = {}

    cdef bytes chunk(self, uint64_t cursor):
        cdef bytes chunk = self.chunks.get(cursor)
        if chunk is None:
            control = encode_control_event(
                format_offset(self.tail), cursor=str(cursor), up_to_date=True,
                closed=self.is_closed,
            )
            size = PyBytes_GET_SIZE(self.data) + <Py_ssize_t>len(control)
            chunk = b"%x\r\n%b%b\r\n" % (size, self.data, control)
            self.chunks[cursor] = chunk
        return chunk


@cython.final
@cython.boundscheck(True)
cdef class Feeds:
    def __init__(self, FastPath path not None, service, Answers answers not None, state, loop):
        self.path, self.service, self.answers, self.state = path, service, answers, state
        self.loop, self.thread = loop, get_ident()
        self.by_path, self.readers = {}, []
        config = service.config
        self.event_size = config.sse_event_size
        self.heartbeat, self.max_age = config.sse_heartbeat, config.sse_max_age
        self.period = min(1.0, self.heartbeat / 4, self.max_age / 4)
        self.tick = min(0.05, self.period / 4)
        self.now = loop.time()

    @property
    def count(self):
        return len(self.readers)

    cdef Reader follow(self, object owner, object transport, bytes path, object query):
        """Begin to answer with events; None if the application has to."""
        cdef Reader reader
        cdef Event event = Event()
        cdef bytes offset
        cdef Feed feed
        cdef Shown shown
        if self.service.is_draining or query.live != "sse" or not query.offset.isascii():
            return None
        offset = query.offset.encode("ascii")
        shown = self.path.read(path, len(path), offset, len(offset), self.event_size)
        if shown is None:
            return None
        feed = self.feed(path, shown.incarnation, shown.content_type)
        if feed is None or not encode(event, shown, feed.content_type, feed.is_text):
            return None
        reader = Reader.__new__(Reader)
        reader.owner, reader.transport, reader.feeds = owner, transport, self
        reader.path, reader.incarnation = feed.path, feed.incarnation
        reader.content_type = shown.content_type
        reader.position = event.tail
        reader.cursor = int(
            generate_response_cursor(query.cursor, self.service.config.cursor_options)
        )
        reader.since = self.now = self.loop.time()
        reader.deadline = reader.since + self.max_age
        head = self.answers.events(uses_base64(feed.content_type))
        transport.write(head + event.chunk(reader.cursor))
        if event.is_closed:
            transport.write(LAST_CHUNK)
            return reader           # without a feed: it has ended
        feed.add(reader)
        return reader

    cdef Feed feed(self, bytes path, uint64_t incarnation, bytes content_type):
        """The one of a stream; None while readers of an older one at its path are leaving."""
        cdef Feed feed = self.by_path.get(path)
        if feed is None:
            feed = Feed.__new__(Feed)
            feed.feeds, feed.path, feed.incarnation = self, path, incarnation
            feed.content_type = content_type.decode("latin-1")
            feed.is_text = is_text(feed.content_type)
            feed.readers, feed.events = [], {}
        elif feed.incarnation != incarnation or feed.cancelled:
            return None
        return feed

    cdef uint64_t cursor(self) except? 0:
        return int(calculate_cursor(self.service.config.cursor_options))

    # -- the clock ------------------------------------------------------------------------

    cdef int register(self, Reader reader) except -1:
        reader.place = len(self.readers)
        self.readers.append(reader)
        self.service.readers.add(reader)
        if self.timer is None:
            self.timer = self.loop.call_later(self.tick, self.watch)
        return 0

    cdef int forget(self, Reader reader) except -1:
        cdef Reader last = self.readers.pop()
        if last is not reader:
            self.readers[reader.place] = last
            last.place = reader.place
        self.service.readers.discard(reader)
        return 0

    def watch(self):
        """Look at some readers: all of them, once in ``period`` seconds."""
        cdef Py_ssize_t looks, writes = 0
        cdef Reader reader
        self.timer = None
        self.now = self.loop.time()
        looks = min(len(self.readers), 64 + int(len(self.readers) * self.tick / self.period))
        while looks > 0 and writes < TICK_WRITES_MAX and len(self.readers) > 0:
            if self.at >= len(self.readers):
                self.at = 0
            reader = self.readers[self.at]
            self.at += 1
            looks -= 1
            writes += reader.check(self.now)
        if self.timer is None and len(self.readers) > 0:
            self.timer = self.loop.call_later(self.tick, self.watch)

    def close(self):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@cython.final
@cython.boundscheck(True)
cdef class Feed:
    # -- from the store -------------------------------------------------------------------

    def fire(self):
        """There is news. From any thread, under the store's lock."""
        self.is_news = True
        self.is_parked = False
        with suppress(RuntimeError):        # the loop was closed: nobody waits any more
            self.schedule()

    cdef int schedule(self) except -1:
        if self.is_scheduled:
            return 0
        self.is_scheduled = True
        if get_ident() == self.feeds.thread:
            self.feeds.loop.call_soon(self.step)
        else:
            self.feeds.loop.call_soon_threadsafe(self.step)
        return 0

    # -- readers --------------------------------------------------------------------------

    cdef int add(self, Reader reader) except -1:
        if len(self.readers) == 0:
            self.feeds.by_path[self.path] = self
        reader.feed = self
        reader.index = len(self.readers)
        self.readers.append(reader)
        self.feeds.register(reader)
        if not self.is_parked:
            self.is_news = True
            self.schedule()
        return 0

    cdef int remove(self, Reader reader) except -1:
        cdef Reader last = self.readers.pop()
        if last is not reader:
            self.readers[reader.index] = last
            last.index = reader.index
        self.left = len(self.readers)       # who took its place may have been passed by
        self.feeds.forget(reader)
        reader.feed = None
        if self.left == 0:
            del self.feeds.by_path[self.path]
            self.feeds.path.unpark(self.path, self)
            self.is_parked = False
        return 0

    def step(self):
        """Write to some of those who are behind."""
        self.is_scheduled = False
        if self.cancelled:
            for reader in list(self.readers):
                (<Reader>reader).finish()
            return
        if self.is_news:
            self.is_news = False
            self.left = len(self.readers)
        self.feeds.now = self.feeds.loop.time()
        self.cursor = self.feeds.cursor()
        self.go_round()
        if len(self.readers) == 0:
            return
        if self.left > 0:
            self.schedule()
        else:
            self.rest()

    cdef int go_round(self) except -1:
        cdef Reader reader
        cdef int writes = 0
        while self.left > 0 and writes < STEP_WRITES_MAX:
            if self.at >= len(self.readers):
                self.at = 0
            reader = self.readers[self.at]
            self.at += 1
            self.left -= 1
            if not reader.is_full:
                writes += self.serve(reader)
        return 0

    cdef int rest(self) except -1:
        """Park until there is news; if there is some by now, go round again."""
        cdef Shown shown = self.feeds.path.park(self.path, self.incarnation, self)
        if shown is None:                   # gone: the application tells each why
            for reader in list(self.readers):
                (<Reader>reader).fall_behind()
            return 0
        self.is_parked = True
        if shown.tail != self.seen_tail or shown.is_closed != self.seen_closed:
            self.seen_tail, self.seen_closed = shown.tail, shown.is_closed
            self.is_news = True
            self.schedule()
        return 0

    # -- events ---------------------------------------------------------------------------

    cdef Event event_at(self, uint64_t position):
        """What follows a position; None if it is not for here."""
        cdef uint64_t visible = self.feeds.path.visible_lsn()
        cdef Event event
        cdef Shown shown
        if visible != self.events_lsn:
            self.events_lsn = visible
            self.events.clear()
        event = self.events.get(position)
        if event is not None:
            return event
        shown = self.feeds.path.follow(
            self.path, self.incarnation, position, self.feeds.event_size
        )
        if shown is None:
            return None
        self.seen_tail, self.seen_closed = shown.tail, shown.is_closed
        event = Event.__new__(Event)
        if not encode(event, shown, self.content_type, self.is_text):
            return None
        self.events[position] = event
        return event

    cdef bint serve(self, Reader reader) except -1:
        """Tell a reader what it does not know; whether there was anything."""
        cdef Event event = self.event_at(reader.position)
        if event is None:
            reader.fall_behind()
            return True
        if not event.is_news:
            return False
        reader.cursor = max(reader.cursor, self.cursor)
        reader.position = event.tail
        reader.since = self.feeds.now
        reader.transport.write(event.chunk(reader.cursor))
        if event.is_closed:
            reader.finish()
        return True


cdef bint encode(Event event, Shown shown, str content_type, bint text) except -1:
    """Make an event of a range; False if it ends inside a character."""
    cdef bytes data = b"".join(shown.buffers)
    if text and not shown.is_closed and ends_inside_character(data):
        return False
    event.tail, event.is_closed = shown.tail, shown.is_closed
    event.is_news = shown.is_closed or PyBytes_GET_SIZE(data) > 0
    event.data = encode_data_event(content_type, data) if PyBytes_GET_SIZE(data) > 0 else b""
    return True


@cython.final
cdef class Reader:
    def end(self):
        """The server is about to stop."""
        self.finish()

    cdef int leave(self) except -1:
        cdef Feed feed = self.feed          # held: it may end with its last reader
        if feed is not None:
            feed.remove(self)
        return 0

    cdef int finish(self) except -1:
        """End the answer; the connection goes on to the next request."""
        self.leave()
        owner, self.owner = self.owner, None
        if owner is not None and not self.transport.is_closing():
            self.transport.write(LAST_CHUNK)
            owner.events_ended()
        return 0

    cdef int lose(self) except -1:
        """The connection is lost."""
        self.leave()
        self.owner = None
        if self.outlet is not None:
            self.outlet.lose()
        return 0

    cdef int set_full(self, bint is_full) except -1:
        """Whether the client takes what was written."""
        cdef Feed feed = self.feed
        self.is_full = is_full
        if self.outlet is not None:
            self.outlet.set_full(is_full)
        elif feed is not None and not is_full:
            self.feeds.now = self.feeds.loop.time()
            feed.cursor = self.feeds.cursor()
            feed.serve(self)
        return 0

    cdef bint check(self, double now) except -1:
        """Say that the connection lives, or end it when it is old; whether that wrote."""
        cdef Feed feed = self.feed
        cdef Event last
        if self.is_full:
            return False
        if now >= self.deadline:
            feed.cursor = self.feeds.cursor()
            if not feed.serve(self):        # a last control event, fresh cursor
                last = Event.__new__(Event)
                last.tail, last.data = self.position, b""
                self.transport.write(last.chunk(max(self.cursor, feed.cursor)))
            if self.feed is not None:
                self.finish()
            return True
        if now - self.since < self.feeds.heartbeat:
            return False
        self.since = now
        self.transport.write(HEARTBEAT_CHUNK)
        return True

    # -- behind ---------------------------------------------------------------------------

    cdef int fall_behind(self) except -1:
        """Have a task send what is missed."""
        self.leave()
        self.outlet = Outlet(self.transport, self.is_full)
        task = self.feeds.loop.create_task(
            send_backlog(
                self.feeds.service, self.outlet, self.path.decode("ascii"), self.incarnation,
                format_offset(self.position), str(self.cursor), self.deadline,
            )
        )
        self.feeds.state.tasks.add(task)
        task.add_done_callback(self.backlog_sent)
        return 0

    def backlog_sent(self, task):
        cdef Feed feed
        self.feeds.state.tasks.discard(task)
        self.outlet = None
        if self.owner is None:
            return
        if task.cancelled() or task.exception() is not None:
            self.transport.close()
            return
        reached = task.result()
        if reached is None or self.feeds.service.is_draining:
            self.finish()
            return
        offset, cursor = reached
        self.position, self.cursor = int(offset.partition("_")[2]), int(cursor)
        self.since = self.feeds.loop.time()
        feed = self.feeds.feed(self.path, self.incarnation, self.content_type)
        if feed is None:
            self.finish()
        else:
            feed.add(self)
