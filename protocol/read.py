"""Where a read begins, and what its end means (sections 4.5, 4.6 and 10)."""

from __future__ import annotations

from collections.abc import Callable

from .errors import InvalidOffset, OffsetGone
from .offset import NOW, START, format_offset, parse_offset
from .state import StreamState


def resolve_offset(
    state: StreamState, offset: str | None, is_boundary: Callable[[int], bool]
) -> int:
    """The position that ``offset`` names in a live stream; None is the start.

    ``is_boundary`` tells whether the stream ever handed out a position between its earliest
    one and its tail. The start of a trimmed stream is the earliest position kept.

    Raises: InvalidOffset if malformed, beyond the tail or never handed out; OffsetGone.
    """
    start = START if offset is None else parse_offset(offset)
    if start is START:
        return state.earliest
    if start is NOW:
        return state.tail
    if start == state.tail:
        return start
    if start > state.tail:
        raise InvalidOffset(
            f"{state.path}: offset {offset} is beyond the tail {format_offset(state.tail)}"
        )
    if start < state.earliest:
        raise OffsetGone(state.path, format_offset(state.earliest))
    if not is_boundary(start):
        raise InvalidOffset(f"{state.path}: offset {offset} was never handed out by this stream")
    return start


def is_up_to_date(state: StreamState, end: int) -> bool:
    """Whether a range that ends at ``end`` reaches the tail."""
    return end == state.tail


def is_end(state: StreamState, end: int) -> bool:
    """Whether nothing will ever come behind ``end``: the only sign of EOF (section 7)."""
    return state.closed and end == state.tail
