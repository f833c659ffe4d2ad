"""May this append happen, and what does it change (sections 4.2, 5, 6)?

The order of the checks is the protocol's and must not be changed: closed, content type,
producer, Stream-Seq, JSON. A refusal changes nothing: neither producer nor Stream-Seq are
used up by a body that is refused afterwards.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from .close import closing_tuple, decide_close, refuse_closed
from .decision import Accepted
from .errors import (
    ContentTypeMismatch,
    EmptyAppend,
    InvalidRequest,
    SequenceConflict,
    TooLarge,
)
from .headers import media_type
from .offset import POSITION_MAX, format_offset
from .payload import Payload
from .producer import ProducerRequest, decide_producer
from .results import AppendResult, CloseResult, ProducerResult
from .retention import noted_append
from .state import ProducerState, StreamState


class AppendRequest(msgspec.Struct, frozen=True):
    """One append as asked for. ``content_type`` None means the stream's."""

    is_empty: bool  # the body has zero bytes
    content_type: str | None = None
    seq: str | None = None  # Stream-Seq
    producer: ProducerRequest | None = None
    close: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it asks for no more than that its bytes be appended."""
        return self.producer is None and self.seq is None and not self.close and not self.is_empty


def decide_append(
    state: StreamState,
    known: ProducerState | None,
    request: AppendRequest,
    payload: Payload | InvalidRequest,
    now_ms: int,
) -> Accepted[AppendResult] | AppendResult:
    """Decide on a live stream; ``known`` is what is known of the request's producer.

    Without bytes and with ``close`` it is a close (section 7), whatever the content type.
    ``payload`` is the body prepared for this very stream, or why it cannot be: judged last.
    A returned AppendResult changes nothing; as a duplicate it counts as access (section 13).

    Raises: EmptyAppend, StreamClosed, ContentTypeMismatch, SequenceConflict, TooLarge, and
    ``payload`` if that is a refusal.
    """
    if request.is_empty:
        if request.close:
            return _close(state, known, request.producer, now_ms)
        raise EmptyAppend("the append carries no bytes: send data, or Stream-Closed to close")
    producer = request.producer
    if state.closed:
        if producer is not None and producer.closed(state.closed_by):
            return _unchanged(state, _duplicate(producer))
        raise refuse_closed(state, known)
    if request.content_type is not None:
        _require_same_type(state, request.content_type)
    outcome = None
    if producer is not None:
        outcome = decide_producer(known, producer)
        if outcome.status != "accepted":
            return _unchanged(state, outcome)
    if request.seq is not None:
        _require_greater_seq(state, request.seq)
    if not isinstance(payload, Payload):
        raise payload
    return _accept(state, request, payload.size, outcome, now_ms)


def _accept(
    state: StreamState,
    request: AppendRequest,
    size: int,
    outcome: ProducerResult | None,
    now_ms: int,
) -> Accepted[AppendResult]:
    tail = state.tail + size
    if tail > POSITION_MAX:
        raise TooLarge(f"{state.path}: full; offsets end at {POSITION_MAX} bytes")
    producer = request.producer
    after = replace(
        state,
        tail=tail,
        closed=request.close,
        closed_by=closing_tuple(producer) if request.close else None,
        last_seq=state.last_seq if request.seq is None else request.seq,
        last_accessed_at=max(now_ms, state.last_accessed_at),
    )
    return Accepted(
        noted_append(after, state.tail, after.last_accessed_at),
        ProducerState(producer.epoch, producer.seq, now_ms) if producer is not None else None,
        AppendResult(format_offset(tail), True, request.close, outcome),
    )


def _close(
    state: StreamState,
    known: ProducerState | None,
    producer: ProducerRequest | None,
    now_ms: int,
) -> Accepted[AppendResult] | AppendResult:
    decision = decide_close(state, known, producer, now_ms)
    if isinstance(decision, CloseResult):
        return _as_append(decision)
    return Accepted(decision.state, decision.producer, _as_append(decision.result))


def _as_append(result: CloseResult) -> AppendResult:
    return AppendResult(result.final_offset, False, result.stream_closed, result.producer)


def _unchanged(state: StreamState, outcome: ProducerResult) -> AppendResult:
    return AppendResult(format_offset(state.tail), False, state.closed, outcome)


def _duplicate(producer: ProducerRequest) -> ProducerResult:
    return ProducerResult("duplicate", producer.producer_id, producer.epoch, producer.seq)


def _require_same_type(state: StreamState, content_type: str) -> None:
    if media_type(content_type) != media_type(state.content_type):
        raise ContentTypeMismatch(
            f"{state.path}: holds {state.content_type}, not {content_type}; "
            "append with the stream's own content type"
        )


def _require_greater_seq(state: StreamState, seq: str) -> None:
    # Code points sort as their UTF-8 bytes do, so this is the comparison byte by byte.
    if state.last_seq is not None and seq <= state.last_seq:
        raise SequenceConflict(state.path, seq, state.last_seq)
