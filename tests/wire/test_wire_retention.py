"""Retention over HTTP: the headers of section 18, and what is answered for what is gone."""

from __future__ import annotations

import pytest

from support.wire import Client


def token(position: int) -> str:
    return f"{0:016d}_{position:016d}"


def test_it_is_asked_for_told_and_compared(client: Client, path: str):
    asked = {"stream_retention_seconds": "3600", "stream_retention_bytes": "1000"}
    assert client("PUT", path, content_type="text/plain", **asked).status == 201
    told = client("HEAD", path)
    assert told["stream-retention-seconds"] == "3600"
    assert told["stream-retention-bytes"] == "1000"
    assert "stream-earliest-offset" not in told.headers
    assert client("PUT", path, content_type="text/plain", **asked).status == 200
    asked["stream_retention_bytes"] = "1001"
    refused = client("PUT", path, content_type="text/plain", **asked)
    assert (refused.status, b"retention" in refused.body) == (409, True)


@pytest.mark.parametrize("name", ["stream_retention_seconds", "stream_retention_bytes"])
@pytest.mark.parametrize("value", ["0", "", "abc", "-1", "+60", "060", "1.5", "9007199254740992"])
def test_values_are_strict(client, path, name, value):
    assert client("PUT", path, content_type="text/plain", **{name: value}).status == 400
    assert client("HEAD", path).status == 404


def test_what_is_gone_is_410_and_says_where_to_go_on(client, path, wire_store):
    client.put(path, b"abc", stream_retention_bytes="1")
    client.post(path, b"d")
    wire_store.sweep()
    for query in (f"?offset={token(0)}", f"?offset={token(1)}&live=long-poll",
                  f"?offset={token(2)}&live=sse"):  # fmt: skip
        gone = client("GET", path + query)
        assert gone.status == 410
        assert gone["stream-earliest-offset"] == token(3)
        assert b"dropped by retention; read from there, or from -1" in gone.body
    assert client("HEAD", path)["stream-earliest-offset"] == token(3)
    for query in ("", "?offset=-1", f"?offset={token(3)}"):
        answer = client("GET", path + query)
        assert (answer.status, answer.body) == (200, b"d")


def test_browsers_may_use_and_see_it(client, path):
    allowed = client("OPTIONS", path)["access-control-allow-headers"]
    client.put(path)
    exposed = client("HEAD", path)["access-control-expose-headers"]
    for name in ("Stream-Retention-Seconds", "Stream-Retention-Bytes"):
        assert name in allowed
        assert name in exposed
    assert "Stream-Earliest-Offset" in exposed
