"""Splitting JSON bodies: what is accepted, and that no byte of a message changes."""

from __future__ import annotations

import json
from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durastream.protocol import json_body
from durastream.protocol.errors import EmptyAppend, InvalidJson, TooLarge
from durastream.protocol.payload import payload_or_refusal, prepare_payload

JSON = "application/json"
DEPTH_MAX = 6


def split(body: bytes, depth_max: int = DEPTH_MAX) -> list[bytes]:
    return [bytes(message) for message in json_body.split_messages(body, depth_max)]


def refuse(constant: str) -> None:
    raise ValueError(constant)


ORACLE = json.JSONDecoder(parse_constant=refuse, parse_int=str, parse_float=str)


def depth(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def is_valid(body: bytes) -> bool:
    """The standard library's opinion; it recurses and makes values, and is no JSON splitter."""
    try:
        return depth(ORACLE.decode(body.decode())) <= DEPTH_MAX
    except (ValueError, UnicodeDecodeError):
        return False


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)
white = st.text(alphabet=" \t\r\n", max_size=2)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON text, with white space where it may be, then perhaps damaged."""
    text = json.dumps(
        draw(values), ensure_ascii=draw(st.booleans()), indent=draw(st.none() | white)
    )
    body = (draw(white) + text + draw(white)).encode()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(body)))
        piece = draw(st.sampled_from(PIECES))
        body = body[:at] + piece + body[at + draw(st.integers(0, 2)) :]
    return body


PIECES = [
    b"", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\\\", b'\\"', b" ", b"\n", b"\x00",
    b"\x1f", b"\xff", b"\xc3\xa9", b"\xed\xa0\xbd", b"\\ud83d", b"\\uDE00", b"\\u00e9", b"0",
    b"-", b".", b"e", b"+1", b"null", b"NaN", b"Infinity", b"//", b"'", b"\xef\xbb\xbf",
]  # fmt: skip


@given(bodies())
@example(b"")
@example(b'["\\ud83d" , "\xc3\xa9\\udc00\\\\ud83d"]')
@example(b'"\\\\\\ud83d"')
@example(b"[" * 7 + b"]" * 7)
@example(b'{"a":"[[[[[[[[{{{{{{\\"[["}')
def test_agrees_with_the_standard_library(body):
    if not is_valid(body):
        with pytest.raises(InvalidJson):
            split(body)
        return
    messages = split(body)
    value = ORACLE.decode(body.decode())
    expected = value if isinstance(value, list) else [value]
    assert [ORACLE.decode(message.decode()) for message in messages] == expected
    rest = body
    for message in messages:
        assert message == message.strip()
        before, found, rest = rest.partition(message)
        assert found
        assert not before.strip(b" \t\r\n[,")


@given(bodies())
def test_sizes_add_up_to_the_wire_bytes(body):
    payload = payload_or_refusal(JSON, body, depth_max=DEPTH_MAX, is_create=True)
    if isinstance(payload, Exception):
        return
    data = bytes(payload.data)
    sizes = payload.message_sizes or ([len(data)] if data else [])
    assert sum(sizes) == len(data)
    ends = list(accumulate(sizes))
    assert all(data[end - 1 : end] == b"," for end in ends)
    array = json.loads(b"[" + data[:-1] + b"]", parse_int=str) if data else []
    assert len(array) == len(sizes)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"\xef\xbb\xbf1", "byte order mark"),
        (b'["\xff"]', "not UTF-8 at byte 2"),
        (b"[" * 7 + b"]" * 7, "deeper than 6 levels"),
        (b"[" * 100_000, "deeper than 6 levels"),
        (b'{"a":' * 100_000, "deeper than 6 levels"),
        (b"[1,", "not JSON"),
    ],
)
def test_the_refusal_names_the_problem(body, problem):
    with pytest.raises(InvalidJson, match=problem):
        split(body)


def test_numbers_of_any_length_pass():
    digits = b"9" * 10_000
    assert split(b"[" + digits + b",1e" + b"0" * 5000 + b"1]")[0] == digits


def test_the_number_of_messages_is_limited(monkeypatch):
    monkeypatch.setattr(json_body, "MESSAGE_COUNT_MAX", 10)
    one = b'{"a":[1,2,3],"b":",,,\\",,","c":[[,],[,]]}'.replace(b"[[,],[,]]", b"[[],[]]")
    assert len(split(b"[" + b",".join([one] * 10) + b"]")) == 10
    with pytest.raises(TooLarge, match="10 messages"):
        split(b"[" + b",".join([one] * 11) + b"]")
    with pytest.raises(TooLarge):
        prepare_payload(JSON, b"[1" + b",1" * 10 + b"]", depth_max=DEPTH_MAX)


def test_a_byte_stream_keeps_the_very_object():
    data = bytearray(b"[]")
    assert prepare_payload("text/plain", data, depth_max=1).data is data


def test_nothing_is_an_append_of_nothing():
    for content_type, data in [("text/plain", b""), (JSON, b""), (JSON, b"[]")]:
        with pytest.raises(EmptyAppend):
            prepare_payload(content_type, data, depth_max=8)
        assert prepare_payload(content_type, data, depth_max=8, is_create=True).size == 0


@given(st.integers(1, 300), st.integers(1, 3))
def test_depth_is_exact(levels, width):
    body = b"[" * levels + b"0" + b',{"x":"]"}' * width + b"]" * levels
    total = levels + 1
    assert len(split(body, depth_max=total)) >= 1
    with pytest.raises(InvalidJson):
        split(body, depth_max=total - 1)
