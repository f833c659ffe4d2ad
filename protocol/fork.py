"""Where a fork branches off (sections 14.1 to 14.3)."""

from __future__ import annotations

from typing import Protocol

from .errors import ForkSourceGone, ForkSourceNotFound, InvalidForkOffset, OffsetGone
from .expiry import is_expired
from .headers import is_json
from .offset import format_offset
from .state import StreamState


class Boundaries(Protocol):
    """What only the store knows: where the appends and messages of a stream end.

    Positions in the part that a fork inherits are its source's, and its ``base`` ends the
    last append of that part.
    """

    def is_boundary(self, position: int) -> bool:
        """Whether the stream handed out this position, from its earliest to its tail."""
        ...

    def message_end(self, start: int, count: int) -> int | None:
        """The end of the ``count``-th message behind the boundary ``start``.

        None if the append behind ``start`` has fewer. An append to a byte stream is one
        message; where a fork's ``base`` cuts an append, it ends there.
        """
        ...


def require_source(path: str, source: StreamState | None, now_ms: int) -> StreamState:
    """Raises: ForkSourceNotFound; ForkSourceGone if only forks still use it."""
    if source is None:
        raise ForkSourceNotFound(f"{path}: no such stream to fork from")
    gone = source.soft_deleted
    if not gone and is_expired(source, now_ms):
        if not source.ref_count:
            raise ForkSourceNotFound(f"{path}: no such stream to fork from; it has expired")
        gone = True
    if gone:
        raise ForkSourceGone(f"{path}: deleted or expired, and kept only for the forks it has")
    return source


def resolve_fork_point(
    source: StreamState, boundaries: Boundaries | None, fork_offset: int | None, sub_offset: int
) -> tuple[int, int]:
    """The position where the fork's own data begins, and the fork offset that it stems from.

    Raises: InvalidForkOffset, OffsetGone.
    """
    anchor = source.tail if fork_offset is None else fork_offset
    if anchor != source.tail:
        _require_anchor(source, boundaries, anchor)
    if sub_offset == 0:
        return anchor, anchor
    if anchor == source.tail:
        raise InvalidForkOffset(
            f"{source.path}: nothing follows the tail {format_offset(anchor)}; "
            "a sub-offset needs a fork offset before it"
        )
    return _resolve_sub_offset(source, boundaries, anchor, sub_offset), anchor


def _require_anchor(source: StreamState, boundaries: Boundaries | None, anchor: int) -> None:
    if anchor > source.tail:
        raise InvalidForkOffset(
            f"{source.path}: fork offset {format_offset(anchor)} is beyond the tail "
            f"{format_offset(source.tail)}"
        )
    if anchor < source.earliest:
        raise OffsetGone(source.path, format_offset(source.earliest))
    if boundaries is None or not boundaries.is_boundary(anchor):
        raise InvalidForkOffset(
            f"{source.path}: fork offset {format_offset(anchor)} was never handed out by it"
        )


def _resolve_sub_offset(
    source: StreamState, boundaries: Boundaries | None, anchor: int, sub_offset: int
) -> int:
    assert boundaries is not None, "asked for the anchor before"
    if is_json(source.content_type):
        unit, end = "messages", boundaries.message_end(anchor, sub_offset)
    else:
        unit, append_end = "bytes", boundaries.message_end(anchor, 1)
        fits = append_end is not None and anchor + sub_offset <= append_end
        end = anchor + sub_offset if fits else None
    if end is None:
        raise InvalidForkOffset(
            f"{source.path}: the append at {format_offset(anchor)} has fewer than "
            f"{sub_offset} {unit}"
        )
    return end
