"""Broken, smuggled and oversized requests: refused with the protocol's headers, without effect."""

from __future__ import annotations

import select

import pytest

from durastream.server.http import make_http_protocol
from durastream.server.http_patience import HttpOptions
from support.wire import Connection, request_bytes, wait_until

HOST = b"Host: x\r\n"
TYPE = b"Content-Type: text/plain\r\n"


def head(line: bytes, *headers: bytes) -> bytes:
    return line + b"\r\n" + b"".join(headers) + b"\r\n"


def post(path: str, *headers: bytes) -> bytes:
    return head(f"POST {path} HTTP/1.1".encode(), HOST, TYPE, *headers)


def check_refusal(answer, status: int) -> None:
    assert answer.status == status, answer
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["cross-origin-resource-policy"] == "cross-origin"
    assert answer["access-control-allow-origin"] == "*"
    assert answer["cache-control"] == "no-store"
    assert answer["content-type"] == "text/plain; charset=utf-8"
    assert answer.body.endswith(b"\n")
    assert "server" not in answer


MALFORMED = {
    "no HTTP at all": b"hello there\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "no path": head(b"GET ?offset=-1 HTTP/1.1", HOST),
    "authority for a target": head(b"GET x.test:80 HTTP/1.1", HOST),
    "no Host": head(b"GET / HTTP/1.1"),
    "two Hosts": head(b"GET / HTTP/1.1", HOST, HOST),
    "no target": head(b"GET  HTTP/1.1", HOST),
    "control byte in target": head(b"GET /a\x01b HTTP/1.1", HOST),
    "raw UTF-8 in target": head("GET /\u00e4 HTTP/1.1".encode(), HOST),
    "blank before colon": head(b"GET / HTTP/1.1", HOST, b"A : b\r\n"),
    "folded header": head(b"GET / HTTP/1.1", HOST, b"A: b\r\n c\r\n"),
    "NUL in header": head(b"GET / HTTP/1.1", HOST, b"A: b\0c\r\n"),
    "chunked in HTTP/1.0": head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked\r\n"),
}

SMUGGLED = {
    "length and chunked": [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"],
    "chunked and length": [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n"],
    "two lengths": [b"Content-Length: 3\r\n", b"Content-Length: 4\r\n"],
    "two equal lengths": [b"Content-Length: 3\r\n", b"Content-Length: 3\r\n"],
    "list of lengths": [b"Content-Length: 3, 3\r\n"],
    "signed length": [b"Content-Length: +3\r\n"],
    "hexadecimal length": [b"Content-Length: 0x3\r\n"],
    "negative length": [b"Content-Length: -3\r\n"],
    "no length": [b"Content-Length: \r\n"],
    "overflowing length": [b"Content-Length: 18446744073709551619\r\n"],
    "two codings": [b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n"],
    "hidden length": [b"Content-Length : 3\r\n", b"Transfer-Encoding: chunked\r\n"],
}


@pytest.mark.parametrize("is_second", [False, True])
@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_400(connect, request_, is_second):
    connection = connect()
    if is_second:
        connection.send(request_bytes("GET", "/"))
        assert connection.answer().status == 404
    connection.send(request_)
    check_refusal(connection.answer(), 400)
    assert connection.is_ended()


@pytest.mark.parametrize("headers", SMUGGLED.values(), ids=SMUGGLED)
def test_an_ambiguous_body_is_400_and_changes_nothing(client, connect, path, headers):
    client.put(path)
    connection = connect()
    connection.send(post(path, *headers) + b"3\r\nabc\r\n0\r\n\r\n")
    check_refusal(connection.answer(), 400)
    assert connection.is_ended()
    assert client("GET", path).body == b""


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "xchunked"])
def test_an_unknown_transfer_coding_is_501(client, connect, path, coding):
    client.put(path)
    connection = connect()
    connection.send(post(path, f"Transfer-Encoding: {coding}\r\n".encode()) + b"0\r\n\r\n")
    check_refusal(connection.answer(), 501)
    assert client("GET", path).body == b""


BROKEN_CHUNKS = {
    "no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "too long": b"2\r\nabc\r\n0\r\n\r\n",
    "overflow": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "broken later": b"3\r\nabc\r\nxyz\r\n",
}


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_a_broken_chunk_is_400_and_changes_nothing(client, connect, server, path, body, split):
    client.put(path)
    connection = connect()
    start = post(path, b"Transfer-Encoding: chunked\r\n")
    if split:
        connection.send(start)
        assert client("GET", path).status == 200  # the handler is waiting for the body now
        connection.send(body)
    else:
        connection.send(start + body)
    check_refusal(connection.answer(), 400)
    assert connection.is_ended()
    assert client("GET", path).body == b""
    wait_until(lambda: not server._serving.server_state.tasks, 1.0)  # no handler waits on


def test_a_broken_body_that_did_not_wait_for_100_continue_is_400(client, connect, path, caplog):
    connection = connect()
    headers = {"expect": "100-continue", "transfer_encoding": "chunked"}
    connection.send(request_bytes("PUT", path, None, **headers) + b"5\r\nhelloX\r\n")
    assert connection.answer().status == 400
    assert connection.is_ended()
    assert client("HEAD", path).status == 404
    assert not caplog.records


def test_garbage_does_not_overtake_the_answers_before_it(client, connect, path):
    client.put(path)
    connection = connect()
    good = request_bytes("POST", path, b"kept", content_type="text/plain")
    connection.send(good + good + b"\x00garbage")
    assert connection.answer().status == 204
    assert connection.answer().status == 204
    check_refusal(connection.answer(), 400)
    assert connection.is_ended()
    assert client("GET", path).body == b"keptkept"


def test_a_broken_pipelined_body_does_not_disturb_the_request_before_it(client, connect, path):
    client.put(path)
    connection = connect()
    good = request_bytes("GET", f"{path}?offset=now&live=long-poll")
    connection.send(good + post(path, b"Transfer-Encoding: chunked\r\n") + b"zz\r\n")
    assert connection.answer().status == 204
    check_refusal(connection.answer(), 400)
    assert client("GET", path).body == b""


@pytest.mark.parametrize("is_second", [False, True])
def test_methods_that_nobody_knows(connect, path, is_second):
    for method in ["FOO", "get", "PATCH", "CONNECT", "PROPFIND", "M-SEARCH", "TRACE"]:
        connection = connect()
        if is_second:
            connection.send(request_bytes("GET", "/"))
            assert connection.answer().status == 404
        connection.send(request_bytes(method, path if method != "CONNECT" else "x.test:80"))
        answer = connection.answer()
        check_refusal(answer, 405)
        assert answer["allow"] == "GET, POST, PUT, DELETE, HEAD, OPTIONS"


def test_a_refused_head_has_no_body(connect):
    connection = connect()
    connection.send(b"HEAD / HTTP/1.1\r\n\r\n")
    assert connection.answer(head_only=True).status == 400
    assert connection.is_ended()


def test_newer_versions_are_505(connect):
    for line in [b"GET / HTTP/2.0"]:
        connection = connect()
        connection.send(head(line, HOST))
        check_refusal(connection.answer(), 505)


@pytest.mark.parametrize("step", [1 << 20, 1000])
def test_headers_above_the_limit_are_431(connect, path, step):
    request = head(f"GET {path} HTTP/1.1".encode(), HOST, b"A: " + b"a" * 80_000 + b"\r\n")
    connection = connect()
    for start in range(0, len(request), step):
        connection.send(request[start : start + step])
    check_refusal(connection.answer(), 431)


def test_a_header_without_end_is_431(connect, path):
    connection = connect()
    connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nA: ".encode())
    for _ in range(80):
        connection.send(b"a" * 1000)
    check_refusal(connection.answer(), 431)


def test_a_refused_client_may_finish_sending_and_read_why(connect):
    """Closing at once would reset the connection under the client's hands."""
    connection = connect()
    connection.send(b"no HTTP\r\n\r\n" + bytes(4 << 20))
    check_refusal(connection.answer(), 400)
    assert connection.is_ended()


def test_many_headers_are_431(connect, path):
    many = b"".join(b"A%d: x\r\n" % i for i in range(10_000))
    connection = connect()
    connection.send(head(f"GET {path} HTTP/1.1".encode(), HOST, many))
    check_refusal(connection.answer(), 431)


@pytest.mark.parametrize("step", [1 << 20, 1000])
def test_a_url_above_the_limit_is_414(connect, step):
    request = head(b"GET /v1/stream/" + b"a" * 80_000 + b" HTTP/1.1", HOST)
    connection = connect()
    for start in range(0, len(request), step):
        connection.send(request[start : start + step])
    check_refusal(connection.answer(), 414)


def test_a_path_above_the_limit_is_414(client):
    check_refusal(client("PUT", "/v1/stream/" + "a" * 5000), 414)


def test_a_body_announced_above_the_limit_is_413_at_once(client, connect, path):
    client.put(path)
    connection = connect()
    connection.send(post(path, b"Content-Length: 300000\r\n"))
    check_refusal(connection.answer(), 413)


def test_an_absurd_length_is_413(client, connect, path):
    client.put(path)
    connection = connect()
    connection.send(post(path, b"Content-Length: 9999999999999999999\r\n"))
    check_refusal(connection.answer(), 413)


def test_a_chunked_body_above_the_limit_is_413(client, connect, path):
    client.put(path)
    connection = connect()
    piece = b"10000\r\n" + bytes(65536) + b"\r\n"
    connection.send(post(path, b"Transfer-Encoding: chunked\r\n") + piece * 5 + b"0\r\n\r\n")
    check_refusal(connection.answer(), 413)
    # The rest was read and dropped, so the connection goes on.
    connection.send(request_bytes("GET", path))
    assert connection.answer().body == b""


def test_a_body_at_the_limit_is_taken(client, path):
    client.put(path)
    client.post(path, bytes(256 * 1024))


def test_a_client_gone_in_mid_request_changes_nothing(client, path, server):
    client.put(path)
    for cut in [10, -3]:
        with Connection(server.port) as connection:
            request = request_bytes("POST", path, b"half", content_type="text/plain")
            connection.send(request[:cut])
    assert client("GET", path).body == b""


def test_options_for_everything(connect):
    for target in ["*", "/", "/v1/stream/x", "/v1/stream/__ds/x"]:
        connection = connect()
        connection.send(request_bytes("OPTIONS", target))
        answer = connection.answer()
        assert answer.status == 204
        assert "If-None-Match" in answer["access-control-allow-headers"]


@pytest.fixture
def impatient(monkeypatch, start_server):
    """A server whose connections wait for little."""

    def make(options: HttpOptions):
        short = HttpOptions(
            base_headers=options.base_headers,
            head_timeout=0.1,
            linger_timeout=0.1,
            stall_timeout=0.1,
        )
        return make_http_protocol(short)

    monkeypatch.setattr("durastream.server.serving.make_http_protocol", make)
    return start_server()


def test_a_head_that_does_not_come_is_408(impatient):
    with Connection(impatient.port) as connection:
        connection.send(b"GET /v1/stre")
        check_refusal(connection.answer(), 408)
        assert connection.is_ended()


def test_a_head_that_comes_byte_by_byte_is_408(impatient):
    with Connection(impatient.port) as connection:
        connection.send(b"GET /")
        for _ in range(250):
            if select.select([connection.socket], [], [], 0.02)[0]:
                break
            connection.send(b"a")
        check_refusal(connection.answer(), 408)


def test_a_connection_without_a_request_is_closed(impatient):
    with Connection(impatient.port) as connection:
        assert connection.is_ended()


def test_a_client_that_reads_nothing_is_cut_off(client, impatient, path):
    client.put(path)
    for _ in range(16):
        client.post(path, bytes(256 * 1024))
    with Connection(impatient.port) as connection:
        for _ in range(4):  # more than the socket buffers hold
            connection.send(request_bytes("GET", path))
        connection.head()  # it was accepted: from now on no connection means a cut one
        wait_until(lambda: not impatient._serving.server_state.connections)
        try:
            taken = connection.rest()
        except ConnectionResetError:  # requests were left unread: the kernel drops the rest, too
            return
        assert len(taken) < 4 * (4 << 20)


def test_more_requests_than_allowed_are_503(client, start_server, path):
    server = start_server(limit_concurrency=1)
    client.put(path)
    with Connection(server.port) as waiting, Connection(server.port) as other:
        waiting.send(request_bytes("GET", f"{path}?offset=-1&live=sse"))
        waiting.head()
        other.send(request_bytes("GET", path))
        answer = other.answer()
        check_refusal(answer, 503)
        assert answer["retry-after"] == "1"
