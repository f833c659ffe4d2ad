"""Section 4.1: create a stream, or find it there with the same configuration."""

from __future__ import annotations

import pytest

from durastream.protocol.errors import (
    InvalidContentType,
    InvalidJson,
    InvalidRequest,
    StreamExists,
)
from durastream.protocol.offset import format_offset as at

JSON = "application/json"


def test_a_new_stream_is_empty_open_and_of_the_default_type(store):
    stream = store.create("/s")
    assert stream.created
    assert stream.content_type == "application/octet-stream"
    assert stream.current_offset == at(0)
    assert not stream.closed
    assert store.has("/s")
    assert store.list() == ["/s"]


def test_initial_data_and_closed_come_in_one_step(store):
    stream = store.create("/s", content_type="text/plain", initial_data=b"hello", closed=True)
    assert (stream.current_offset, stream.closed) == (at(5), True)
    result = store.read("/s")
    assert (bytes(result), result.up_to_date, result.closed) == (b"hello", True, True)


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_any_buffer_of_bytes_is_data(store, data):
    store.create("/s", initial_data=data)
    store.append("/s", data)
    assert bytes(store.read("/s")) == b"xx"


def test_data_is_what_it_was_when_handed_over(store):
    data = bytearray(b"before")
    store.create("/s", initial_data=data)
    store.append("/s", data)
    data[:] = b"after!"
    assert bytes(store.read("/s")) == b"beforebefore"


@pytest.mark.parametrize("data", ["text", memoryview(bytes(8)).cast("I"), memoryview(b"abc")[::2]])
def test_anything_else_is_no_data(store, data):
    store.create("/s")
    with pytest.raises(TypeError):
        store.append("/s", data)
    with pytest.raises(TypeError):
        store.create("/t", initial_data=data)
    assert store.list() == ["/s"]


def test_the_same_again_is_the_same_stream_and_ignores_the_body(store):
    first = store.create("/s", content_type="text/plain; charset=utf-8", ttl_seconds=60)
    store.append("/s", b"data")
    again = store.create("/s", content_type="TEXT/Plain", ttl_seconds=60, initial_data=b"ignored")
    assert not again.created
    assert again.incarnation == first.incarnation
    assert again.content_type == "text/plain; charset=utf-8"
    assert again.current_offset == at(4)


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ({"content_type": "text/plain"}, {"content_type": "text/html"}),
        ({"content_type": "text/plain"}, {}),
        ({"ttl_seconds": 60}, {}),
        ({"ttl_seconds": 60}, {"ttl_seconds": 61}),
        ({}, {"ttl_seconds": 60}),
        ({"expires_at": "2100-01-01T00:00:00Z"}, {"expires_at": "2100-01-01T00:00:01Z"}),
        ({"expires_at": "2100-01-01T00:00:00Z"}, {}),
        ({"closed": True}, {}),
        ({}, {"closed": True}),
    ],
)
def test_another_configuration_is_a_conflict(store, there, asked):
    store.create("/s", **there)
    with pytest.raises(StreamExists, match=r"^/s: exists with another "):
        store.create("/s", **asked)


def test_closing_changes_what_the_same_configuration_is(store):
    store.create("/s")
    store.close_stream("/s")
    with pytest.raises(StreamExists):
        store.create("/s")
    assert not store.create("/s", closed=True).created


def test_deadlines_are_compared_as_instants_and_echoed_as_given(store):
    store.create("/s", expires_at="2100-01-01T00:00:00Z")
    again = store.create("/s", expires_at="2100-01-01T02:00:00.000+02:00")
    assert again.expires_at == "2100-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "asked",
    [
        {"ttl_seconds": 1, "expires_at": "2100-01-01T00:00:00Z"},
        {"ttl_seconds": -1},
        {"ttl_seconds": 2**53},
        {"expires_at": "tomorrow"},
        {"fork_offset": at(0)},
        {"fork_sub_offset": 0},
        {"forked_from": ""},
        {"forked_from": "/source", "fork_offset": ""},
        {"forked_from": "/source", "fork_offset": "-1"},
        {"forked_from": "/source", "fork_offset": "now"},
        {"forked_from": "/source", "fork_sub_offset": -1},
    ],
)
def test_malformed_requests_create_nothing(store, asked):
    store.create("/source")
    with pytest.raises(InvalidRequest):
        store.create("/s", **asked)
    assert store.list() == ["/source"]


@pytest.mark.parametrize("content_type", ["", "json", "a/b/c", "text/plain; x=\n", "a b/c", "/x"])
def test_a_content_type_must_be_one(store, content_type):
    with pytest.raises(InvalidContentType):
        store.create("/s", content_type=content_type)
    assert not store.has("/s")


def test_invalid_json_leaves_no_stream_behind(store):
    with pytest.raises(InvalidJson):
        store.create("/s", content_type=JSON, initial_data=b"{")
    assert store.get("/s") is None
    assert store.create("/s", content_type="text/plain").created


def test_a_refused_request_does_not_hide_a_conflict(store):
    """Conflicts come before the body's validity (21, decision 35)."""
    store.create("/s", content_type="text/plain")
    with pytest.raises(StreamExists):
        store.create("/s", content_type=JSON, initial_data=b"{")


@pytest.mark.parametrize("path", ["", "\ud800"])
def test_a_path_must_be_text(store, path):
    with pytest.raises(InvalidRequest):
        store.create(path)


def test_what_is_not_there_is_not_described(store):
    assert store.get("/s") is None
    assert not store.has("/s")
    assert store.get_current_offset("/s") is None
    assert store.get_producer_epoch("/s", "p") is None
    store.touch_access("/s")


def test_list_is_sorted_and_clear_empties(store):
    for path in ["/b", "/a", "/c"]:
        store.create(path)
    store.create("/f", forked_from="/a")
    assert store.list() == ["/a", "/b", "/c", "/f"]
    store.clear()
    assert store.list() == []
    assert store.create("/a").created
