"""Find the parts of a hot request's head in one pass, or leave it to the HTTP parser.

Known are POST, GET and HEAD in HTTP/1.1 as clients send them: a plain path, a body with a length,
and no header that changes how the request is to be read, or that a rule looks at and the hot path
does not know. Whatever else comes, well-formed or not, is SCAN_UNKNOWN: it is httptools' to parse
and the application's to answer. So this accepts a subset, and must never accept anything that
httptools reads in another way (tests/unit/test_scanner.py, tests/wire/test_wire_fronts.py).
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memset

cdef extern from *:
    """
    /* Bit 0: may be in a header's name (a token). Bit 1: in a path. Bit 2: in a query.
       Bit 3: in a header's value. */
    static const unsigned char scanner_class[256] = {
        ['\\t'] = 8, [' '] = 8, ['"'] = 8, ['#'] = 9, ['<'] = 8, ['>'] = 8, ['?'] = 12,
        ['['] = 8, ['\\\\'] = 8, [']'] = 8, ['^'] = 9, ['`'] = 9, ['{'] = 8, ['|'] = 9, ['}'] = 8,
        ['!'] = 15, ['$'] = 15, ['%'] = 15, ['&'] = 15, ['\\''] = 15, ['('] = 14, [')'] = 14,
        ['*'] = 15, ['+'] = 15, [','] = 14, ['-'] = 15, ['.'] = 15, ['/'] = 14,
        ['0' ... '9'] = 15, [':'] = 14, [';'] = 14, ['='] = 14, ['@'] = 14,
        ['A' ... 'Z'] = 15, ['_'] = 15, ['a' ... 'z'] = 15, ['~'] = 15,
        [0x80 ... 0xff] = 8,
    };
    """
    const unsigned char scanner_class[256]

cdef enum:
    NAME_CLASS = 1
    PATH_CLASS = 2
    QUERY_CLASS = 4
    VALUE_CLASS = 8
    LENGTH_DIGITS_MAX = 15


def scan(bytes data not None):
    cdef Head head
    cdef Py_ssize_t size = scan_head(data, len(data), &head)
    if size == SCAN_UNKNOWN:
        return None
    if size == SCAN_MORE:
        return 0
    method = {METHOD_POST: b"POST", METHOD_GET: b"GET", METHOD_HEAD: b"HEAD"}[head.method]
    return (
        size, method, bytes_of(head.path), bytes_of(head.query), bytes_of(head.content_type),
        bytes_of(head.if_none_match), head.content_length if head.has_length else None,
        head.has_origin,
    )


cdef object bytes_of(Slice part):
    return None if part.data == NULL else <bytes>part.data[:part.size]


cdef Py_ssize_t scan_head(const char *data, size_t size, Head *head) noexcept nogil:
    cdef const char *at = data
    cdef const char *end = data + size
    cdef bint has_host = False
    cdef Py_ssize_t code
    memset(head, 0, sizeof(Head))
    code = scan_line(&at, end, head)
    if code <= 0:
        return code
    while True:
        if end - at < 2:
            return SCAN_MORE
        if at[0] == c"\r":
            if at[1] != c"\n" or not has_host:
                return SCAN_UNKNOWN
            return at + 2 - data
        code = scan_header(&at, end, head, &has_host)
        if code <= 0:
            return code


cdef Py_ssize_t scan_line(const char **at, const char *end, Head *head) noexcept nogil:
    """The request line; 1 if it is a known one."""
    cdef const char *p = at[0]
    if begins(p, end, b"POST ", 5):
        head.method, p = METHOD_POST, p + 5
    elif begins(p, end, b"GET ", 4):
        head.method, p = METHOD_GET, p + 4
    elif begins(p, end, b"HEAD ", 5):
        head.method, p = METHOD_HEAD, p + 5
    else:
        return SCAN_UNKNOWN
    if p >= end:
        return SCAN_MORE
    head.path.data = p
    while p < end and scanner_class[<unsigned char>p[0]] & PATH_CLASS:
        p += 1
    head.path.size = p - head.path.data
    if p < end and p[0] == c"?":
        p += 1
        head.query.data = p
        while p < end and scanner_class[<unsigned char>p[0]] & QUERY_CLASS:
            p += 1
        head.query.size = p - head.query.data
    if head.path.data[0] != c"/" or not begins(p, end, b" HTTP/1.1\r\n", 11):
        return SCAN_UNKNOWN
    if end - p < 11:
        return SCAN_MORE
    at[0] = p + 11
    return 1


cdef inline bint begins(
    const char *p, const char *end, const char *wanted, size_t size
) noexcept nogil:
    """Whether the bytes are ``wanted``, as far as they are there."""
    return memcmp(p, wanted, min(<size_t>(end - p), size)) == 0


cdef Py_ssize_t scan_header(
    const char **at, const char *end, Head *head, bint *has_host
) noexcept nogil:
    """One header with its line's end; 1 if nothing about it is unusual."""
    cdef Slice name, value
    cdef const char *p = at[0]
    name.data = p
    while p < end and scanner_class[<unsigned char>p[0]] & NAME_CLASS:
        p += 1
    name.size = p - name.data
    if p == end:
        return SCAN_MORE
    if p[0] != c":" or name.size == 0:
        return SCAN_UNKNOWN
    p += 1
    while p < end and (p[0] == c" " or p[0] == c"\t"):
        p += 1
    value.data = p
    while p < end and scanner_class[<unsigned char>p[0]] & VALUE_CLASS:
        p += 1
    if not begins(p, end, b"\r\n", 2):
        return SCAN_UNKNOWN
    if end - p < 2:
        return SCAN_MORE
    at[0] = p + 2
    while p > value.data and ((p - 1)[0] == c" " or (p - 1)[0] == c"\t"):
        p -= 1
    value.size = p - value.data
    return 1 if note_header(name, value, head, has_host) else SCAN_UNKNOWN


cdef bint note_header(Slice name, Slice value, Head *head, bint *has_host) noexcept nogil:
    """Keep what the hot path needs; False for a header that it does not know how to heed."""
    if name.size == 2 and is_name(name, b"te"):
        return True
    if name.size == 4 and is_name(name, b"host"):
        if has_host[0]:
            return False
        has_host[0] = True
    elif name.size == 6 and is_name(name, b"origin"):
        head.has_origin = True
    elif name.size == 10 and is_name(name, b"connection"):
        return value.size == 10 and is_name(value, b"keep-alive")
    elif name.size == 12 and is_name(name, b"content-type"):
        return keep_once(&head.content_type, value)
    elif name.size == 13 and is_name(name, b"if-none-match"):
        return keep_once(&head.if_none_match, value)
    elif name.size == 14 and is_name(name, b"content-length"):
        return keep_length(value, head)
    return not is_heeded(name)


cdef inline bint is_heeded(Slice name) noexcept nogil:
    """Whether the parser, the server or a rule of the protocol looks at a header."""
    if name.size == 6 and is_name(name, b"expect"):
        return True
    if name.size == 7 and (is_name(name, b"upgrade") or is_name(name, b"trailer")):
        return True
    if name.size >= 7 and is_name(Slice(name.data, 7), b"stream-"):
        return True
    if name.size >= 9 and is_name(Slice(name.data, 9), b"producer-"):
        return True
    if name.size == 16:
        return is_name(name, b"content-encoding") or is_name(name, b"proxy-connection")
    return name.size == 17 and is_name(name, b"transfer-encoding")


cdef inline bint is_name(Slice name, const char *lower) noexcept nogil:
    """Whether it reads ``lower``, in any case; both have the same size."""
    cdef size_t i
    for i in range(name.size):
        if name.data[i] != lower[i] and (name.data[i] | 0x20) != lower[i]:
            return False
    return True


cdef inline bint keep_once(Slice *kept, Slice value) noexcept nogil:
    if kept.data != NULL:
        return False
    kept[0] = value
    return True


cdef bint keep_length(Slice value, Head *head) noexcept nogil:
    cdef size_t i
    if head.has_length or not 1 <= value.size <= LENGTH_DIGITS_MAX:
        return False
    for i in range(value.size):
        if not c"0" <= value.data[i] <= c"9":
            return False
        head.content_length = 10 * head.content_length + <uint64_t>(value.data[i] - c"0")
    head.has_length = True
    return True
