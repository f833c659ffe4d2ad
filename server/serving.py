"""uvicorn around the application: one server, from its sockets to its last connection.

uvicorn accepts, keeps time and stops gracefully; this adds that waiting readers are ended
before it waits for their connections, and leaves signals to whoever owns the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import uvicorn
from uvicorn.server import ServerState

from .app import DurableStreamApp
from .fast_front import FastFront
from .http import StreamHttpProtocol, make_http_protocol
from .http_patience import HttpOptions

TICK = 0.1  # seconds between two looks at the clock
SWEEP_TICKS = 10
KEEP_ALIVE = 75  # seconds; longer than common proxies keep an idle connection


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve, as opposed to what. Times are seconds."""

    shutdown_timeout: float = 10.0  # for answers under way; then they are cut off
    limit_concurrency: int | None = None  # requests at once, beyond: 503
    proxy_headers: bool = True  # believe X-Forwarded-* of ``forwarded_allow_ips``
    forwarded_allow_ips: str | None = None
    root_path: str = ""
    access_log: bool = False
    front: Literal["fast", "asgi"] = "fast"  # may hot requests go round the application?
    tls: dict[str, Any] = field(default_factory=dict)  # uvicorn's ssl_* options


class Serving(uvicorn.Server):
    """Serves ``app``; ``run_on`` returns when ``stop`` was called and all is answered."""

    def __init__(self, app: DurableStreamApp, options: ServeOptions) -> None:
        self._app = app
        self._wake = asyncio.Event()
        self._front: FastFront | None = None
        # What these ask for only the application sees.
        self._is_plain = options.front == "asgi" or options.access_log or bool(options.root_path)
        self._http = HttpOptions(
            base_headers=tuple(app.base_headers(None)),
            access_log=options.access_log,
            target_size_max=2 * app.config.limits.path_size_max,
        )
        self._parser = make_http_protocol(self._http)
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], self._connect),
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                server_header=False,
                workers=1,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=options.shutdown_timeout,  # type: ignore[arg-type]
                limit_concurrency=options.limit_concurrency,
                proxy_headers=options.proxy_headers,
                forwarded_allow_ips=options.forwarded_allow_ips,
                root_path=options.root_path,
                **options.tls,
            )
        )

    def _connect(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """A protocol for one more connection."""
        parser = self._parser

        def make_parser() -> StreamHttpProtocol:
            made = parser(config, server_state, app_state, _loop)
            if self._front is not None:
                made.busy_elsewhere = self._front.busy
            return made

        if self._is_plain:
            return make_parser()
        if self._front is None:
            loop = _loop or asyncio.get_running_loop()
            self._front = FastFront(
                self._app, parser.options, make_parser, config, server_state, loop
            )
        return self._front.connect()

    async def run_on(self, sockets: list[socket.socket]) -> None:
        """Serve until ``stop``. The sockets are closed in the end."""
        await self.serve(sockets=sockets)

    def stop(self) -> None:
        """Begin to stop; from the thread of the event loop."""
        self.should_exit = True
        self._wake.set()

    # -- what uvicorn calls ----------------------------------------------------------------

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            if tick % SWEEP_TICKS == 0:
                await self._sweep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._wake.wait()

    async def _sweep(self) -> None:
        """End expired streams of a store that has no thread to do it, as the one in memory."""
        sweep: Callable[[], object] | None = getattr(self._app.store, "sweep", None)
        if sweep is not None:
            await asyncio.to_thread(sweep)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.drain()
        await super().shutdown(sockets)
        if self._front is not None:
            self._front.close()
