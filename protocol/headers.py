"""Grammars of header values (section 3.1): text in, a value or InvalidRequest out.

Matches are always of the whole value, ASCII digits only: nothing is trimmed, rounded or
guessed. Which header belongs to which request, and in which order they are judged, is not
decided here.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from .errors import InvalidContentType, InvalidRequest
from .producer import ProducerRequest

NUMBER_MAX: Final = 2**53 - 1  # what every client's JSON parser holds exactly
CONTENT_TYPE_DEFAULT: Final = "application/octet-stream"

_STRICT_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_LOOSE_NUMBER = re.compile(r"0*([0-9]{1,16})", re.ASCII)
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Parameters are not parsed, since nothing depends on them; but the value is echoed in a
# header, so it must be printable and fit into one.
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})(?:[ \t]*;[\t -~\x80-\xff]*)?[ \t]*")
_Instant = Annotated[dt.datetime, msgspec.Meta(tz=True)]
_UNIX_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def parse_ttl(text: str) -> int:
    """``Stream-TTL``: seconds, ``0`` or digits without a leading zero, at most 2^53 - 1."""
    return _strict_number("Stream-TTL", text, "seconds as a plain decimal number")


def parse_sub_offset(text: str) -> int:
    """``Stream-Fork-Sub-Offset``: bytes, or messages of a JSON stream (14.2)."""
    return _strict_number("Stream-Fork-Sub-Offset", text, "a plain decimal number")


def parse_retention(name: str, text: str) -> int:
    """``Stream-Retention-Seconds`` and ``-Bytes``: as a TTL, but at least 1."""
    number = _strict_number(name, text, "a plain decimal number")
    if number < 1:
        raise InvalidRequest(f"{name}: 0 would keep nothing; give at least 1, or leave it out")
    return number


def _strict_number(name: str, text: str, wanted: str) -> int:
    if _STRICT_NUMBER.fullmatch(text) and (number := int(text)) <= NUMBER_MAX:
        return number
    raise InvalidRequest(f"{name}: {text[:80]!r} is not {wanted} from 0 to {NUMBER_MAX}")


def parse_expires_at(text: str) -> int:
    """``Stream-Expires-At``: an RFC 3339 timestamp with a zone; Unix time in ms, rounded down."""
    if _TIMESTAMP.fullmatch(text):
        try:
            instant = msgspec.convert(text.upper(), _Instant)
            return (instant - _UNIX_EPOCH) // dt.timedelta(milliseconds=1)
        except (msgspec.ValidationError, OverflowError):
            pass  # such as a 30th of February
    raise InvalidRequest(
        f"Stream-Expires-At: {text[:80]!r} is no RFC 3339 timestamp such as 2030-01-31T12:00:00Z"
    )


def parse_closed(text: str | None) -> bool:
    """``Stream-Closed``: only ``true``, in any letter case, counts; all else is absent."""
    return text is not None and text.lower() == "true"


def parse_producer(
    producer_id: str | None, epoch: str | None, seq: str | None
) -> ProducerRequest | None:
    """The three ``Producer-*`` headers: all of them or none (section 5)."""
    if producer_id is None and epoch is None and seq is None:
        return None
    if producer_id is None or epoch is None or seq is None:
        raise InvalidRequest("Producer-Id, Producer-Epoch and Producer-Seq go together: send all")
    if not producer_id:
        raise InvalidRequest("Producer-Id: empty")
    return ProducerRequest(
        producer_id,
        parse_producer_number("Producer-Epoch", epoch),
        parse_producer_number("Producer-Seq", seq),
    )


def parse_producer_number(name: str, text: str) -> int:
    """An epoch or a sequence number: digits, leading zeros allowed, at most 2^53 - 1."""
    match = _LOOSE_NUMBER.fullmatch(text)
    if match is not None and (number := int(match[1])) <= NUMBER_MAX:
        return number
    raise InvalidRequest(f"{name}: {text[:80]!r} is not a decimal number from 0 to {NUMBER_MAX}")


@lru_cache(maxsize=1024)
def media_type(content_type: str) -> str:
    """Type and subtype in lower case, without parameters: what is compared (21, decision 12).

    Raises: InvalidContentType.
    """
    match = _MEDIA_TYPE.fullmatch(content_type)
    if match is None:
        raise InvalidContentType(
            f"Content-Type: {content_type[:80]!r} is no media type such as application/json"
        )
    return match[1].lower()


def is_json(content_type: str) -> bool:
    """Whether the stream is one of JSON messages: exactly ``application/json`` (section 8)."""
    return media_type(content_type) == "application/json"


def is_text(content_type: str) -> bool:
    """Whether SSE carries the stream as text (section 9.3)."""
    return media_type(content_type).startswith("text/")
