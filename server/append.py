"""POST: append, append and close, or close (sections 4.2, 5 and 7)."""

from __future__ import annotations

from ..protocol.errors import InvalidRequest
from ..protocol.headers import parse_closed, parse_producer
from ..protocol.producer import ProducerRequest
from ..protocol.results import AppendResult, ProducerResult
from .answer import Answer, text_answer
from .asgi_types import Header
from .errors import UnsupportedEncoding
from .request import Request
from .service import Service


async def append(service: Service, request: Request) -> Answer:
    """Headers are judged first, then the body's size; the rest is the store's to decide."""
    producer = parse_producer(
        request.header(b"producer-id"),
        request.header(b"producer-epoch"),
        request.header(b"producer-seq"),
    )
    seq = request.header(b"stream-seq")
    if seq is not None and not seq:
        raise InvalidRequest("Stream-Seq: empty")
    close = parse_closed(request.header(b"stream-closed"))
    require_plain_body(request)
    body = await service.body(request)
    content_type = request.header(b"content-type")
    if body and content_type is None:
        missing = InvalidRequest("Content-Type is missing: send the stream's own")
        raise await service.refuse(request.path, missing)
    result = await service.aio.append(
        request.path,
        body,
        content_type=content_type if body else None,
        seq=seq,
        producer_id=producer.producer_id if producer else None,
        producer_epoch=producer.epoch if producer else None,
        producer_seq=producer.seq if producer else None,
        close=close,
    )
    if result.producer is None or producer is None:
        return Answer(204, _position(result))
    return _answer_producer(producer, result.producer, result, with_body=bool(body))


def require_plain_body(request: Request) -> None:
    """Raises: UnsupportedEncoding."""
    encoding = request.header(b"content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedEncoding(
            f"Content-Encoding: {encoding[:80]!r} is not supported: send the body as it is"
        )


def _answer_producer(
    request: ProducerRequest, outcome: ProducerResult, result: AppendResult, *, with_body: bool
) -> Answer:
    """Sections 5.1 to 5.3: what became of a producer's request, and where it stands."""
    headers = _position(result)
    match outcome.status:
        case "accepted" | "duplicate":
            is_new_data = outcome.status == "accepted" and with_body
            headers += [_number(b"producer-epoch", outcome.epoch)]
            headers += [_number(b"producer-seq", outcome.last_seq)]
            return Answer(200 if is_new_data else 204, headers)
        case "stale_epoch":
            headers += [_number(b"producer-epoch", outcome.epoch)]
            text = f"Producer-Epoch: {request.epoch} was superseded by {outcome.epoch}"
            return text_answer(403, text, *headers)
        case "invalid_epoch_seq":
            text = f"Producer-Seq: a new epoch begins with 0, not {request.seq}"
            return text_answer(400, text, *headers)
        case "sequence_gap":
            headers += [_number(b"producer-expected-seq", outcome.expected_seq)]
            headers += [_number(b"producer-received-seq", outcome.received_seq)]
            text = f"Producer-Seq: expected {outcome.expected_seq}, received {request.seq}"
            return text_answer(409, text, *headers)


def _position(result: AppendResult) -> list[Header]:
    headers = [(b"stream-next-offset", result.offset.encode("ascii"))]
    if result.stream_closed:
        headers.append((b"stream-closed", b"true"))
    return headers


def _number(name: bytes, value: int | None) -> Header:
    assert value is not None
    return name, b"%d" % value
