"""From a request body to wire bytes: what a stream stores of an append (section 8).

A byte stream stores the body. A JSON stream stores each message's own bytes, trimmed of the
white space around it, and a comma; one level of array is flattened. Nothing is parsed into
values and encoded again: numbers, escapes, key order and duplicate keys stay as sent.
"""

from __future__ import annotations

from array import array

import msgspec

from .errors import EmptyAppend, InvalidJson, InvalidRequest
from .headers import is_json
from .json_body import split_messages
from .results import Bytes


class Payload(msgspec.Struct, frozen=True):
    """``data`` are wire bytes; ``message_sizes`` uint32, their sum is ``len(data)``.

    Without sizes the data is one message (or empty).
    """

    data: Bytes
    message_sizes: array[int] | None = None

    @property
    def size(self) -> int:
        return len(self.data)


EMPTY = Payload(b"")


def prepare_payload(
    content_type: str, data: Bytes, *, depth_max: int, is_create: bool = False
) -> Payload:
    """Validate a body for a stream of ``content_type`` and bring it into wire form.

    Args:
        data: bytes-like, one-dimensional bytes. A byte stream's payload is this very object.
        depth_max: nesting that a JSON body may have.
        is_create: the body of the request that creates the stream, which may be empty.

    Raises: InvalidJson; EmptyAppend for zero bytes or an empty array, unless ``is_create``.
    """
    if not len(data):
        return _empty(is_create, "no bytes")
    if not is_json(content_type):
        return Payload(data)
    messages = split_messages(data if isinstance(data, bytes) else bytes(data), depth_max)
    if len(messages) == 1:
        return Payload(b"%b," % messages[0])
    if not messages:
        return _empty(is_create, "an empty array")
    sizes = array("I", [len(message) + 1 for message in messages])
    return Payload(b"%b," % b",".join(messages), sizes)


def payload_or_refusal(
    content_type: str, data: Bytes, *, depth_max: int, is_create: bool = False
) -> Payload | InvalidRequest:
    """``prepare_payload`` with its refusal as a value.

    The rules judge a body last (4.2, step 12), a store prepares it first, outside its locks.
    """
    try:
        return prepare_payload(content_type, data, depth_max=depth_max, is_create=is_create)
    except (InvalidJson, EmptyAppend) as refusal:
        return refusal


def _empty(is_create: bool, what: str) -> Payload:
    if is_create:
        return EMPTY
    raise EmptyAppend(f"the append carries {what}: send at least one byte or one message")
