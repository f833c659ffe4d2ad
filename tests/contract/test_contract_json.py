"""Section 8: JSON streams keep the bytes of each message, flattened by one level."""

from __future__ import annotations

import json

import pytest

from durastream.protocol.errors import EmptyAppend, InvalidJson
from durastream.protocol.offset import format_offset as at

JSON = "application/json; charset=utf-8"


@pytest.fixture
def stream(store):
    store.create("/s", content_type=JSON)
    return store


def body(store, offset=None):
    """The body of an answer."""
    return store.format_response("/s", store.read("/s", offset).messages)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b'{"a":1}', b'[{"a":1}]'),
        (b'[{"a":1},{"b":2}]', b'[{"a":1},{"b":2}]'),
        (b"[[1,2],[3,4]]", b"[[1,2],[3,4]]"),
        (b"[[[1,2,3]]]", b"[[[1,2,3]]]"),
        (b'"x"', b'["x"]'),
        (b"42", b"[42]"),
        (b"true", b"[true]"),
        (b" null\r\n", b"[null]"),
        (b"[[]]", b"[[]]"),
        (b' [ {"a" : 1.0 } ,\t{"a":1,"a":-0}\n]', b'[{"a" : 1.0 },{"a":1,"a":-0}]'),
        (b"[9007199254740993,1e2]", b"[9007199254740993,1e2]"),
        (b'["\\ud83d", "\\u00e9\xc3\xa9"]', b'["\\ud83d","\\u00e9\xc3\xa9"]'),
    ],
)
def test_messages_are_stored_as_sent(stream, sent, stored):
    stream.append("/s", sent)
    assert body(stream) == stored
    created = stream.create("/t", content_type=JSON, initial_data=sent)
    assert created.current_offset == stream.get_current_offset("/s")
    assert bytes(stream.read("/t")) == bytes(stream.read("/s"))


@pytest.mark.parametrize(
    "bad", [b"{", b"[1,]", b"1 2", b"nul", b"\xef\xbb\xbf1", b'"\xff"', b"NaN", b" ", b"01", b"'a'"]
)
def test_what_is_not_json_is_refused(stream, bad):
    with pytest.raises(InvalidJson):
        stream.append("/s", bad)
    with pytest.raises(InvalidJson):
        stream.create("/t", content_type=JSON, initial_data=bad)
    assert stream.get_current_offset("/s") == at(0)
    assert stream.list() == ["/s"]


def test_an_empty_array_is_an_empty_stream_but_no_append(stream):
    with pytest.raises(EmptyAppend):
        stream.append("/s", b" [ ] ")
    created = stream.create("/t", content_type=JSON, initial_data=b"[]")
    assert (created.created, created.current_offset) == (True, at(0))
    assert stream.format_response("/t", stream.read("/t").messages) == b"[]"


def test_a_batch_has_one_offset(stream):
    first = stream.append("/s", b"[1,2,3]").offset
    second = stream.append("/s", b"[4]").offset
    assert [message.offset for message in stream.read("/s").messages] == [first, second]
    assert json.loads(body(stream, first)) == [4]
    assert json.loads(body(stream)) == [1, 2, 3, 4]
    assert json.loads(body(stream, second)) == []


@pytest.mark.parametrize("content_type", ["application/ndjson", "application/vnd.api+json"])
def test_other_types_of_json_are_bytes(store, content_type):
    store.create("/s", content_type=content_type, initial_data=b"[]")
    store.append("/s", b"{")
    assert body(store) == b"[]{"


def test_depth_is_limited_without_recursion(stream):
    limit = 128
    deepest = b"[" * (limit - 1) + b'{"a":"[[["}' + b"]" * (limit - 1)
    stream.append("/s", deepest)
    for depth in (limit + 1, 100_000):
        with pytest.raises(InvalidJson):
            stream.append("/s", b"[" * depth + b"]" * depth)
    assert json.loads(body(stream)) == json.loads(deepest)


def test_many_shallow_messages_are_not_deep(stream):
    message = b'{"text":"}}]] \\" [[{{","list":[{},{}]}'
    stream.append("/s", b"[" + b",".join([message] * 1000) + b"]")
    assert len(json.loads(body(stream))) == 1000
