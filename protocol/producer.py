"""Idempotent producers: what an (id, epoch, seq) means against what was accepted (section 5.1).

The check for a closed stream comes before, Stream-Seq and JSON after: see ``append``.
"""

from __future__ import annotations

import msgspec

from .results import ProducerResult
from .state import ClosedBy, ProducerState


class ProducerRequest(msgspec.Struct, frozen=True):
    """The tuple that came with a request; both numbers from 0 to 2^53 - 1."""

    producer_id: str
    epoch: int
    seq: int

    def closed(self, closed_by: ClosedBy | None) -> bool:
        """Whether this very request closed the stream (section 5.2)."""
        return (
            closed_by is not None
            and self.seq == closed_by.seq
            and self.epoch == closed_by.epoch
            and self.producer_id == closed_by.producer_id
        )


def decide_producer(known: ProducerState | None, request: ProducerRequest) -> ProducerResult:
    """The table of section 5.1, for an open stream."""
    producer_id, epoch, seq = request.producer_id, request.epoch, request.seq
    if known is None:
        if seq == 0:
            return ProducerResult("accepted", producer_id, epoch, seq)
        return _gap(request, expected_seq=0)
    if epoch < known.epoch:
        return ProducerResult("stale_epoch", producer_id, known.epoch, known.last_seq)
    if epoch > known.epoch:
        if seq == 0:
            return ProducerResult("accepted", producer_id, epoch, seq)
        return ProducerResult("invalid_epoch_seq", producer_id, known.epoch, known.last_seq)
    if seq <= known.last_seq:
        return ProducerResult("duplicate", producer_id, epoch, known.last_seq)
    if seq == known.last_seq + 1:
        return ProducerResult("accepted", producer_id, epoch, seq)
    return _gap(request, expected_seq=known.last_seq + 1)


def _gap(request: ProducerRequest, *, expected_seq: int) -> ProducerResult:
    return ProducerResult(
        "sequence_gap",
        request.producer_id,
        request.epoch,
        expected_seq=expected_seq,
        received_seq=request.seq,
    )
