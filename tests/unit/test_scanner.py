"""The scanner of hot requests: whatever it accepts, httptools reads in the same way."""

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durastream.server.scanner import scan

POST = (
    b"POST /v1/stream/a HTTP/1.1\r\nHost: h:1\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 3\r\nUser-Agent: x\r\n\r\n"
)


class Parsed:
    """What httptools makes of a head."""

    def __init__(self, data):
        self.url, self.headers, self.is_whole = b"", [], False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.headers.append((name.lower(), value))

    def on_headers_complete(self):
        self.is_whole = True

    def one(self, name):
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1
        return values[0].strip(b" \t") if values else None


def check(data):
    """Whether the scanner accepts a head; if so, the library must agree."""
    found = scan(data)
    if not found:
        return False
    size, method, path, query, content_type, if_none_match, length, has_origin = found
    parsed = Parsed(data[:size])
    assert parsed.is_whole
    assert parsed.parser.get_method() == method
    assert parsed.parser.get_http_version() == "1.1"
    assert parsed.parser.should_keep_alive()
    assert not parsed.parser.should_upgrade()
    assert parsed.url == path + (b"" if query is None else b"?" + query)
    url = httptools.parse_url(parsed.url)
    assert (url.path, url.query or b"") == (path, query or b"")
    assert parsed.one(b"content-type") == content_type
    assert parsed.one(b"if-none-match") == if_none_match
    assert parsed.one(b"host") is not None
    announced = parsed.one(b"content-length")
    assert length == (None if announced is None else int(announced))
    assert has_origin == any(name == b"origin" for name, _ in parsed.headers)
    return True


def test_a_head_is_found_with_its_parts():
    assert scan(POST + b"abc") == (
        len(POST), b"POST", b"/v1/stream/a", None, b"text/plain", None, 3, False
    )  # fmt: skip
    get = b'GET /a?offset=-1 HTTP/1.1\r\nHOST:h\r\norigin: o\r\nIF-none-match: \t"x" \r\n\r\n'
    assert scan(get) == (len(get), b"GET", b"/a", b"offset=-1", None, b'"x"', None, True)
    assert check(POST)
    assert check(get)


@pytest.mark.parametrize("size", range(len(POST)))
def test_a_head_that_is_not_whole_waits_for_more(size):
    assert scan(POST[:size]) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"PUT"), (b"POST", b"POS"), (b"POST ", b"POST  "), (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"http/1.1"), (b"/v1", b"v1"), (b"/v1", b"http://h/v1"), (b"/a ", b"/a#b "),
        (b"/a ", b"/\xc3\xa4 "), (b"\r\nHost", b"\nHost"), (b"Host: h:1\r\n", b""),
        (b"Host", b"Host: a\r\nHost"), (b"User-Agent: x", b"User-Agent : x"),
        (b"User-Agent: x", b" folded: x"), (b"User-Agent: x", b"User-Agent: a\x00b"),
        (b"User-Agent: x", b"User-Agent: a\rb"), (b"User-Agent: x", b": x"),
        (b"User-Agent: x", b"Content-Length: 3"), (b"User-Agent: x", b"content-type: a/b"),
        (b"User-Agent: x", b"Transfer-Encoding: chunked"), (b"User-Agent: x", b"Expect: x"),
        (b"User-Agent: x", b"Upgrade: h2c"), (b"User-Agent: x", b"Connection: close"),
        (b"User-Agent: x", b"Connection: keep-alive, x"), (b"User-Agent: x", b"Trailer: a"),
        (b"User-Agent: x", b"Proxy-Connection: close"), (b"User-Agent: x", b"Stream-Seq: 1"),
        (b"User-Agent: x", b"STREAM-CLOSED: true"), (b"User-Agent: x", b"Producer-Id: p"),
        (b"User-Agent: x", b"Content-Encoding: gzip"), (b"Length: 3", b"Length: -3"),
        (b"Length: 3", b"Length: +3"), (b"Length: 3", b"Length: "), (b"Length: 3", b"Length: 3, 3"),
        (b"Length: 3", b"Length: 0x3"), (b"Length: 3", b"Length: 9999999999999999"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_unusual_is_left_to_the_parser(old, new):
    assert POST.count(old) >= 1
    assert scan(POST.replace(old, new, 1)) is None


TOKENS = [
    b"POST ", b"GET ", b"HEAD ", b"/a", b"/", b"?", b"offset=-1", b"%2e", b"%", b" HTTP/1.1",
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b": ", b"Host: h", b"host", b"Content-Length: 1",
    b"Connection: ", b"keep-alive", b"close", b"Content-Type: a", b"Origin: o", b'"x"',
    b"If-None-Match: ", b"TE: trailers", b"Transfer-Encoding: chunked", b"X: ", b"\x00", b"\x7f",
    b"\x80", b"\xff", b"a", b"1", b",", b"(", b"[",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS) | st.binary(max_size=3), max_size=25).map(b"".join))
@example(b"GET /a?b?c=/ HTTP/1.1\r\nHost: h\r\n\r\n")
@example(b"GET //a//b;c=d,(e)@f HTTP/1.1\r\nHost:\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nX: \x80\xff\t x\r\n\r\n")
def test_the_library_reads_the_same(data):
    check(data)


@given(
    position=st.integers(0, len(POST)),
    cut=st.integers(0, 3),
    inserted=st.sampled_from(TOKENS) | st.binary(max_size=2),
)
def test_the_library_reads_the_same_after_a_small_change(position, cut, inserted):
    check(POST[:position] + inserted + POST[position + cut :])
