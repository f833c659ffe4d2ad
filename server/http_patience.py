"""How long a connection waits for its client, and how it ends: the timers uvicorn lacks.

A client that connects and sends no request, that sends half a head, or that takes nothing of
its answer holds memory here; each has its limit. It decides nothing about requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .asgi_types import Header


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Limits of a connection. Sizes are bytes, times seconds."""

    base_headers: tuple[Header, ...] = ()  # of every refusal
    access_log: bool = False
    head_size_max: int = 64 * 1024
    target_size_max: int = 8 * 1024
    discard_size_max: int = 64 * 1024 * 1024  # of a body that was refused before its end
    head_timeout: float = 30.0  # from connecting, or the head's first byte, to its last
    stall_timeout: float = 60.0  # a client that takes nothing for so long is cut off
    linger_timeout: float = 2.0  # for a refused client to read why


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's connection with timers; ``options`` is set by ``make_http_protocol``."""

    options = HttpOptions()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = self.options.access_log and self.access_log
        self.is_deaf = False  # refused: what still arrives has no meaning
        self._discarded_size = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._stall_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = self._linger_timer = None
        super().connection_lost(exc)

    # -- clients that do not send ----------------------------------------------------------

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.options.head_timeout, self._head_is_late)

    def _head_is_there(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        """No request at all: nobody is there to be answered."""
        self._head_timer = None
        self.transport.close()

    # -- clients that do not read ----------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._watch_stall(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _watch_stall(self, size_before: int) -> None:
        self._stall_timer = self.loop.call_later(
            self.options.stall_timeout, self._check_stall, size_before
        )

    def _check_stall(self, size_before: int) -> None:
        self._stall_timer = None
        size = self.transport.get_write_buffer_size()
        if size < size_before:
            self._watch_stall(size)
            return
        self.logger.info("client took nothing for %s s: cut off", self.options.stall_timeout)
        self.transport.abort()

    # -- clients that still send when all is said ------------------------------------------

    def linger(self) -> None:
        """End the connection, but let the client read its answer first.

        Closing with unread bytes makes the kernel reset the connection, and the client lose
        the answer: so only our side ends, and the rest is read and dropped for a moment.
        """
        self.is_deaf = True
        if self.transport.is_closing() or self._linger_timer is not None:
            return
        if not self.transport.can_write_eof():  # TLS
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._linger_timer = self.loop.call_later(self.options.linger_timeout, self.transport.close)

    def discard(self, size: int) -> None:
        """Drop ``size`` bytes that arrived for nothing; too many end the connection."""
        self._discarded_size += size
        if self._discarded_size > self.options.discard_size_max:
            self.transport.abort()
