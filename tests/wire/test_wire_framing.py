"""Where requests begin and end: splits, pipelining, chunked bodies, 100-continue, HEAD."""

from __future__ import annotations

import itertools

import pytest

from support.wire import request_bytes


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    sized = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return sized + b"0\r\n" + trailer + b"\r\n"


def post_chunked(path: str, body: bytes, **headers: str) -> bytes:
    headers = {"content_type": "text/plain", "transfer_encoding": "chunked", **headers}
    return request_bytes("POST", path, None, **headers) + body


def test_every_split_of_a_request_gives_the_same_answer(client, connect, path):
    client.put(path)
    request = request_bytes("POST", path, b"a", content_type="text/plain")
    connection = connect()
    for cut in range(1, len(request)):
        connection.send(request[:cut])
        connection.send(request[cut:])
        answer = connection.answer()
        assert answer.status == 204
        assert int(answer["stream-next-offset"][-16:]) == cut


def test_a_request_in_single_bytes(client, connect, path):
    client.put(path)
    connection = connect()
    for byte in post_chunked(path, chunked(b"on", b"e", trailer=b"X-Late: 1\r\n")):
        connection.send(bytes([byte]))
    assert connection.answer().status == 204
    assert client("GET", path).body == b"one"


def test_every_split_of_an_unknown_method_is_refused_alike(connect, path):
    for cut in range(1, 12):
        request = request_bytes("FETCH", path)
        connection = connect()
        connection.send(request[:cut])
        connection.send(request[cut:])
        answer = connection.answer()
        assert answer.status == 405
        assert "PUT" in answer["allow"]
        assert connection.is_ended()


def test_pipelined_requests_are_answered_in_order(client, connect, path):
    client.put(path)
    appends = [request_bytes("POST", path, b"%d" % i, content_type="text/plain") for i in range(8)]
    connection = connect()
    connection.send(b"".join([*appends, request_bytes("GET", path), request_bytes("HEAD", path)]))
    offsets = [connection.answer()["stream-next-offset"] for _ in appends]
    assert offsets == sorted(set(offsets))
    assert connection.answer().body == b"01234567"
    assert connection.answer(head_only=True)["stream-next-offset"] == offsets[-1]


def test_a_pipelined_request_waits_for_the_long_poll_before_it(client, connect, path):
    client.put(path)
    connection = connect()
    connection.send(request_bytes("GET", f"{path}?offset=-1&live=long-poll"))
    connection.send(request_bytes("HEAD", path))
    client.post(path, b"woken")
    assert connection.answer().body == b"woken"
    assert connection.answer(head_only=True).status == 200


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_body_arrives_whole(client, connect, path, size):
    client.put(path)
    data = bytes(range(32, 127)) * 100
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    connection = connect()
    connection.send(post_chunked(path, chunked(*pieces)))
    assert connection.answer().status == 204
    assert client("GET", path).body == data


def test_trailers_are_no_headers(client, connect, path):
    client.put(path)
    late = b"Stream-Closed: true\r\nContent-Type: application/json\r\nHost: other\r\n"
    request = post_chunked(path, chunked(b"data", trailer=late))
    connection = connect()
    # Twice, so that the trailers of the second are there before its handler runs.
    connection.send(request * 2)
    for _ in range(2):
        assert connection.answer().status == 204
    assert "stream-closed" not in client("HEAD", path)


def test_a_put_may_be_chunked(connect, client, path):
    connection = connect()
    head = request_bytes("PUT", path, None, content_type="text/plain", transfer_encoding="chunked")
    connection.send(head + chunked(b"begun"))
    assert connection.answer().status == 201
    assert client("GET", path).body == b"begun"


def test_the_body_is_asked_for_with_100_continue(client, connect, path):
    client.put(path)
    connection = connect()
    request = request_bytes(
        "POST", path, b"later", content_type="text/plain", expect="100-continue"
    )
    connection.send(request[:-5])
    assert connection.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(b"later")
    assert connection.answer().status == 204


def test_a_refusal_saves_the_body_and_ends_the_connection(client, connect, path):
    client.put(path)
    connection = connect()
    headers = {"content_type": "text/plain", "expect": "100-continue", "producer_id": "alone"}
    connection.send(request_bytes("POST", path, b"never", **headers)[:-5])
    answer = connection.answer()
    assert (answer.status, answer["connection"]) == (400, "close")
    assert connection.is_ended()


def test_head_has_no_body_and_keeps_the_connection(client, connect, path):
    client.put(path, b"some bytes")
    connection = connect()
    for target, status in [(path, 200), (path + "/missing", 404), ("/elsewhere", 404)]:
        connection.send(request_bytes("HEAD", target))
        assert connection.answer(head_only=True).status == status
    connection.send(request_bytes("GET", path))
    assert connection.answer().body == b"some bytes"


def test_http_1_0_is_answered_and_closed(connect, client, path):
    client.put(path, b"old")
    connection = connect()
    connection.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = connection.answer()
    assert (answer.status, answer.body, answer["connection"]) == (200, b"old", "close")
    assert connection.is_ended()


def test_an_absolute_target_names_the_same_stream(client, connect, path):
    client.put(path, b"x")
    connection = connect()
    connection.send(request_bytes("GET", f"http://other.test{path}?offset=-1"))
    assert connection.answer().body == b"x"


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_an_upgrade_is_ignored_and_its_body_is_a_body(client, connect, path, cut):
    client.put(path)
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    headers = {"content_type": "text/plain", "connection": "Upgrade", "upgrade": "h2c"}
    connection = connect()
    whole = request_bytes("POST", path, body, **headers) + request_bytes("GET", path)
    end = whole.index(body) + cut
    connection.send(whole[:end])
    connection.send(whole[end:])
    assert connection.answer().status == 204
    assert connection.answer().body == body


def test_an_upgrade_with_a_chunked_body(client, connect, path):
    client.put(path)
    connection = connect()
    request = post_chunked(path, chunked(b"a", b"b"), connection="Upgrade", upgrade="h2c")
    connection.send(request + request_bytes("GET", path))
    assert connection.answer().status == 204
    assert connection.answer().body == b"ab"


def test_identities_of_paths(client, path):
    """The path as sent, after dot segments: section 2."""
    client.put(f"{path}/a%2Fb", b"encoded")
    client.put(f"{path}/a/b", b"plain")
    client.put(f"{path}/a/b/", b"slash")
    assert client("GET", f"{path}/x/../a/./b").body == b"plain"
    assert client("GET", f"{path}/x/%2e%2E/a%2Fb").body == b"encoded"
    assert client("GET", f"{path}/a/b/.").body == b"slash"
    assert client("GET", f"{path}/a%2fb").status == 404


def test_large_answers_arrive_whole(client, path):
    client.put(path)
    pieces = [bytes([i]) * 200_000 for i in range(20)]
    for piece in pieces:
        client.post(path, piece)
    read, offset = b"", "-1"
    for _ in itertools.count():
        answer = client("GET", f"{path}?offset={offset}")
        read, offset = read + answer.body, answer["stream-next-offset"]
        if "stream-up-to-date" in answer:
            break
    assert read == b"".join(pieces)
