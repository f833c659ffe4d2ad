"""The wire form of server-sent events (sections 9.2 to 9.4).

Pure functions from wire bytes and facts to the bytes of an event. When to send which event
is the server's matter.
"""

from __future__ import annotations

import binascii
import codecs
from collections.abc import Iterable, Iterator, Sequence

from .headers import is_json, is_text
from .results import Bytes

PIECE_SIZE = 48 * 1024  # bytes of data that are encoded at once

HEARTBEAT = b":\n\n"  # a comment: every parser skips it


def uses_base64(content_type: str) -> bool:
    """Whether the data of a stream's events is base64: neither text nor JSON (9.1)."""
    return not (is_text(content_type) or is_json(content_type))


def encode_data_event(content_type: str, data: bytes) -> bytes:
    """One data event carrying ``data``, the wire bytes of whole messages, not empty.

    Bytes of a text stream that are not UTF-8 arrive as U+FFFD, and CR as LF: read such a
    stream by long-poll. An event may end inside a UTF-8 sequence only if the append does.
    """
    if is_json(content_type):
        return _event(b"[%b]" % data[:-1])
    if is_text(content_type):
        return _event(_as_utf8(data))
    return b"event: data\ndata:%b\n\n" % binascii.b2a_base64(data, newline=False)


def encode_data_pieces(
    content_type: str, buffers: Sequence[Bytes], piece_size: int = PIECE_SIZE
) -> Iterator[bytes]:
    """``encode_data_event`` of data too large to be copied as a whole, piece by piece."""
    if is_json(content_type):
        size = sum(map(len, buffers))
        yield b"event: data\ndata:["
        yield from _lines(_pieces(buffers, size - 1, piece_size), begins_line=False)
        yield b"]\n\n"
        return
    pieces = _pieces(buffers, sum(map(len, buffers)), piece_size)
    yield b"event: data\ndata:"
    if is_text(content_type):
        yield from _lines(_utf8(pieces), begins_line=True)
    else:
        yield from _base64(pieces)
    yield b"\n\n"


def encode_control_event(
    next_offset: str, *, cursor: str | None, up_to_date: bool, closed: bool
) -> bytes:
    """One control event; ``cursor`` None, as on a closed stream, leaves it out (9.4).

    Args:
        next_offset: a minted offset, never a sentinel. With ``cursor`` it holds nothing
            that JSON would have to escape.
    """
    parts = [f'"streamNextOffset":"{next_offset}"']
    if cursor is not None and not closed:
        parts.append(f'"streamCursor":"{cursor}"')
    if up_to_date:
        parts.append('"upToDate":true')
    if closed:
        parts.append('"streamClosed":true')
    return f"event: control\ndata:{{{','.join(parts)}}}\n\n".encode("ascii")


def _as_utf8(data: bytes) -> bytes:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", errors="replace").encode()
    return data


def _event(payload: bytes) -> bytes:
    """One ``data:`` line for each line of the payload, whatever ends it: no line can be forged.

    Receivers strip one blank behind the colon, so a line that begins with one gets another.
    """
    return b"event: data%b\n\n" % _line_ends(b"\n" + payload)


def _pieces(buffers: Iterable[Bytes], size: int, piece_size: int) -> Iterator[bytes]:
    """The first ``size`` bytes."""
    for buffer in buffers:
        view = memoryview(buffer)[:size]
        size -= len(view)
        for start in range(0, len(view), piece_size):
            yield bytes(view[start : start + piece_size])


def _utf8(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """See ``_as_utf8``."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        yield decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()


def _lines(pieces: Iterable[bytes], *, begins_line: bool) -> Iterator[bytes]:
    """See ``_event``. A CR at the end of a piece is held back: LF may follow it."""
    held = b""
    for piece in pieces:
        data = held + piece
        held = b"\r" if data.endswith(b"\r") else b""
        data = data.removesuffix(b"\r")
        if data:
            extra = b" " if begins_line and data.startswith(b" ") else b""
            yield extra + _line_ends(data)
            begins_line = data.endswith(b"\n")
    yield _line_ends(held)


def _line_ends(data: bytes) -> bytes:
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata:")
    return lines.replace(b"\ndata: ", b"\ndata:  ")


def _base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Base64 of three bytes at a time can be joined."""
    held = b""
    for piece in pieces:
        data = held + piece
        cut = len(data) - len(data) % 3
        held = data[cut:]
        yield binascii.b2a_base64(data[:cut], newline=False)
    yield binascii.b2a_base64(held, newline=False)
