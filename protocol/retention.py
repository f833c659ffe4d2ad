"""How far the beginning of a stream moves on: by age and by bytes (docs/protocol.md, "Retention").

A stream's *marks* say when appends began where, some sixteen for each period of its retention:
what lies before a mark is at least as old. Both are functions of what was appended, so that every
store, and whoever replays a log, has the same ones. Nothing here looks at a clock or at data.
"""

from __future__ import annotations

from msgspec.structs import replace

from .expiry import deadline_ms
from .state import Mark, Retention, StreamState

MARKS_PER_PERIOD = 16
MARKS_MAX = 32  # if nobody trims for long, the oldest ones say nothing that newer do not
BYTES_SLACK = 16  # a sixteenth more than is kept may gather before it is dropped


def noted_append(state: StreamState, start: int, now_ms: int) -> StreamState:
    """The state after data was appended at ``start``, and ``tail`` moved."""
    retention = state.retention
    if retention is None or retention.seconds is None:
        return state
    marks, interval_ms = state.marks, 1000 * retention.seconds // MARKS_PER_PERIOD
    if not marks or now_ms - marks[-1].at >= interval_ms:
        marks = (*marks[1 - MARKS_MAX :], Mark(now_ms, start))
    return replace(state, marks=marks, appended_at=max(now_ms, state.appended_at))


def trim_due_ms(state: StreamState) -> int | None:
    """When something of the stream becomes too old; None if nothing ever does."""
    retention = state.retention
    if retention is None or retention.seconds is None or state.soft_deleted:
        return None
    if state.earliest >= state.tail:
        return None
    at = next((mark.at for mark in state.marks if mark.position > state.earliest), None)
    return (state.appended_at if at is None else at) + 1000 * retention.seconds


def too_old_below(state: StreamState, now_ms: int) -> int:
    """The position below which everything is too old; ``earliest`` if nothing is."""
    due = trim_due_ms(state)
    if due is None or due > now_ms or state.retention is None or state.retention.seconds is None:
        return state.earliest
    limit = now_ms - 1000 * state.retention.seconds
    if state.appended_at <= limit:
        return state.tail
    below = [mark.position for mark in state.marks if mark.at <= limit]
    return max(state.earliest, *below, 0)


def too_many_below(state: StreamState) -> int:
    """The position below which there are more bytes than are kept; ``earliest`` if not enough.

    The beginning may move to where the append begins that holds this position.
    """
    retention = state.retention
    if retention is None or retention.bytes is None or state.soft_deleted:
        return state.earliest
    position = state.tail - retention.bytes
    slack = max(1, retention.bytes // BYTES_SLACK)
    return position if position - state.earliest >= slack else state.earliest


def is_trim_due(state: StreamState, now_ms: int) -> bool:
    """Whether the beginning may move now."""
    return state.earliest < max(too_old_below(state, now_ms), too_many_below(state))


def trimmed(state: StreamState, earliest: int) -> StreamState:
    """The state once everything below ``earliest``, where an append ends, was given up."""
    marks = tuple(mark for mark in state.marks if mark.position > earliest)
    return replace(state, earliest=earliest, marks=marks)


def next_event_ms(state: StreamState) -> int | None:
    """When a sweeper must look at the stream next: its end, or its beginning moves."""
    times = [due for due in (deadline_ms(state), trim_due_ms(state)) if due is not None]
    return None if state.soft_deleted or not times else min(times)


def listed_event_ms(state: StreamState) -> int | None:
    """The same for a table that a sweeper goes by: 0 if too many bytes are there already."""
    return 0 if too_many_below(state) > state.earliest else next_event_ms(state)


def has_events(state: StreamState) -> bool:
    """Whether ``listed_event_ms`` is, or was at any time, another than None."""
    return state.retention is not None or deadline_ms(state) is not None


def combined(seconds: int | None, size: int | None, default: Retention | None) -> Retention | None:
    """What was asked for; where nothing was, the default."""
    if seconds is None and size is None:
        return default
    return Retention(
        seconds if seconds is not None or default is None else default.seconds,
        size if size is not None or default is None else default.bytes,
        seconds is not None,
        size is not None,
    )


def is_equal(asked: Retention | None, existing: Retention | None) -> bool:
    """Whether a stream has the retention asked for; of defaults, any will do."""
    a, b = asked or _NONE, existing or _NONE
    return (a.seconds == b.seconds or not (a.seconds_given or b.seconds_given)) and (
        a.bytes == b.bytes or not (a.bytes_given or b.bytes_given)
    )


_NONE = Retention()
