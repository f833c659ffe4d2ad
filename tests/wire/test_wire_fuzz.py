"""Any bytes, in any pieces: each answer is well-formed, none is a 500, pieces do not matter.

tests/corpus/http holds what found a bug, and the shapes that parsers have fallen for, as raw bytes.
"""

from __future__ import annotations

import re
import socket
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fuzzing import examples
from support.wire import Connection, request_bytes

CORPUS = sorted((Path(__file__).parent.parent / "corpus" / "http").glob("*.bin"))
QUIET = 0.05  # seconds without a byte: the server waits for more
STREAM = "/v1/stream/fuzz/there"
MISSING = "/v1/stream/fuzz/missing"
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]*")

# -- what is sent --------------------------------------------------------------------------

methods = st.sampled_from(
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"PRI", b"get"]
)
targets = st.sampled_from(
    [
        STREAM.encode(), MISSING.encode(), b"/", b"*", b"/v1/stream/", b"//v1/stream/x",
        STREAM.encode() + b"?offset=-1", STREAM.encode() + b"?offset=now&live=nothing",
        b"/v1/stream/%ff%00", b"/v1/stream/a/../../..", b"http://[::1/v1/stream/x",
        b"/v1/stream/__ds/subscriptions/x", b"h:1", b"/v1/stream/\xff", b"/" + b"a" * 9000,
    ]
) | st.binary(min_size=1, max_size=20)  # fmt: skip
names = st.sampled_from(
    [
        b"Content-Type", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade",
        b"Expect", b"Host", b"Stream-TTL", b"Stream-Closed", b"Stream-Seq", b"Producer-Id",
        b"Producer-Epoch", b"Producer-Seq", b"Stream-Forked-From", b"Stream-Fork-Offset",
        b"If-None-Match", b"Origin", b"Trailer", b"X-Y",
    ]
) | st.binary(max_size=8)  # fmt: skip
field_values = st.sampled_from(
    [
        b"text/plain", b"application/json", b"0", b"1", b"5", b"-1", b"+5", b"5, 5", b"0x5",
        b"99999999999999999999", b"chunked", b"gzip, chunked", b"close", b"keep-alive, upgrade",
        b"h2c", b"websocket", b"100-continue", b"true", b"*", b'"a", W/"b"', b"\xe9", b"\xff\xfe",
        STREAM.encode(), b"a" * 9000,
    ]
) | st.binary(max_size=12)  # fmt: skip
bodies = st.sampled_from(
    [
        b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n",
        b"5\r\nhelloX", b"-5\r\nhello", b"fffffffffffffffff\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
        b"\r\n\r\n", b"\n\n",
    ]
) | st.binary(max_size=20)  # fmt: skip


@st.composite
def heads(draw):
    fields = [(b"Host", b"h")] if draw(st.integers(0, 9)) else []
    fields += draw(st.lists(st.tuples(names, field_values), max_size=4))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/2.0", b"HTP", b""]))
    line = b"%b %b %b\r\n" % (draw(methods), draw(targets), version)
    return line + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"


noise = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=3)))


@st.composite
def conversations(draw):
    """Requests one behind the other, then bytes lost, changed and put in."""
    raw = b"".join(draw(heads()) + draw(bodies) for _ in range(draw(st.integers(1, 3))))
    for position, removed, added in draw(noise)[: draw(st.sampled_from([0, 0, 1, 3]))]:
        at = position % (len(raw) + 1)
        raw = raw[:at] + added + raw[at + removed :]
    return raw


cuts = st.lists(st.integers(0, 10_000), max_size=5)


def pieces(raw, positions):
    ends = sorted({position % (len(raw) + 1) for position in positions} | {0, len(raw)})
    return [raw[start:end] for start, end in pairwise(ends)]


# -- what is answered ----------------------------------------------------------------------


def exchange(port, parts):
    """Send the parts, and all bytes that come until the end, or until it is quiet."""
    with Connection(port) as connection:
        try:
            for part in parts:
                connection.send(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had heard enough
        connection.socket.settimeout(QUIET)
        received = b""
        try:
            while data := connection.socket.recv(65536):
                received += data
        except (TimeoutError, ConnectionResetError, socket.timeout):  # noqa: UP041
            pass
        return received


def answers(received):
    """Statuses of well-formed answers; those to HEAD are judged by their length being absent."""
    found = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, head
        line, *fields = head.split(b"\r\n")
        status = STATUS_LINE.fullmatch(line)
        assert status, line
        found.append(int(status[1]))
        if found[-1] == 100:
            continue
        headers = dict(field.lower().split(b": ", 1) for field in fields)
        assert headers[b"x-content-type-options"] == b"nosniff", head
        size = int(headers.get(b"content-length", 0))
        if not received.startswith(b"HTTP/1.1 ") and size:
            assert len(received) >= size or found[-1] == 200, head
            received = received[size:]
    return found


@pytest.fixture(scope="module")
def fuzz_server(server):
    store = server.store
    store.create(STREAM, content_type="text/plain", initial_data=b"HTTP")
    yield server
    store.delete(STREAM)


def refusals_alike(statuses):
    """A method that nobody knows is refused as soon as that is clear: its end may not be there."""
    return [400 if status == 405 else status for status in statuses]


def judge(server, caplog, raw, positions=()):
    """Whole and in pieces: the same answers, and nothing went wrong inside."""
    caplog.clear()
    whole = answers(exchange(server.port, [raw]))
    assert all(status < 500 or status in (501, 505) for status in whole), whole
    if positions:
        found = answers(exchange(server.port, pieces(raw, positions)))
        assert refusals_alike(found) == refusals_alike(whole)
    assert not caplog.records, caplog.records


@examples(60)
@given(raw=conversations(), positions=cuts)
def test_any_conversation_in_any_pieces(fuzz_server, caplog, raw, positions):
    judge(fuzz_server, caplog, raw, positions)


@examples(60)
@given(raw=st.binary(max_size=200))
def test_any_bytes_at_all(fuzz_server, caplog, raw):
    judge(fuzz_server, caplog, raw)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_found_once(fuzz_server, caplog, path):
    judge(fuzz_server, caplog, path.read_bytes(), [1, 7, 40, 41, 200])


# -- pipelining ----------------------------------------------------------------------------

POLITE = [
    request_bytes("GET", STREAM),
    request_bytes("GET", STREAM + "?offset=now"),
    request_bytes("GET", STREAM + "?offset=bad"),
    request_bytes("GET", MISSING),
    request_bytes("HEAD", STREAM),
    request_bytes("HEAD", MISSING),
    request_bytes("OPTIONS", STREAM, origin="http://o.test"),
    request_bytes("POST", MISSING, b"data", content_type="text/plain"),
    request_bytes("POST", STREAM, b"data", content_type="text/html"),
    request_bytes("POST", STREAM, b"data", content_type="text/plain", producer_id="alone"),
    request_bytes("PUT", STREAM, b"", content_type="text/plain"),
    request_bytes("PUT", STREAM, b"data", stream_ttl="-1"),
    request_bytes("DELETE", MISSING),
    request_bytes("PATCH", STREAM),
]


def polite_answers(port, requests, positions=()):
    with Connection(port) as connection:
        for part in pieces(b"".join(requests), positions):
            connection.send(part)
        found = [connection.answer(head_only=raw.startswith(b"HEAD")) for raw in requests]
    return [(a.status, [h for h in a.headers if h[0] != "date"], a.body) for a in found]


@examples(60)
@given(
    requests=st.lists(st.sampled_from(POLITE), min_size=2, max_size=12),
    positions=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_pipelined_requests_are_answered_as_one_at_a_time(fuzz_server, requests, positions):
    alone = [polite_answers(fuzz_server.port, [raw])[0] for raw in requests]
    assert polite_answers(fuzz_server.port, requests, positions) == alone
