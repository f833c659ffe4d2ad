"""Scenarios of server-sent events: thousands of readers, of which some never read."""

from __future__ import annotations

import asyncio
import re
import socket
from functools import partial
from typing import cast

from .wire import ROOT

_MESSAGE = re.compile(rb"data:(\d{8}) ")


class LiveReader(asyncio.Protocol):
    """Counts the messages that it gets: each must come once, in order."""

    def __init__(self, name: str, *, reads: bool) -> None:
        self._request = f"GET {ROOT}{name}?offset=-1&live=sse HTTP/1.1\r\nHost: h\r\n\r\n"
        self._reads = reads
        self._rest = b""
        self.count = 0
        self.wrong = 0
        self.status = 0
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request.encode())
        if not self._reads:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if not self.status:
            self.status = int(data[9:12])
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        for found in _MESSAGE.finditer(data, 0, end):
            if int(found[1]) != self.count:
                self.wrong += 1
            self.count += 1
        self._rest = data[end:]

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True


async def connect(port: int, name: str, count: int, *, reads: bool) -> list[LiveReader]:
    loop = asyncio.get_running_loop()
    readers = [LiveReader(name, reads=reads) for _ in range(count)]
    for reader in readers:
        connection = socket.socket()
        if not reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.create_connection(partial(_same, reader), sock=connection)
    return readers


def _same(reader: LiveReader) -> LiveReader:
    return reader
