"""Offsets: the tokens that clients store and hand back (section 10).

A token is a position in a stream's wire bytes, printed at fixed width so that tokens sort as
text in the order of the positions. Clients must treat it as opaque. Whether a well-formed
token names a position of a given stream is ``read``'s to judge.
"""

from __future__ import annotations

import enum
import re
from typing import Final, Literal

from .errors import InvalidOffset

POSITION_MAX: Final = 10**16 - 1  # what sixteen digits hold


class Sentinel(enum.Enum):
    START = "-1"
    NOW = "now"


START: Final = Sentinel.START
NOW: Final = Sentinel.NOW
Start = int | Literal[Sentinel.START, Sentinel.NOW]

_TOKEN = re.compile(r"0{16}_([0-9]{16})", re.ASCII)


def format_offset(position: int) -> str:
    """The token of ``position``, bytes from the start of the stream."""
    return f"0000000000000000_{position:016d}"


def parse_offset(token: str) -> Start:
    """The position that ``token`` names, or one of START and NOW.

    Raises: InvalidOffset for everything else; nothing is trimmed or tolerated.
    """
    match = _TOKEN.fullmatch(token)
    if match is not None:
        return int(match[1])
    if token == "-1":
        return START
    if token == "now":
        return NOW
    raise InvalidOffset(
        f"{token[:80]!r} is no offset: use -1, now, or a value of Stream-Next-Offset as received"
    )


def parse_position(token: str) -> int:
    """The position that ``token`` names, where sentinels have no meaning (section 14.1).

    Raises: InvalidOffset.
    """
    position = parse_offset(token)
    if isinstance(position, Sentinel):
        raise InvalidOffset(f"{token} is no position here: use a value of Stream-Next-Offset")
    return position
