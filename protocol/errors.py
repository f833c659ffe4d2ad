"""Every refusal the rules know. Nothing here may mention HTTP: server/status.py maps them.

A refusal changes nothing. Each error says what is wrong and what to do, and carries the
facts a front end needs for its answer as attributes.
"""

from __future__ import annotations


class StreamError(Exception):
    """Base of all errors that a caller is expected to handle."""


class InvalidRequest(StreamError):
    """Malformed input: sending the same again cannot succeed."""


class InvalidOffset(InvalidRequest):
    """The offset is not one that this stream ever handed out (section 10)."""


class InvalidJson(InvalidRequest):
    """The body is not valid JSON, or nests deeper than the limit (section 8)."""


class EmptyAppend(InvalidRequest):
    """An append carries no bytes, or an empty JSON array (sections 4.2 and 8)."""


class InvalidContentType(InvalidRequest):
    """Not a media type (section 3.1)."""


class InvalidForkOffset(InvalidRequest):
    """The fork offset or sub-offset does not exist in the source (section 14)."""


class TooLarge(StreamError):
    """Body, path or chain of forks above a configured limit (section 17)."""


class StreamNotFound(StreamError):
    """No such stream: never created, deleted, or expired."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: no such stream")
        self.path = path


class StreamGone(StreamError):
    """Deleted or expired, and kept only because forks still need its bytes (section 14.6)."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: deleted; its data is kept only for its forks")
        self.path = path


class OffsetGone(StreamError):
    """The offset lies before the earliest position that retention kept (section 1, rule 6)."""

    def __init__(self, path: str, earliest_offset: str) -> None:
        super().__init__(
            f"{path}: data before offset {earliest_offset} was dropped by retention; read from "
            "there, or from -1"
        )
        self.path = path
        self.earliest_offset = earliest_offset


class Conflict(StreamError):
    """The request contradicts what is there."""


class StreamExists(Conflict):
    """The path is taken by a stream of another configuration (section 4.1)."""


class ForkSourceNotFound(StreamError):
    """The stream to fork from does not exist (section 14.3)."""


class ForkSourceGone(Conflict):
    """The stream to fork from is deleted and kept only for other forks (section 14.3)."""


class ContentTypeMismatch(Conflict):
    """The media type differs from the stream's (sections 3.1 and 14.3)."""


class SequenceConflict(Conflict):
    """``Stream-Seq`` is not greater than the last one accepted (section 6)."""

    def __init__(self, path: str, received: str, last: str) -> None:
        super().__init__(
            f"{path}: Stream-Seq {received!r} is not greater than {last!r}; "
            "another writer was first, or this append was already made"
        )
        self.path = path
        self.received = received
        self.last = last


class StreamClosed(Conflict):
    """The stream is at its end; ``final_offset`` is its last readable position (section 7).

    ``producer_epoch`` and ``producer_seq`` are the last accepted ones of the refused
    producer, if it is known, so that it can see whether its batch was accepted before.
    """

    def __init__(
        self,
        path: str,
        final_offset: str,
        producer_epoch: int | None = None,
        producer_seq: int | None = None,
    ) -> None:
        super().__init__(f"{path}: closed at {final_offset}; a closed stream takes no appends")
        self.path = path
        self.final_offset = final_offset
        self.producer_epoch = producer_epoch
        self.producer_seq = producer_seq
