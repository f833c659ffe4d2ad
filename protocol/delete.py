"""What goes when a stream goes, deleted or expired (sections 4.3 and 14.6).

A stream that forks still name as their source stays, soft-deleted: its bytes are part of
theirs. With its last fork it goes, too, and so on up the chain.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from .expiry import is_expired
from .state import StreamState


class Removal(msgspec.Struct, frozen=True):
    """One stream of a deletion: ``after`` is None if it is gone, data and all."""

    before: StreamState
    after: StreamState | None


def decide_delete(
    state: StreamState, lookup: Callable[[int], StreamState], now_ms: int
) -> list[Removal]:
    """Everything that the end of ``state`` changes, itself first, as one atomic step.

    ``lookup`` gives the present state of a source by its stream id; a source outlives its
    forks, so it is there. Iterative: a chain of forks may be long.
    """
    if state.ref_count:
        return [Removal(state, replace(state, soft_deleted=True))]
    removals = [Removal(state, None)]
    while state.source_id is not None:
        source = lookup(state.source_id)
        assert source.ref_count > 0, "a source knows its forks"
        if source.ref_count > 1 or not (source.soft_deleted or is_expired(source, now_ms)):
            removals.append(Removal(source, replace(source, ref_count=source.ref_count - 1)))
            break
        removals.append(Removal(source, None))
        state = source
    return removals
