"""The wire form of server-sent events (sections 9.2 to 9.4).

Pure functions from wire bytes and facts to the bytes of an event. When to send which event
is the server's matter.
"""

from __future__ import annotations

import binascii

from .headers import is_json, is_text

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
    lines = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata:")
    return b"event: data\n%b\n\n" % (b"\ndata:" + lines).replace(b"\ndata: ", b"\ndata:  ")[1:]
