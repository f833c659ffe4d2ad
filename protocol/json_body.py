"""Split a JSON body into its messages without changing a byte of them (section 8).

Accepted is RFC 8259 in UTF-8 without a byte order mark, nested no deeper than a limit. The
grammar is msgspec's to check; what it leaves open is checked here before: depth, since it
recurses, and UTF-8. Escapes of lone surrogates, which JavaScript writes when it cuts a
string, are grammatical and accepted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, compress
from typing import Final

import msgspec

from .errors import InvalidJson, TooLarge
from .results import Bytes

MESSAGE_COUNT_MAX: Final = 1_000_000  # of one body; each costs an object while it is split

_WHITE: Final = b" \t\r\n"
_one_message = msgspec.json.Decoder(msgspec.Raw)
_many_messages = msgspec.json.Decoder(list[msgspec.Raw])
_ESCAPE = re.compile(rb"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)
_SEPARATOR = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b'[]{}"'))
_NOT_STRUCTURE: Final = bytes(set(_NOT_BRACKETS) - set(b","))
_STEPS: Final = bytes.maketrans(b"[{]},", b"\x01\x01\xff\xff\x00")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def split_messages(data: bytes, depth_max: int) -> Sequence[msgspec.Raw | bytes]:
    """The messages of a body, trimmed: the elements of an array, or the one value.

    Raises: InvalidJson, TooLarge.
    """
    if data.count(b"[") + data.count(b"{") > depth_max:
        _check_depth(data, depth_max)
    if data.count(b",") >= MESSAGE_COUNT_MAX:
        _check_count(data)
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJson(f"the body is not UTF-8 at byte {error.start}") from None
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        return _split_with_lone_surrogates(data, error)


def is_json_text(data: Bytes) -> bool:
    """Whether UTF-8 text is one JSON value; False also for what only ``split_messages`` accepts.

    Nesting is the caller's to bound.
    """
    try:
        _one_message.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _decode(data: bytes) -> Sequence[msgspec.Raw]:
    if data.lstrip(_WHITE)[:1] == b"[":
        return _many_messages.decode(data)
    return (_one_message.decode(data),)


def _split_with_lone_surrogates(data: bytes, error: Exception) -> list[bytes]:
    """Try again with every surrogate escape replaced by another of the same size."""
    harmless = _ESCAPE.sub(lambda escape: rb"\u0020" if len(escape[0]) == 6 else escape[0], data)
    if harmless == data:
        raise _refusal(data, error)
    try:
        sizes = [len(message) for message in _decode(harmless)]
    except (msgspec.DecodeError, RecursionError) as second_error:
        raise _refusal(data, second_error) from None
    return _slices(data, sizes)


def _slices(data: bytes, sizes: list[int]) -> list[bytes]:
    body = data.strip(_WHITE)
    if body[:1] != b"[":
        return [body]
    messages, start = [], len(body) - len(body[1:].lstrip(_WHITE))
    for size in sizes:
        messages.append(body[start : start + size])
        separator = _SEPARATOR.match(body, start + size)
        start = separator.end() if separator else len(body)
    return messages


def _refusal(data: bytes, error: Exception) -> InvalidJson:
    if data.startswith(_BYTE_ORDER_MARK):
        return InvalidJson("the body begins with a byte order mark: send JSON without one")
    return InvalidJson(f"the body is not JSON: {error}")


def _check_depth(data: bytes, depth_max: int) -> None:
    """Refuse what nests deeper than ``depth_max``, in linear time and without recursion."""
    brackets = rest = _outside_strings(data, _NOT_BRACKETS)
    for collapsed in range(3):  # most bodies are flat: their innermost pairs vanish at once
        if rest.count(b"[") + rest.count(b"{") + 2 * collapsed <= depth_max:
            return
        rest = rest.replace(b"{}", b"").replace(b"[]", b"")
    if max(accumulate(_steps(brackets)), default=0) > depth_max:
        raise InvalidJson(f"the body nests deeper than {depth_max} levels")


def _check_count(data: bytes) -> None:
    """Refuse an array of too many elements before an object is made for each of them."""
    structure = _outside_strings(data, _NOT_STRUCTURE)
    depths = accumulate(_steps(structure))
    at_commas = compress(depths, map(b","[0].__eq__, structure))
    if bytes(at_commas).count(1) >= MESSAGE_COUNT_MAX:
        raise TooLarge(f"the body has more than {MESSAGE_COUNT_MAX} messages: send several")


def _outside_strings(data: bytes, deleted: bytes) -> bytes:
    """The structure of JSON: ``data`` without its strings and the ``deleted`` bytes.

    Exact up to the first error of grammar, behind which nothing is parsed.
    """
    if b"\\" in data:
        # Pairs first, so that a quote behind an escaped backslash stays one.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    kept = data.translate(None, deleted).replace(b'""', b"")
    return b"".join(kept.split(b'"')[::2])


def _steps(structure: bytes) -> memoryview:
    return memoryview(structure.translate(_STEPS)).cast("b")
