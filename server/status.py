"""Errors of the store and of the rules as answers: the only place that maps them to HTTP.

Refusals speak to the client in their own words. Trouble of the medium is told to the
operator in the log; the client learns what it can do, and no file name.
"""

from __future__ import annotations

import logging

from ..engine import errors as engine
from ..protocol import errors as protocol
from .answer import Answer, text_answer
from .asgi_types import Header
from .errors import Overloaded, RequestTimeout, UnsupportedEncoding

logger = logging.getLogger("durastream.server")

REFUSALS: dict[type[protocol.StreamError], int] = {
    protocol.InvalidRequest: 400,
    protocol.StreamNotFound: 404,
    protocol.ForkSourceNotFound: 404,
    protocol.Conflict: 409,
    protocol.StreamGone: 410,
    protocol.OffsetGone: 410,
    protocol.TooLarge: 413,
    RequestTimeout: 408,
    UnsupportedEncoding: 415,
    Overloaded: 503,
}

# Status, seconds after which trying again may help, and what the client is told.
TROUBLE: dict[type[protocol.StreamError], tuple[int, int | None, str]] = {
    engine.StoreBusy: (503, 1, "more is waiting for the disk than is allowed: try again"),
    engine.StoreFull: (507, 30, "the disk is full: reads go on, writes wait for space"),
    engine.StoreStalled: (503, 10, "no space for it now; it may yet come about: look, then retry"),
    engine.StoreFailed: (503, 10, "a write to the disk failed: no writes until a restart"),
    engine.ReadOnly: (503, 60, "the store is damaged and open read-only; see the server's log"),
    engine.StoreClosed: (503, 1, "the server is shutting down: try again"),
    engine.StreamQuarantined: (503, 60, "this stream is damaged: readable up to the damage"),
    engine.Damaged: (500, None, "stored data of this stream is damaged; see the server's log"),
    engine.StorageError: (503, 10, "the store cannot be used now; see the server's log"),
}


# The store says in the log when these begin, and when they end: not again at each request.
_SAID_BY_STORE = (
    engine.StoreBusy,
    engine.StoreFull,
    engine.StoreStalled,
    engine.StoreFailed,
    engine.ReadOnly,
    engine.StoreClosed,
    engine.StreamQuarantined,
)


def refusal(error: protocol.StreamError) -> Answer:
    """The answer to a request that ended with ``error``."""
    for kind in type(error).__mro__:
        if kind in REFUSALS:
            return text_answer(REFUSALS[kind], str(error), *_facts(error))
        if kind in TROUBLE:
            return _trouble(error, *TROUBLE[kind])
    return failure(error)


def failure(error: BaseException) -> Answer:
    """The answer to what nobody expected; the log has the traceback."""
    logger.error("request failed", exc_info=error)
    return text_answer(500, "internal error; see the server's log")


def _trouble(error: protocol.StreamError, status: int, retry: int | None, text: str) -> Answer:
    if not isinstance(error, _SAID_BY_STORE):
        logger.error("%d: %s", status, error)
    headers = [] if retry is None else [(b"retry-after", b"%d" % retry)]
    return text_answer(status, text, *headers)


def _facts(error: protocol.StreamError) -> list[Header]:
    """Headers that let a client go on by itself (sections 4.2 and 5.2)."""
    if isinstance(error, Overloaded):
        return [(b"retry-after", b"1")]
    if isinstance(error, protocol.OffsetGone):
        return [(b"stream-earliest-offset", error.earliest_offset.encode("ascii"))]
    if not isinstance(error, protocol.StreamClosed):
        return []
    headers = [
        (b"stream-closed", b"true"),
        (b"stream-next-offset", error.final_offset.encode("ascii")),
    ]
    if error.producer_epoch is not None:
        headers.append((b"producer-epoch", b"%d" % error.producer_epoch))
    if error.producer_seq is not None:
        headers.append((b"producer-seq", b"%d" % error.producer_seq))
    return headers
