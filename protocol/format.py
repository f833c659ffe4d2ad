"""The body of an answer: wire bytes as they are, or framed as one JSON array (section 8)."""

from __future__ import annotations

from collections.abc import Iterable

from .headers import is_json
from .results import StreamMessage


def format_messages(content_type: str, messages: Iterable[StreamMessage]) -> bytes:
    """One body of all ``messages``; for a JSON stream an array of them, perhaps empty."""
    body = b"".join(message.data for message in messages)
    return b"[%b]" % body[:-1] if is_json(content_type) else body
