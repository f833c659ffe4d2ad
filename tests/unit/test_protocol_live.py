"""Cursors, server-sent events, and path names (sections 2, 9, 11)."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream.protocol.cursor import (
    DEFAULT_CURSOR_EPOCH,
    CursorOptions,
    calculate_cursor,
    generate_response_cursor,
    handle_cursor_collision,
)
from durastream.protocol.path_encoding import decode_stream_path, encode_stream_path
from durastream.protocol.sse import (
    HEARTBEAT,
    encode_control_event,
    encode_data_event,
    encode_data_pieces,
    uses_base64,
)

EPOCH_MS = 1_728_432_000_000
NOW_MS = EPOCH_MS + 20_000 * 500 + 7


def test_the_cursor_is_the_number_of_the_interval():
    assert DEFAULT_CURSOR_EPOCH.timestamp() * 1000 == EPOCH_MS
    assert calculate_cursor(now_ms=NOW_MS) == "500"
    assert calculate_cursor(now_ms=EPOCH_MS + 19_999) == "0"
    assert calculate_cursor(now_ms=0) == "0"
    options = CursorOptions(interval_seconds=1, epoch=dt.datetime(1970, 1, 1, tzinfo=dt.UTC))
    assert calculate_cursor(options, now_ms=5_999) == "5"
    assert int(calculate_cursor()) > 3_000_000


@pytest.mark.parametrize("client", [None, "", "abc", "-5", "1.5", "499", "1" * 16, "5\n", "٣"])
def test_no_or_an_old_cursor_gets_the_present_one(client):
    assert generate_response_cursor(client, now_ms=NOW_MS) == "500"


@pytest.mark.parametrize("client", [500, 501, 10**14])
def test_a_present_cursor_gets_ahead_by_the_jitter(client):
    for _ in range(200):
        ahead = int(generate_response_cursor(str(client), now_ms=NOW_MS)) - client
        assert 1 <= ahead <= 180
    assert handle_cursor_collision("500", "400", now_ms=NOW_MS) == "500"


def test_cursors_fed_back_never_fall():
    cursor, now_ms = None, NOW_MS
    for _ in range(200):
        following = generate_response_cursor(cursor, now_ms=now_ms)
        assert cursor is None or int(following) > int(cursor)
        cursor, now_ms = following, now_ms + 1


def test_options_are_checked():
    with pytest.raises(ValueError, match="interval_seconds"):
        CursorOptions(interval_seconds=0)
    with pytest.raises(ValueError, match="zone"):
        CursorOptions(epoch=dt.datetime(2024, 1, 1))


def parse(stream: bytes) -> list[tuple[str, str]]:
    """Events as the HTML standard has receivers parse them."""
    events, name, data = [], "", []
    for line in re.split("\r\n|\r|\n", stream.decode()):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append((name, "\n".join(data)))
            name, data = "", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        else:
            assert not field, f"a line that nobody meant: {line!r}"
    return events


@given(st.text(alphabet=" \n\rabc:\u2028é\ufeffdatevn", min_size=1))
def test_text_arrives_line_by_line_and_forges_nothing(text):
    events = parse(encode_data_event("text/plain", text.encode()) + HEARTBEAT)
    assert events == [("data", re.sub("\r\n|\r", "\n", text))]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_an_injected_event_stays_data(end):
    text = f"safe{end}{end}event: control{end}data: {{}}{end}{end}"
    events = parse(encode_data_event("text/plain", text.encode()))
    assert [name for name, _ in events] == ["data"]


def test_the_wire_form_is_what_clients_look_for():
    assert encode_data_event("text/plain", b"line1\nline2\n") == (
        b"event: data\ndata:line1\ndata:line2\ndata:\n\n"
    )
    assert encode_data_event("text/plain", b" x\n  y") == b"event: data\ndata:  x\ndata:   y\n\n"
    assert encode_data_event("application/json", b'{"a":\n1},2,') == (
        b'event: data\ndata:[{"a":\ndata:1},2]\n\n'
    )


def test_invalid_utf8_is_replaced():
    event = encode_data_event("text/plain", b"a\xffb\xc3")
    assert parse(event) == [("data", "a\ufffdb\ufffd")]


@given(
    st.sampled_from(["text/plain", "application/json", "image/png"]),
    st.lists(st.sampled_from([b" ", b"\r", b"\n", b"a", b"\xc3", b"\xa9", b"xyz"]), min_size=1),
    st.integers(1, 5),
)
def test_pieces_are_the_whole_event(content_type, buffers, piece_size):
    pieces = encode_data_pieces(content_type, buffers, piece_size)
    assert b"".join(pieces) == encode_data_event(content_type, b"".join(buffers))


@given(st.binary())
def test_other_types_are_base64(data):
    [(name, payload)] = parse(encode_data_event("image/png", data) + b"data:\n\n")[:1]
    assert (name, base64.b64decode(payload, validate=True)) == ("data", data)


def test_what_is_base64():
    assert [uses_base64(t) for t in ("text/html", "application/json; x=y", "image/png")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("cursor", [None, "500"])
@pytest.mark.parametrize("up_to_date", [False, True])
@pytest.mark.parametrize("closed", [False, True])
def test_control_events(cursor, up_to_date, closed):
    event = encode_control_event("0_5", cursor=cursor, up_to_date=up_to_date, closed=closed)
    assert re.fullmatch(rb"event: control\ndata:\{[^{}\n]*\}\n\n", event)
    expected = {"streamNextOffset": "0_5"}
    if cursor and not closed:
        expected["streamCursor"] = cursor
    if up_to_date:
        expected["upToDate"] = True
    if closed:
        expected["streamClosed"] = True
    [(name, data)] = parse(event)
    assert (name, json.loads(data)) == ("control", expected)


@given(st.text(max_size=300))
def test_path_names_come_back(path):
    name = encode_stream_path(path)
    assert re.fullmatch(r"[A-Za-z0-9_-]*(~[0-9a-f]{16})?", name)
    assert len(name) <= 200
    if "~" in name:
        kept = decode_stream_path(name).rstrip("\ufffd")
        assert path.startswith(kept)
    else:
        assert decode_stream_path(name) == path


def test_path_names_are_those_of_peers():
    assert encode_stream_path("/stream/users:created") == "L3N0cmVhbS91c2VyczpjcmVhdGVk"
    long = ["/" + "x" * 400 + end for end in "ab"]
    assert encode_stream_path(long[0]) != encode_stream_path(long[1])


@pytest.mark.parametrize("name", ["a", "$$$$", "_w=="])
def test_what_is_no_path_name(name):
    with pytest.raises(ValueError, match=r"."):
        decode_stream_path(name)
