"""Steps of an import: streams and appends that were decided on elsewhere, logged as they are.

The rules are not asked again: what they answered then is what is imported. As every step these
run under the store's lock, and never wait.
"""

from __future__ import annotations

from msgspec.structs import replace

from ..protocol.errors import StreamNotFound
from ..protocol.payload import EMPTY, Payload
from ..protocol.producer import ProducerRequest
from ..protocol.retention import noted_append
from ..protocol.state import ClosedBy, ProducerState, StreamState
from .entry import Entry
from .operations import Operations
from .step import Seen


def adopt(
    operations: Operations, seen: Seen, state: StreamState
) -> tuple[Entry, StreamState, bool]:
    """The stream at a path; if there is none, a new one as ``state`` says, but for its id.

    Returns also whether it is new. Raises: Cold, StreamGone.
    """
    binding = operations.current(seen, state.path)
    is_new = binding.reserved is None or binding.reserved.reserved is None
    if is_new:
        created = replace(state, stream_id=operations.next_stream_id)
        operations.log_create(seen, binding, created, EMPTY)
    return (*operations.live(seen, state.path), is_new)


def adopt_append(
    operations: Operations,
    seen: Seen,
    entry: Entry,
    payload: Payload | None,
    *,
    at: int = 0,
    seq: str | None = None,
    producer: ProducerRequest | None = None,
    close: bool = False,
) -> None:
    """An append, or a producer's state, or the close.

    Args:
        at: when it was, Unix ms; not before the last access that is known.

    Raises: Cold, StreamNotFound.
    """
    state = entry.reserved
    if state is None:
        raise StreamNotFound(entry.origin.path)
    size = payload.size if payload is not None else 0
    after = replace(
        state,
        tail=state.tail + size,
        closed=close,
        last_seq=state.last_seq if seq is None else seq,
        last_accessed_at=max(at, state.last_accessed_at),
    )
    known = None
    if producer is not None:
        known = ProducerState(producer.epoch, producer.seq, after.last_accessed_at)
        if close:
            by = ClosedBy(producer.producer_id, producer.epoch, producer.seq)
            after = replace(after, closed_by=by)
    if size:
        after = noted_append(after, state.tail, after.last_accessed_at)
    operations.log_append(seen, entry, after, known, producer, seq, payload)
