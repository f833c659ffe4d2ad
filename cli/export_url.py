"""Export from a server, durastream or another, over the protocol: what it tells to every reader.

That is the bytes, the content type, whether it is closed, and its lifetime. A JSON stream
keeps its messages; of a byte stream each answer becomes one. Producers stay behind, and times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import Request, urlopen

from ..engine.transfer_format import StreamLine, StreamWriter, header_for, write_list
from ..engine.transfer_out import make_folder, message_ends
from ..protocol.headers import is_json
from ..protocol.payload import prepare_payload
from .offline import Failed

_TIMEOUT = 60.0  # seconds
_DEPTH_MAX = 100_000


class UrlExport:
    """One export of the streams that ``streams`` name below the URL ``root``."""

    def __init__(self, root: str, streams: Sequence[str], folder: Path) -> None:
        self._root = root if root.endswith("/") else f"{root}/"
        self._streams = streams
        self._folder = folder
        self.lines: list[StreamLine] = []
        self.total_size = 0

    def run(self) -> Iterator[int]:
        """Export; yields bytes done. Raises: Failed, StreamError, OSError."""
        make_folder(self._folder)
        for number, stream in enumerate(self._streams, 1):
            yield from self._export(
                number, urljoin(self._root, quote(stream, safe="/%~!$&'()*+,;=:@"))
            )
        write_list(self._folder, header_for(self._root, _now()), self.lines)

    def _export(self, number: int, url: str) -> Iterator[int]:
        path = urlsplit(url).path
        writer = StreamWriter(self._folder, number, path)
        try:
            offset, headers = "-1", Message()
            while offset:
                headers, body = _get(f"{url}?offset={offset}")
                data = _wire_bytes(headers, body)
                start = writer.size
                ends = [start + len(data)] if data else []
                writer.write(data, message_ends(_type(headers), data, start, ends))
                self.total_size += len(data)
                yield len(data)
                offset = _next(headers, offset, url)
            self.lines.append(writer.finish(_line(path, url, headers)))
        finally:
            writer.close()


def _next(headers: Message, offset: str, url: str) -> str:
    """Where to go on; empty at the end."""
    if headers.get("Stream-Up-To-Date", "").lower() == "true":
        return ""
    found = headers.get("Stream-Next-Offset", "")
    if not found or found == offset:
        raise Failed(f"{url}: does not go on behind offset {offset}; is it a durable stream?")
    return found


def _line(path: str, url: str, headers: Message) -> StreamLine:
    about, _ = _request(Request(url, method="HEAD"))
    ttl, now = about.get("Stream-TTL"), _now()
    return StreamLine(
        path=path,
        content_type=_type(headers),
        created_at=now,
        last_accessed_at=now,
        closed=about.get("Stream-Closed", "").lower() == "true",
        ttl_seconds=int(ttl) if ttl else None,
        expires_at=about.get("Stream-Expires-At"),
    )


def _wire_bytes(headers: Message, body: bytes) -> bytes:
    if not is_json(_type(headers)):
        return body
    payload = prepare_payload("application/json", body, depth_max=_DEPTH_MAX, is_create=True)
    return bytes(payload.data)


def _type(headers: Message) -> str:
    return headers.get("Content-Type", "application/octet-stream")


def _get(url: str) -> tuple[Message, bytes]:
    return _request(Request(url))


def _request(request: Request) -> tuple[Message, bytes]:
    try:
        with urlopen(request, timeout=_TIMEOUT) as answer:
            return answer.headers, answer.read()
    except HTTPError as error:
        text = error.read(200).decode(errors="replace").strip()
        raise Failed(f"{request.full_url}: {error.code} {text or error.reason}") from None
    except (URLError, HTTPException, TimeoutError) as error:
        raise Failed(f"{request.full_url}: {getattr(error, 'reason', error)}") from None


def _now() -> int:
    return time.time_ns() // 1_000_000
