"""The shape of a decision to change a stream, common to append and close."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from .results import AppendResult, CloseResult
from .state import ProducerState, StreamState

Result = TypeVar("Result", AppendResult, CloseResult)


class Accepted(msgspec.Struct, Generic[Result], frozen=True):
    """The change to log as one record, and the answer once it is durable."""

    state: StreamState  # the stream after it
    producer: ProducerState | None  # the request's producer after it
    result: Result
