"""When a stream ends by itself, and what puts that off (section 13).

Times are Unix times in ms, passed in. A store asks on every access, so that no sweeper's
period matters; a sweeper only finds the streams that nobody asks for.
"""

from __future__ import annotations

from msgspec.structs import replace

from .state import StreamState


def deadline_ms(state: StreamState) -> int | None:
    """The instant from which on the stream is expired; None if it never ends by itself."""
    if state.ttl_seconds is not None:
        return state.last_accessed_at + 1000 * state.ttl_seconds
    return state.expires_at_ms


def is_expired(state: StreamState, now_ms: int) -> bool:
    deadline = deadline_ms(state)
    return deadline is not None and now_ms >= deadline


def touch(state: StreamState, now_ms: int) -> StreamState:
    """The state after an access: reads, accepted and duplicate appends, closes.

    HEAD, refused requests, an idempotent PUT and being forked are no access. A clock that
    was set back does not shorten the life of a stream.
    """
    if state.ttl_seconds is None or now_ms <= state.last_accessed_at:
        return state
    return replace(state, last_accessed_at=now_ms)
