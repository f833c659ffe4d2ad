"""Grammars of offsets and headers, and entity tags (sections 3.1, 10, 12)."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream.protocol.errors import InvalidContentType, InvalidOffset, InvalidRequest
from durastream.protocol.etag import entity_tag, is_none_match
from durastream.protocol.headers import (
    is_json,
    is_text,
    media_type,
    parse_closed,
    parse_expires_at,
    parse_producer,
    parse_sub_offset,
    parse_ttl,
)
from durastream.protocol.offset import (
    NOW,
    POSITION_MAX,
    START,
    format_offset,
    parse_offset,
    parse_position,
)

NUMBER_MAX = 2**53 - 1


@given(st.integers(0, POSITION_MAX), st.integers(0, POSITION_MAX))
def test_offsets_sort_as_their_positions_do(one, other):
    assert parse_offset(format_offset(one)) == one
    assert (format_offset(one) < format_offset(other)) == (one < other)


def test_offsets_have_the_form_that_peers_use():
    assert format_offset(0) == "0000000000000000_0000000000000000"
    assert format_offset(POSITION_MAX) == "0000000000000000_9999999999999999"


def test_sentinels_are_no_positions():
    assert parse_offset("-1") is START
    assert parse_offset("now") is NOW
    for sentinel in ("-1", "now"):
        with pytest.raises(InvalidOffset):
            parse_position(sentinel)


@given(st.text(alphabet="0123456789_-now \n\r\0", max_size=40))
def test_anything_else_is_no_offset(token):
    try:
        start = parse_offset(token)
    except InvalidOffset:
        return
    assert token == (start.value if start in (START, NOW) else format_offset(start))


@pytest.mark.parametrize("parse", [parse_ttl, parse_sub_offset])
def test_plain_numbers(parse):
    assert [parse(text) for text in ("0", "1", "60", str(NUMBER_MAX))] == [0, 1, 60, NUMBER_MAX]
    for text in ["", "abc", "-1", "+60", "00060", "05", "60.5", "1e3", " 1", "1 ", "1\n", "٣",
                 str(NUMBER_MAX + 1), "9" * 5000]:  # fmt: skip
        with pytest.raises(InvalidRequest):
            parse(text)


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00+00:00"),
        ("2030-01-31t12:00:00.250z", "2030-01-31T12:00:00.250+00:00"),
        ("2030-01-31T12:00:00.1239+01:30", "2030-01-31T10:30:00.123+00:00"),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999+00:00"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_timestamps(text, iso):
    expected = dt.datetime.fromisoformat(iso).timestamp() * 1000
    assert parse_expires_at(text) == round(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not-a-timestamp",
        "2030-01-31",
        "2030-01-31T12:00:00",
        "2030-01-31 12:00:00Z",
        "2030-01-31T12:00Z",
        "20300131T120000Z",
        "2030-02-30T12:00:00Z",
        "2030-01-31T25:00:00Z",
        "2030-01-31T12:00:00+0100",
        "2030-W05-4T12:00:00Z",
        "2030-01-31T12:00:00Z\n",
        "1700000000",
        "Thu, 31 Jan 2030 12:00:00 GMT",
    ],
)
def test_what_is_no_rfc_3339_timestamp(text):
    with pytest.raises(InvalidRequest, match="Stream-Expires-At"):
        parse_expires_at(text)


def test_only_true_closes():
    assert all(parse_closed(text) for text in ("true", "TRUE", "True"))
    assert not any(parse_closed(text) for text in (None, "", "false", "1", "yes", "true ", "tru"))


def test_producers_three_headers():
    assert parse_producer(None, None, None) is None
    request = parse_producer("p", "007", "0" * 30 + "9007199254740991")
    assert request is not None
    assert (request.producer_id, request.epoch, request.seq) == ("p", 7, NUMBER_MAX)
    for wrong in [("p", None, None), ("p", "0", None), (None, "0", "0"), ("", "0", "0")]:
        with pytest.raises(InvalidRequest):
            parse_producer(*wrong)


@pytest.mark.parametrize(
    "text", ["", "1abc", "0xyz", "1e3", "-1", "+1", "1.0", " 1", "1\n", "٣", "9007199254740992"]
)
def test_producers_numbers(text):
    with pytest.raises(InvalidRequest, match="Producer-Epoch"):
        parse_producer("p", text, "0")
    with pytest.raises(InvalidRequest, match="Producer-Seq"):
        parse_producer("p", "0", text)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ('text/plain;charset="é"', "text/plain"),
        ("image/svg+xml ", "image/svg+xml"),
        ("x/y ; a=b", "x/y"),
    ],
)
def test_media_types(content_type, expected):
    assert media_type(content_type) == expected


@pytest.mark.parametrize(
    "content_type",
    ["", "json", "/", "a/", "/b", "a/b c", "a/b/c", " a/b", "a/b;\n", "a/b; x\r\nSet-Cookie: y",
     "a/b; \x00", "a/b; \u20ac", "ä/b", "a/b, c/d"],
)  # fmt: skip
def test_what_is_no_media_type(content_type):
    with pytest.raises(InvalidContentType):
        media_type(content_type)


def test_kinds_of_streams():
    assert is_json("application/json;charset=utf-8")
    assert not any(map(is_json, ["application/ndjson", "application/json+x", "text/json"]))
    assert is_text("TEXT/html")
    assert not is_text("application/text")


def test_entity_tags_tell_everything_apart():
    facts = [(i, s, e, c) for i in (1, 17) for s in (0, 1) for e in (1, 11) for c in (False, True)]
    tags = {entity_tag(i, s, e, closed=c) for i, s, e, c in facts}
    assert len(tags) == len(facts)
    assert all(tag[0] == tag[-1] == '"' for tag in tags)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (None, False),
        ("", False),
        ("TAG", True),
        ("W/TAG", True),
        ('"a", W/TAG ,"b"', True),
        ("*", True),
        (' "x:y" , "1:2:3"', False),
        ("a1:0:5", False),
        ('"a1:0:5', False),
        ('"a1:0:5:c"', False),
        ('"*"', False),
    ],
)
def test_conditions(header, matches):
    tag = entity_tag(0xA1, 0, 5, closed=False)
    assert tag == '"a1:0:5"'
    assert is_none_match(header and header.replace("TAG", tag), tag) == matches
