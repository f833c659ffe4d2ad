"""What every answer carries, whatever it says: sections 4.8, 12 and 16."""

from __future__ import annotations

import pytest

from durastream import Cors
from support.wire import Client

ZERO = "0000000000000000_0000000000000000"


def answers_of_all_kinds(client: Client, path: str):
    """One answer of each status that handlers give, by what was done."""
    closed, json, forked = f"{path}/closed", f"{path}/json", f"{path}/source"
    yield 201, client("PUT", path, b"abc", content_type="text/plain")
    yield 200, client("PUT", path, content_type="text/plain")
    yield 201, client("PUT", closed, b"end", content_type="text/plain", stream_closed="true")
    yield 201, client("PUT", json, content_type="application/json")
    yield 409, client("PUT", path, content_type="application/json")
    yield 400, client("PUT", path, stream_ttl="abc")
    yield 204, client("POST", path, b"d", content_type="text/plain")
    producer = {"producer_id": "p", "producer_epoch": "1"}
    kind = {"content_type": "text/plain", **producer}
    yield 200, client("POST", path, b"e", **kind, producer_seq="0")
    yield 204, client("POST", path, b"e", **kind, producer_seq="0")
    yield 409, client("POST", path, b"e", **kind, producer_seq="5")
    stale = {**kind, "producer_epoch": "0", "producer_seq": "0"}
    yield 403, client("POST", path, b"e", **stale)
    yield 400, client("POST", path, b"e")
    yield 409, client("POST", closed, b"e", content_type="text/plain")
    yield 415, client("POST", path, b"e", content_type="text/plain", content_encoding="gzip")
    yield 400, client("POST", json, b"{", content_type="application/json")
    yield 413, client("POST", path, bytes(300_000), content_type="text/plain")
    answer = client("GET", path)
    yield 200, answer
    yield 304, client("GET", path, if_none_match=answer["etag"])
    yield 200, client("GET", f"{path}?offset=now")
    yield 200, client("GET", closed)
    yield 400, client("GET", f"{path}?offset=")
    yield 400, client("GET", f"{path}?live=sse")
    yield 204, client("GET", f"{path}?offset=now&live=long-poll")
    yield 200, client("GET", f"{path}?offset=-1&live=long-poll")
    yield 404, client("GET", f"{path}/missing?offset=-1&live=sse")
    yield 200, client("GET", f"{closed}?offset=-1&live=sse")
    yield 200, client("HEAD", path)
    yield 404, client("HEAD", f"{path}/missing")
    yield 404, client("GET", "/elsewhere")
    yield 404, client("POST", "/v1/stream/__ds/subscriptions/x", b"{}")
    yield 405, client("PATCH", path, b"")
    yield 204, client("OPTIONS", path)
    yield 201, client("PUT", forked, content_type="text/plain")
    yield 201, client("PUT", f"{path}/fork", stream_forked_from=forked)
    yield 204, client("DELETE", forked)
    yield 410, client("GET", forked)
    yield 409, client("PUT", forked, content_type="text/plain")
    yield 404, client("DELETE", f"{path}/missing")


def test_every_answer_carries_the_security_headers(client, path):
    for status, answer in answers_of_all_kinds(client, path):
        assert answer.status == status, answer
        assert answer["x-content-type-options"] == "nosniff"
        assert answer["cross-origin-resource-policy"] == "cross-origin"
        assert answer["access-control-allow-origin"] == "*"
        assert "Stream-Next-Offset" in answer["access-control-expose-headers"]
        assert answer["cache-control"]
        assert "server" not in answer
        if status >= 400:
            assert answer["cache-control"] == "no-store"
        if status in (204, 304):
            assert "content-length" not in answer


def test_cache_control_and_entity_tags(client, path):
    client.put(path, b"abc")
    tail = client("GET", path)
    assert tail["cache-control"] == "no-cache"
    now = client("GET", f"{path}?offset=now")
    assert now["cache-control"] == "no-store"
    assert "etag" not in now
    client("POST", path, b"", stream_closed="TRUE")
    end = client("GET", path)
    assert end["cache-control"] == "public, max-age=60, stale-while-revalidate=300"
    assert end["etag"] != tail["etag"]


def test_304_tells_what_200_would(client, path):
    client.put(path, b"abc")
    client("POST", path, b"", stream_closed="true")
    full = client("GET", path)
    for tags in [full["etag"], f'"other", W/{full["etag"]}', "*"]:
        answer = client("GET", path, if_none_match=tags)
        assert answer.status == 304
        for name in ["etag", "cache-control", "stream-next-offset", "stream-closed"]:
            assert answer[name] == full[name]
    assert client("GET", path, if_none_match='"other"').status == 200


def test_a_recreated_stream_has_other_tags(client, path):
    client.put(path, b"abc")
    tag = client("GET", path)["etag"]
    client("DELETE", path)
    client.put(path, b"xyz")
    assert client("GET", path, if_none_match=tag).body == b"xyz"


def test_location_is_where_the_client_came_to(client, path):
    answer = client("PUT", path, content_type="text/plain")
    assert answer["location"] == f"http://streams.test{path}"


def test_location_below_the_public_url(start_server, path):
    server = start_server(public_url="https://streams.example.org/base/")
    client = Client(server.port)
    assert client("PUT", path)["location"] == f"https://streams.example.org/base{path}"
    client.close()


def test_a_repeated_header_is_refused(client, connect, path):
    client.put(path)
    connection = connect()
    connection.send(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nProducer-Id: a\r\n"
        "Producer-Id: b\r\nProducer-Epoch: 0\r\nProducer-Seq: 0\r\n"
        "Content-Length: 1\r\n\r\nx".encode()
    )
    assert connection.answer().status == 400


@pytest.mark.parametrize("origin", ["https://app.test", "https://evil.test", None])
def test_an_allow_list_of_origins(start_server, path, origin):
    server = start_server(cors=Cors(allow_origins=frozenset({"https://app.test"})))
    client = Client(server.port)
    headers = {} if origin is None else {"origin": origin}
    for method in ["PUT", "GET", "OPTIONS"]:
        answer = client(method, path, b"" if method == "PUT" else None, **headers)
        assert answer["vary"] == "origin"
        allowed = [v for k, v in answer.headers if k == "access-control-allow-origin"]
        assert allowed == (["https://app.test"] if origin == "https://app.test" else [])
    client.close()


def test_no_cors_at_all(start_server, path):
    server = start_server(cors=None)
    client = Client(server.port)
    for method in ["PUT", "OPTIONS", "FOO"]:
        answer = client(method, path, b"" if method == "PUT" else None)
        assert not [name for name, _ in answer.headers if name.startswith("access-control")]
    client.close()


def test_absence_outranks_a_malformed_query(client, path):
    for query in ["offset=", "offset=x", "live=sse", "offset=-1&live=maybe", "offset=1&offset=2"]:
        assert client("GET", f"{path}/missing?{query}").status == 404
    client.put(path)
    for query in ["offset=", "offset=x", "live=sse", "offset=-1&live=maybe", "offset=1&offset=2"]:
        assert client("GET", f"{path}?{query}").status == 400
    assert client("GET", f"{path}?offset=-1&unknown=1&unknown=2").status == 200


def test_forks_name_their_source_by_its_full_path(client, path):
    client.put(path, b"abc")
    assert client("PUT", f"{path}/2", stream_forked_from=f"/v1/./x/..{path[3:]}").status == 201
    assert client("GET", f"{path}/2").body == b"abc"
    for source in [f"http://streams.test{path}", path.removeprefix("/v1/stream/"), "/other/x"]:
        assert client("PUT", f"{path}/3", stream_forked_from=source).status == 404
    for bad in [
        {"stream_forked_from": ""},
        {"stream_fork_sub_offset": "0"},
        {"stream_fork_offset": ZERO},
        {"stream_forked_from": path, "stream_fork_offset": "-1"},
        {"stream_forked_from": path, "stream_fork_sub_offset": ""},
    ]:
        assert client("PUT", f"{path}/3", **bad).status == 400
