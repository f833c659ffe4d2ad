"""What the server refuses by itself, before a store is asked. ``status`` maps it to HTTP."""

from __future__ import annotations

from ..protocol.errors import StreamError


class ClientGone(Exception):
    """The connection ended before its answer was there: nobody waits for one."""


class RequestTimeout(StreamError):
    """The body stopped arriving."""


class Overloaded(StreamError):
    """The bodies of all requests together are more than may be held in memory."""


class UnsupportedEncoding(StreamError):
    """The body is compressed: stored as it is, it would be served as something else."""
