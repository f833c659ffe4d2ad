"""From the arguments of a store's methods to requests of the rules, checked against limits.

Both stores begin here, so that both refuse the same things (section 17). Nothing here may
look at a stream.
"""

from __future__ import annotations

from ..protocol.append import AppendRequest
from ..protocol.create import CreateRequest
from ..protocol.errors import InvalidRequest, TooLarge
from ..protocol.headers import NUMBER_MAX, media_type, parse_expires_at
from ..protocol.offset import parse_position
from ..protocol.producer import ProducerRequest
from ..protocol.results import Bytes
from ..protocol.retention import combined
from ..protocol.state import Retention
from .options import READ_SIZE_MAX, Limits


def create_request(
    limits: Limits,
    path: str,
    *,
    content_type: str | None,
    ttl_seconds: int | None,
    expires_at: str | None,
    initial_data: Bytes,
    closed: bool,
    forked_from: str | None,
    fork_offset: str | None,
    fork_sub_offset: int | None,
    retention_seconds: int | None,
    retention_bytes: int | None,
) -> CreateRequest:
    """Steps 1 to 7 of section 4.1.

    Raises: InvalidRequest and its subclasses, TooLarge.
    """
    _check_path(limits, path)
    if ttl_seconds is not None:
        if expires_at is not None:
            raise InvalidRequest("Stream-TTL and Stream-Expires-At exclude each other")
        _check_number("Stream-TTL", ttl_seconds)
    expires_at_ms = parse_expires_at(expires_at) if expires_at is not None else None
    position = parse_position(fork_offset) if fork_offset is not None else None
    if forked_from is None and not (fork_offset is None and fork_sub_offset is None):
        raise InvalidRequest("Stream-Fork-Offset and -Sub-Offset need Stream-Forked-From")
    if fork_sub_offset is not None:
        _check_number("Stream-Fork-Sub-Offset", fork_sub_offset)
    if forked_from is not None:
        _check_path(limits, forked_from)
    _check_content_type(limits, content_type)
    check_body(limits, initial_data)
    return CreateRequest(
        path=path,
        content_type=content_type,
        ttl_seconds=ttl_seconds,
        expires_at=expires_at,
        expires_at_ms=expires_at_ms,
        closed=closed,
        forked_from=forked_from,
        fork_offset=position,
        fork_sub_offset=fork_sub_offset or 0,
        retention=_retention(limits, retention_seconds, retention_bytes),
    )


def _retention(limits: Limits, seconds: int | None, size: int | None) -> Retention | None:
    default = None
    if limits.retention_seconds is not None or limits.retention_bytes is not None:
        default = Retention(limits.retention_seconds, limits.retention_bytes)
    for name, number in (("Stream-Retention-Seconds", seconds), ("Stream-Retention-Bytes", size)):
        if number is not None:
            _check_number(name, number)
            if number == 0:
                raise InvalidRequest(f"{name}: 0 would keep nothing; give at least 1")
    return combined(seconds, size, default)


def append_request(
    limits: Limits,
    data: Bytes,
    *,
    content_type: str | None,
    seq: str | None,
    producer_id: str | None,
    producer_epoch: int | None,
    producer_seq: int | None,
    close: bool,
) -> AppendRequest:
    """Steps 1 to 3 of section 4.2.

    Raises: InvalidRequest and its subclasses, TooLarge.
    """
    producer = producer_request(limits, producer_id, producer_epoch, producer_seq)
    if seq is not None:
        if not seq:
            raise InvalidRequest("Stream-Seq: empty")
        _check_text("Stream-Seq", seq, limits.seq_size_max)
    size = check_body(limits, data)
    if size or not close:  # a close without data ignores the content type (section 7)
        _check_content_type(limits, content_type)
    return AppendRequest(
        is_empty=not size, content_type=content_type, seq=seq, producer=producer, close=close
    )


def producer_request(
    limits: Limits, producer_id: str | None, epoch: int | None, seq: int | None
) -> ProducerRequest | None:
    """The producer's tuple: all of it or none (section 5).

    Raises: InvalidRequest, TooLarge.
    """
    if producer_id is None and epoch is None and seq is None:
        return None
    if producer_id is None or epoch is None or seq is None:
        raise InvalidRequest("Producer-Id, Producer-Epoch and Producer-Seq go together: send all")
    if not producer_id:
        raise InvalidRequest("Producer-Id: empty")
    _check_text("Producer-Id", producer_id, limits.producer_id_size_max)
    _check_number("Producer-Epoch", epoch)
    _check_number("Producer-Seq", seq)
    return ProducerRequest(producer_id, epoch, seq)


def check_body(limits: Limits, data: Bytes) -> int:
    """The body's size in bytes. Raises: TooLarge; TypeError if it is no buffer of bytes."""
    if not isinstance(data, bytes):
        view = memoryview(data)
        if view.itemsize != 1 or view.ndim != 1 or not view.c_contiguous:
            raise TypeError("data must be bytes, or a contiguous buffer of single bytes")
    if len(data) > limits.body_size_max:
        raise TooLarge(
            f"a body of {len(data)} bytes; at most {limits.body_size_max} are taken at once: "
            "split it into several appends"
        )
    return len(data)


def _check_path(limits: Limits, path: str) -> None:
    if not path:
        raise InvalidRequest("the path of a stream is empty")
    _check_text("path", path, limits.path_size_max)


def _check_content_type(limits: Limits, content_type: str | None) -> None:
    if content_type is not None:
        if len(content_type) > limits.content_type_size_max:
            raise TooLarge(f"Content-Type: longer than {limits.content_type_size_max} bytes")
        media_type(content_type)


def _check_text(name: str, text: str, size_max: int) -> None:
    if text.isascii() and len(text) <= size_max:
        return
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name}: not text, it has a lone surrogate") from None
    if size > size_max:
        raise TooLarge(f"{name}: {size} bytes, at most {size_max} are taken")


def _check_number(name: str, number: int) -> None:
    if not isinstance(number, int):
        raise TypeError(f"{name}: {number!r} is no integer")
    if not 0 <= number <= NUMBER_MAX:
        raise InvalidRequest(f"{name}: {number} is not from 0 to {NUMBER_MAX}")


def chunk_size(max_bytes: int | None) -> int:
    """How many bytes one answer may have. Raises: ValueError."""
    if max_bytes is None:
        return READ_SIZE_MAX
    if max_bytes < 1:
        raise ValueError(f"max_bytes: {max_bytes} is not positive")
    return min(max_bytes, READ_SIZE_MAX)
