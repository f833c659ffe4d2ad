"""The ways to ask a store: blocking, awaitable, and over HTTP; each answers with an outcome."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any

from durastream.engine.store import AsyncStore, Store
from durastream.protocol.errors import (
    ForkSourceGone,
    ForkSourceNotFound,
    InvalidForkOffset,
    InvalidOffset,
    SequenceConflict,
    StreamClosed,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durastream.protocol.results import AppendResult, CloseResult, ReadResult, Stream
from histories.operations import (
    BAD_EPOCH,
    BAD_OFFSET,
    BAD_SEQ,
    CLOSED,
    EXISTS,
    GONE,
    MISSING,
    SOURCE_GONE,
    SOURCE_MISSING,
    Append,
    Close,
    Create,
    Delete,
    Head,
    Operation,
    Outcome,
    Producer,
    Read,
    position,
    token,
)
from support.http_client import Answer, Disconnected, HttpClient

REFUSALS: dict[type[StreamError], str] = {
    StreamNotFound: MISSING,
    StreamGone: GONE,
    StreamExists: EXISTS,
    ForkSourceNotFound: SOURCE_MISSING,
    ForkSourceGone: SOURCE_GONE,
    InvalidForkOffset: BAD_OFFSET,
    InvalidOffset: BAD_OFFSET,
    SequenceConflict: BAD_SEQ,
}
TYPE = "text/plain"


# -- a store -------------------------------------------------------------------------------


def ask(store: Store, operation: Operation) -> Outcome:
    """Ask a store and wait. Raises what the protocol does not foresee."""
    name, arguments = _call(operation)
    try:
        return _outcome(operation, getattr(store, name)(**arguments))
    except StreamError as error:
        return _refusal(error)


async def ask_aio(store: AsyncStore, operation: Operation) -> Outcome:
    """The same on an event loop."""
    name, arguments = _call(operation)
    try:
        return _outcome(operation, await getattr(store, name)(**arguments))
    except StreamError as error:
        return _refusal(error)


def _call(operation: Operation) -> tuple[str, dict[str, Any]]:
    path = {"path": operation.path}
    match operation:
        case Create():
            ttl, fork_offset = operation.ttl_ms, operation.fork_offset
            return "create", path | {
                "content_type": None if operation.source is not None else TYPE,
                "initial_data": operation.data,
                "closed": operation.closed,
                "ttl_seconds": None if ttl is None else ttl // 1000,
                "forked_from": operation.source,
                "fork_offset": None if fork_offset is None else token(fork_offset),
            }
        case Append():
            more = {"data": operation.data, "seq": operation.seq, "close": operation.close}
            return "append", path | more | _producer(operation.producer)
        case Close(producer=None):
            return "close_stream", path
        case Close():
            return "close_stream_with_producer", path | _producer(operation.producer)
        case Delete():
            return "delete", path
        case Head():
            return "get", path
        case Read():
            offset = "now" if operation.offset is None else token(operation.offset)
            if operation.wait_ms is None:
                return "read", path | {"offset": offset}
            return "wait_for_messages", path | {"offset": offset, "timeout_ms": operation.wait_ms}


def _producer(producer: Producer | None) -> dict[str, Any]:
    names = ("producer_id", "producer_epoch", "producer_seq")
    return {} if producer is None else dict(zip(names, producer, strict=True))


def _outcome(operation: Operation, result: Any) -> Outcome:
    match result:
        case Stream() if isinstance(operation, Create):
            offset = position(result.current_offset)
            return ("created", offset) if result.created else ("there", offset, result.closed)
        case Stream():
            if result.soft_deleted:
                return (GONE,)
            return "head", position(result.current_offset), result.closed
        case AppendResult():
            return _written(result, result.offset)
        case CloseResult():
            return _written(result, result.final_offset)
        case ReadResult():
            return "read", bytes(result), position(result.next_offset), result.closed
        case None | False:
            return (MISSING,)
        case True:
            return ("deleted",)
    return _outcome(operation, result.result)


def _written(result: AppendResult | CloseResult, offset: str) -> Outcome:
    producer, closed = result.producer, result.stream_closed
    status = "accepted" if producer is None else producer.status
    if producer is not None and status == "stale_epoch":
        return "stale", producer.epoch
    if producer is not None and status == "sequence_gap":
        return "gap", producer.expected_seq
    if status == "invalid_epoch_seq":
        return (BAD_EPOCH,)
    return status, position(offset), closed


def _refusal(error: StreamError) -> Outcome:
    if isinstance(error, StreamClosed):
        return CLOSED, position(error.final_offset)
    if type(error) not in REFUSALS:
        raise error
    return (REFUSALS[type(error)],)


# -- HTTP ----------------------------------------------------------------------------------


class HttpFace:
    """One connection to a server. With ``leaves_after`` it goes without the answer."""

    def __init__(self, port: int) -> None:
        self.client = HttpClient(port, root="")
        self.leaves_after: float | None = None  # seconds

    def ask(self, operation: Operation) -> Outcome:
        """Raises: Disconnected."""
        match operation:
            case Create():
                return self._create(operation)
            case Append() | Close():
                return self._write(operation)
            case Delete():
                answer = self._request("DELETE", operation.path)
                return {204: ("deleted",), 404: (MISSING,), 410: (GONE,)}[answer.status]
            case Head():
                return self._head(operation)
            case Read():
                return self._read(operation)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> Answer:
        if self.leaves_after is None:
            return self.client.request(method, path, body, headers, **query)
        after = self.leaves_after
        self.client.send_and_leave(method, path, body, headers, after=after, **query)
        raise Disconnected(f"{method} {path}: left after {after} s")

    def _create(self, asked: Create) -> Outcome:
        fields = {"Content-Type": TYPE} if asked.source is None else {}
        fields |= {"Stream-Closed": "true"} if asked.closed else {}
        if asked.ttl_ms is not None:
            fields["Stream-TTL"] = str(asked.ttl_ms // 1000)
        if asked.source is not None:
            fields["Stream-Forked-From"] = asked.source
        if asked.fork_offset is not None:
            fields["Stream-Fork-Offset"] = token(asked.fork_offset)
        answer = self._request("PUT", asked.path, asked.data, fields)
        match answer.status:
            case 201:
                return "created", position(answer.next_offset)
            case 200:
                return "there", position(answer.next_offset), is_closed(answer.headers)
            case 409:
                return (frozenset({EXISTS, GONE, SOURCE_GONE}),)
        return ({404: SOURCE_MISSING, 400: BAD_OFFSET}[answer.status],)

    def _write(self, asked: Append | Close) -> Outcome:
        fields = {"Content-Type": TYPE}
        if asked.producer is not None:
            names = ("Producer-Id", "Producer-Epoch", "Producer-Seq")
            fields |= dict(zip(names, map(str, asked.producer), strict=True))
        if isinstance(asked, Close) or asked.close:
            fields["Stream-Closed"] = "true"
        if isinstance(asked, Append) and asked.seq is not None:
            fields["Stream-Seq"] = asked.seq
        data = asked.data if isinstance(asked, Append) else b""
        answer = self._request("POST", asked.path, data, fields)
        headers = answer.headers
        match answer.status:
            case 200:
                return "accepted", position(answer.next_offset), is_closed(headers)
            case 204:
                status = "accepted"
                if asked.producer is not None:  # a close without data does not tell
                    status = "duplicate" if data else frozenset({"accepted", "duplicate"})
                return status, position(answer.next_offset), is_closed(headers)
            case 403:
                return "stale", int(headers["Producer-Epoch"])
            case 409 if is_closed(headers):
                return CLOSED, position(answer.next_offset)
            case 409 if "Producer-Expected-Seq" in headers:
                return "gap", int(headers["Producer-Expected-Seq"])
        return ({404: MISSING, 410: GONE, 409: BAD_SEQ, 400: BAD_EPOCH}[answer.status],)

    def _head(self, asked: Head) -> Outcome:
        answer = self._request("HEAD", asked.path)
        if answer.status == 200:
            return "head", position(answer.next_offset), is_closed(answer.headers)
        return ({404: MISSING, 410: GONE}[answer.status],)

    def _read(self, asked: Read) -> Outcome:
        query = {"offset": "now" if asked.offset is None else token(asked.offset)}
        if asked.wait_ms is not None:
            query["live"] = "long-poll"
        answer = self._request("GET", asked.path, **query)
        if answer.status in (200, 204):
            return "read", answer.body, position(answer.next_offset), is_closed(answer.headers)
        return ({404: MISSING, 410: GONE, 400: BAD_OFFSET}[answer.status],)


def is_closed(headers: http.client.HTTPMessage) -> bool:
    return headers["Stream-Closed"] == "true"
