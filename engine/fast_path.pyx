"""Appends and reads for a front end on an event loop, without a Python object per rule.

Serves what needs none: data alone, for a stream that is in memory, open, and without a time to
end or retention; a range up to the tail, of bytes that are in memory. Whatever else comes it
leaves to the store, changing nothing, so that every refusal has one origin. It runs on the
loop's thread and never waits for a disk (I9); the answer to an append has to wait until
``visible_lsn`` reached the LSN returned (I1, I4), a read shows what is visible only.
"""
cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.string cimport memcmp, memcpy

from .._native.errors import LogFailed, LogFull, RecordTooLarge, TailMoved
from ..protocol.errors import StreamError
from ..protocol.json_body import is_json_text
from ..protocol.payload import Payload, payload_or_refusal
from .body import INLINE_SIZE_MAX as _INLINE_SIZE_MAX
from .entry cimport Binding
from .plain_append cimport log_plain_append

cdef enum:
    OFFSET_SIZE = 33                # bytes: sixteen zeroes, "_", sixteen digits
    OFFSET_NONE = -1
    OFFSET_NOW = -2
    OFFSET_START = -3

cdef Py_ssize_t INLINE_SIZE_MAX = _INLINE_SIZE_MAX
cdef tuple REFUSALS = (LogFailed, LogFull, RecordTooLarge, StreamError)


@cython.final
@cython.freelist(64)
cdef class Shown:
    pass


@cython.final
cdef class FastPath:
    def __init__(self, engine):
        self.engine = engine
        self.operations = engine.operations
        self.bindings = engine.catalog.bindings
        self.lock = engine.lock
        self.clock = None if engine.tells_disk_time else engine.now
        self.log = engine.log
        self.projection = engine.projection
        self.depth_max = engine.limits.json_depth_max
        self.pinned_size_max = engine.options.pinned_size_max

    def try_append(self, bytes path not None, bytes content_type not None, bytes body not None):
        cdef uint64_t tail = 0
        cdef uint64_t lsn = self.append(
            PyBytes_AS_STRING(path), PyBytes_GET_SIZE(path),
            PyBytes_AS_STRING(content_type), PyBytes_GET_SIZE(content_type),
            PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), &tail,
        )
        return (lsn, tail) if lsn else None

    cdef uint64_t visible_lsn(self) noexcept:
        return self.projection.visible_lsn

    cdef uint64_t append(
        self,
        const char *path,
        Py_ssize_t path_size,
        const char *content_type,
        Py_ssize_t content_type_size,
        const char *body,
        Py_ssize_t body_size,
        uint64_t *tail,
    ) except? 0:
        cdef Entry entry
        cdef uint64_t lsn
        cdef str name = PyUnicode_DecodeASCII(path, path_size, NULL)
        with self.lock:
            entry = self.plain_entry(name, content_type, content_type_size)
            if entry is None:
                return 0
            try:
                if entry.is_json:
                    lsn = self.append_json(entry, body, body_size)
                else:
                    lsn = self.log_append(entry, body, body_size, None)
            except REFUSALS:
                return 0            # the store says it in full
            tail[0] = entry.reserved_position.tail
            return lsn

    cdef Entry plain_entry(self, str path, const char *content_type, Py_ssize_t size):
        """The stream, if nothing of it or of the store stands against an append of this type."""
        if not self.engine.is_usable:
            return None
        if self.operations.write_refusal is not None:
            return None
        if self.operations.growth_refusal is not None:
            return None
        cdef Binding binding = self.bindings.get(path)
        if binding is None:
            return None
        cdef Entry entry = binding.reserved
        if entry is None or not entry.takes_appends or entry.quarantine is not None:
            return None
        if size != PyBytes_GET_SIZE(entry.content_type):
            return None
        if memcmp(content_type, PyBytes_AS_STRING(entry.content_type), size) != 0:
            return None
        binding.used = True
        return entry

    # -- reading --------------------------------------------------------------------------

    def try_read(self, bytes path not None, bytes offset=b"", uint64_t size_max=4194304):
        return self.read(
            PyBytes_AS_STRING(path), PyBytes_GET_SIZE(path),
            PyBytes_AS_STRING(offset), PyBytes_GET_SIZE(offset), size_max,
        )

    def try_look(self, bytes path not None):
        return self.look(PyBytes_AS_STRING(path), PyBytes_GET_SIZE(path))

    cdef Shown look(self, const char *path, Py_ssize_t path_size):
        cdef str name = PyUnicode_DecodeASCII(path, path_size, NULL)
        with self.lock:
            entry = self.shown_entry(name)
            if entry is None or entry.visible_base.retention is not None:
                return None
            return shown(entry)

    cdef Shown read(
        self,
        const char *path,
        Py_ssize_t path_size,
        const char *offset,
        Py_ssize_t offset_size,
        uint64_t size_max,
    ):
        cdef Shown found
        cdef Entry entry
        cdef int64_t start = parse_offset(offset, offset_size)
        cdef str name = PyUnicode_DecodeASCII(path, path_size, NULL)
        if start == OFFSET_NONE:
            return None
        with self.lock:
            entry = self.shown_entry(name)
            if entry is None:
                return None
            found = shown(entry)
            if start == OFFSET_START:
                found.start = entry.earliest
            elif start == OFFSET_NOW:
                found.start = found.tail
            elif entry.earliest <= <uint64_t>start <= found.tail:
                found.start = <uint64_t>start
                if found.start != found.tail and not entry.is_boundary(found.start):
                    return None
            else:
                return None
            if found.tail - found.start > size_max:
                return None
        # Without the lock: bytes never change, and that they moved shows.
        found.buffers = self.pieces(entry, found.start, found.tail)
        return found if found.buffers is not None else None

    cdef Entry shown_entry(self, str path):
        """The stream, if all that readers are shown of it lies under its own id."""
        cdef Binding binding = self.bindings.get(path)
        if binding is None or not self.engine.is_usable or self.engine.lost is not None:
            return None
        cdef Entry entry = binding.visible
        if entry is None or not entry.shows_plainly or entry.quarantine is not None:
            return None
        binding.used = entry.used = True
        return entry

    cdef list pieces(self, Entry entry, uint64_t start, uint64_t end):
        """The bytes [start, end), or None if one of them may need the disk."""
        cdef list buffers = []
        cdef tuple extent
        cdef uint64_t stop
        if end > entry.tail.start and self.log.pinned_size > self.pinned_size_max:
            return None
        while start < end:
            if start >= entry.tail.start:
                try:
                    buffers += entry.tail.read(start, end)
                except TailMoved:
                    return None
                return buffers
            extent = entry.extent_at(start)
            segment = None if extent is None else self.engine.by_number.get(extent[2])
            if segment is None:
                return None
            stop = min(end, <uint64_t>extent[1])
            try:
                piece = segment.read_resident(extent[3], start, stop)
            except ValueError:
                return None         # closed meanwhile
            if piece is None:
                return None
            buffers.append(piece)
            start = stop
        return buffers

    # -- following ------------------------------------------------------------------------

    cdef Shown follow(
        self, bytes path, uint64_t incarnation, uint64_t start, uint64_t size_max
    ):
        cdef Shown found
        cdef Entry entry
        with self.lock:
            entry = self.shown_entry(path.decode("ascii"))
            if entry is None or entry.stream_id != incarnation:
                return None
            found = shown(entry)
            if not entry.earliest <= start <= found.tail or found.tail - start > size_max:
                return None
            found.start = start
        found.buffers = self.pieces(entry, start, found.tail)
        return found if found.buffers is not None else None

    cdef Shown park(self, bytes path, uint64_t incarnation, object waiter):
        cdef Entry entry
        with self.lock:
            entry = self.shown_entry(path.decode("ascii"))
            if entry is None or entry.stream_id != incarnation:
                return None
            entry.park(waiter)
            self.engine.parked.add(waiter)
            return shown(entry)

    cdef int unpark(self, bytes path, object waiter) except -1:
        cdef Binding binding
        with self.lock:
            self.engine.parked.discard(waiter)
            binding = self.bindings.get(path.decode("ascii"))
            if binding is not None and binding.visible is not None:
                binding.visible.unpark(waiter)
        return 0

    # -- logging --------------------------------------------------------------------------

    cdef uint64_t log_append(
        self, Entry entry, const void *data, uint64_t size, object sizes
    ) except? 0:
        return log_plain_append(
            self.log, self.projection, entry, data, size, sizes, self.now_ms()
        )

    cdef int64_t now_ms(self) except? -1:
        if self.clock is not None:
            return self.clock()
        return self.log.disk.ops.wall_ms(self.log.disk.context)

    cdef uint64_t append_json(self, Entry entry, const char *body, Py_ssize_t size) except? 0:
        """As ``payload.prepare_payload``; one value alone, the usual case, without its objects."""
        cdef bytes wire
        if size > INLINE_SIZE_MAX:
            return 0                # a worker's
        if may_be_one_value(body, size, self.depth_max):
            wire = PyBytes_FromStringAndSize(NULL, size + 1)
            memcpy(PyBytes_AS_STRING(wire), body, size)
            PyBytes_AS_STRING(wire)[size] = c","
            if not is_ascii(body, size):
                try:
                    PyUnicode_DecodeUTF8(body, size, NULL)
                except UnicodeDecodeError:
                    return 0
            if not is_json_text(PyMemoryView_FromMemory(<char *>body, size, PyBUF_READ)):
                return 0
            return self.log_append(entry, PyBytes_AS_STRING(wire), size + 1, None)
        payload = payload_or_refusal(
            entry.origin.content_type, body[:size], depth_max=self.depth_max
        )
        if not isinstance(payload, Payload):
            return 0
        wire = payload.data
        return self.log_append(
            entry, PyBytes_AS_STRING(wire), PyBytes_GET_SIZE(wire), payload.message_sizes
        )


cdef Shown shown(Entry entry):
    cdef Shown found = Shown.__new__(Shown)
    found.start = found.tail = entry.visible_position.tail
    found.incarnation = entry.stream_id
    found.is_closed, found.is_json = entry.is_closed, entry.is_json
    found.content_type = entry.content_type
    return found


cdef int64_t parse_offset(const char *offset, Py_ssize_t size) noexcept nogil:
    """As ``protocol.offset.parse_offset``; OFFSET_NONE for what that refuses."""
    cdef int64_t position = 0
    cdef Py_ssize_t i
    if size == 0 or (size == 2 and memcmp(offset, b"-1", 2) == 0):
        return OFFSET_START
    if size == 3 and memcmp(offset, b"now", 3) == 0:
        return OFFSET_NOW
    if size != OFFSET_SIZE or memcmp(offset, b"0000000000000000_", 17) != 0:
        return OFFSET_NONE
    for i in range(17, OFFSET_SIZE):
        if not c"0" <= offset[i] <= c"9":
            return OFFSET_NONE
        position = 10 * position + (offset[i] - c"0")
    return position


cdef bint may_be_one_value(const char *body, Py_ssize_t size, int depth_max) noexcept nogil:
    """Whether it is no array, without white space around it, and surely not too deep."""
    cdef int brackets = 0
    cdef Py_ssize_t i
    if is_white(body[0]) or is_white(body[size - 1]) or body[0] == c"[":
        return False
    for i in range(size):
        brackets += body[i] == c"[" or body[i] == c"{"
    return brackets <= depth_max


cdef inline bint is_white(char byte) noexcept nogil:
    return byte == c" " or byte == c"\t" or byte == c"\r" or byte == c"\n"


cdef bint is_ascii(const char *text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    cdef unsigned char seen = 0
    for i in range(size):
        seen |= <unsigned char>text[i]
    return seen < 0x80
