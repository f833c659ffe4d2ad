"""May this close happen (sections 5.2, 5.3 and 7)? A close without data, that is.

The close that comes with an append is part of ``append``'s decision.
"""

from __future__ import annotations

from msgspec.structs import replace

from .decision import Accepted
from .errors import StreamClosed
from .offset import format_offset
from .producer import ProducerRequest, decide_producer
from .results import CloseResult, ProducerResult
from .state import ClosedBy, ProducerState, StreamState


def decide_close(
    state: StreamState,
    known: ProducerState | None,
    request: ProducerRequest | None,
    now_ms: int,
) -> Accepted[CloseResult] | CloseResult:
    """Decide on a live stream; ``known`` is what is known of the request's producer.

    A returned CloseResult changes nothing; it counts as access (section 13) unless its
    producer was refused.

    Raises: StreamClosed, if a producer's close finds the stream closed by another request.
    """
    offset = format_offset(state.tail)
    if state.closed:
        return CloseResult(
            offset, already_closed=True, producer=answer_closed(state, known, request)
        )
    outcome = decide_producer(known, request) if request is not None else None
    if outcome is not None and outcome.status != "accepted":
        return CloseResult(offset, already_closed=False, stream_closed=False, producer=outcome)
    return Accepted(
        closed_state(state, request, now_ms),
        ProducerState(request.epoch, request.seq, now_ms) if request is not None else None,
        CloseResult(offset, already_closed=False, producer=outcome),
    )


def answer_closed(
    state: StreamState, known: ProducerState | None, request: ProducerRequest | None
) -> ProducerResult | None:
    """What a closed stream answers to a close-only request (section 5.2)."""
    if request is None:
        return None
    if request.closed(state.closed_by):
        return ProducerResult("duplicate", request.producer_id, request.epoch, request.seq)
    raise refuse_closed(state, known)


def refuse_closed(state: StreamState, known: ProducerState | None) -> StreamClosed:
    """The refusal that tells a producer what was accepted of it (21, decisions 2 and 3)."""
    return StreamClosed(
        state.path,
        format_offset(state.tail),
        known.epoch if known is not None else None,
        known.last_seq if known is not None else None,
    )


def closed_state(state: StreamState, request: ProducerRequest | None, now_ms: int) -> StreamState:
    return replace(
        state,
        closed=True,
        closed_by=closing_tuple(request),
        last_accessed_at=max(now_ms, state.last_accessed_at),
    )


def closing_tuple(request: ProducerRequest | None) -> ClosedBy | None:
    return ClosedBy(request.producer_id, request.epoch, request.seq) if request else None
