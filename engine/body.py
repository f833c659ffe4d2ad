"""The body of a request on its way to wire bytes: prepared once, large ones off the lock."""

from __future__ import annotations

from ..protocol.errors import InvalidRequest
from ..protocol.payload import Payload, payload_or_refusal
from ..protocol.results import Bytes
from .catalog import Cold

INLINE_SIZE_MAX = 16 * 1024  # bytes; parsing these costs some microseconds


class Body:
    """A body whose form depends on the stream's content type."""

    __slots__ = ("_content_type", "_data", "_depth_max", "_is_create", "_payload")

    def __init__(self, data: Bytes, depth_max: int, *, is_create: bool = False) -> None:
        # The caller may use its buffer again while the step waits, for a row or for a worker.
        self._data = data if isinstance(data, bytes) else bytes(data)
        self._depth_max = depth_max
        self._is_create = is_create
        self._content_type: str | None = None
        self._payload: Payload | InvalidRequest | None = None

    def payload(self, content_type: str) -> Payload | InvalidRequest:
        """The payload for a stream of this type, or why there is none. Raises: Cold."""
        if self._payload is None or self._content_type != content_type:
            if len(self._data) > INLINE_SIZE_MAX:
                raise Cold(lambda: self.prepare(content_type))
            self.prepare(content_type)
        assert self._payload is not None
        return self._payload

    def prepare(self, content_type: str) -> None:
        """Do the work of ``payload`` now."""
        self._payload = payload_or_refusal(
            content_type, self._data, depth_max=self._depth_max, is_create=self._is_create
        )
        self._content_type = content_type
