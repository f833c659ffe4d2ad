"""Entity tags of ranges of a stream, and conditional reads (section 12)."""

from __future__ import annotations

import re

_ENTITY_TAG = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')


def entity_tag(incarnation: int, start: int, end: int, *, closed: bool) -> str:
    """A quoted tag that no other bytes and no other end-of-stream mark ever had.

    ``incarnation`` keeps a re-created path apart, ``closed`` the last range of a stream
    before and after its close.
    """
    mark = ":c" if closed else ""
    return f'"{incarnation:x}:{start}:{end}{mark}"'


def is_none_match(if_none_match: str | None, tag: str) -> bool:
    """Whether ``If-None-Match`` names ``tag``, so that 304 is the answer.

    Lists, weak tags and ``*`` count, as RFC 9110 has it; a malformed value matches nothing.
    """
    if if_none_match is None:
        return False
    if if_none_match.strip(" \t") == "*":
        return True
    return tag in _ENTITY_TAG.findall(if_none_match)
