"""The ASGI application: from a request to the handler of its method, and to the answer.

It serves streams below a root and nothing else, runs under any ASGI server and can be mounted
in another application. Rules live in ``protocol``, effects in the store.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from ..engine.options import Limits
from ..engine.store import Store
from ..protocol.cursor import CursorOptions
from ..protocol.errors import StreamError
from .answer import Answer, send_answer, text_answer
from .append import append
from .asgi_types import Header, Receive, Scope, Send
from .config import ROOT_DEFAULT, ServerConfig
from .cors import METHODS, OPEN_TO_ALL, Cors
from .create import create
from .delete import delete
from .errors import ClientGone
from .event_stream import event_stream
from .head import head
from .hooks import LifecycleHooks
from .long_poll import long_poll
from .read import catch_up, parse_query
from .request import Request
from .service import Service
from .status import failure, refusal
from .target import is_reserved, is_stream

logger = logging.getLogger("durastream.server")

ALLOW: Header = (b"allow", METHODS.encode())


def create_app(
    store: Store | Callable[[], Store],
    *,
    root: str = ROOT_DEFAULT,
    hooks: LifecycleHooks | None = None,
    cors: Cors | None = OPEN_TO_ALL,
    cursor_options: CursorOptions | None = None,
    long_poll_timeout: float = 30.0,
    sse_max_age: float = 60.0,
    sse_heartbeat: float = 15.0,
    public_url: str | None = None,
    cache_scope: Literal["public", "private"] = "public",
    limits: Limits | None = None,
) -> DurableStreamApp:
    """An ASGI application serving ``store``.

    Args:
        store: a store, which stays the caller's to close; or a function that opens one,
            called at the lifespan's startup (at the first request where there is none) and
            closed at its shutdown.
        root: streams live below this path, which begins and ends with a slash.
        cors: None sends no CORS headers.
        long_poll_timeout, sse_max_age, sse_heartbeat: seconds.
        public_url: base of Location; by default what the client's Host header says.
        cache_scope: "private" keeps data out of shared caches (section 12).
        limits: by default those of the store.

    Raises: ValueError for an option without meaning.
    """
    config = ServerConfig(
        root=root,
        public_url=public_url,
        long_poll_timeout=long_poll_timeout,
        sse_max_age=sse_max_age,
        sse_heartbeat=sse_heartbeat,
        cors=cors,
        cursor_options=cursor_options or CursorOptions(),
        cache_scope=cache_scope,
        limits=limits or getattr(store, "limits", None) or Limits(),
    )
    return DurableStreamApp(store, config, hooks or LifecycleHooks())


class DurableStreamApp:
    """See ``create_app``."""

    def __init__(
        self, store: Store | Callable[[], Store], config: ServerConfig, hooks: LifecycleHooks
    ) -> None:
        self.config = config
        self._hooks = hooks
        self._open_store = store if callable(store) else None
        self._service = None if callable(store) else Service(store, config, hooks)
        self._opening: asyncio.Lock | None = None
        self._security: tuple[Header, ...] = (
            (b"x-content-type-options", b"nosniff"),
            (b"cross-origin-resource-policy", config.resource_policy.encode("ascii")),
        )
        self._open_headers = self._security + (
            config.cors.headers(None) if config.cors is not None and config.cors.is_open else ()
        )

    # -- life ------------------------------------------------------------------------------

    @property
    def store(self) -> Store | None:
        """The store; None as long as one to be opened was not."""
        return None if self._service is None else self._service.store

    @property
    def service(self) -> Service | None:
        """What the handlers of an open store share."""
        return self._service

    def drain(self) -> None:
        """End long-polls and event streams, so that their connections can close."""
        if self._service is not None:
            self._service.drain()

    async def _started(self) -> Service:
        if self._service is None:
            self._opening = self._opening or asyncio.Lock()
            async with self._opening:
                if self._service is None:
                    assert self._open_store is not None
                    store = await asyncio.to_thread(self._open_store)
                    self._service = Service(store, self.config, self._hooks)
        return self._service

    async def _stop(self) -> None:
        self.drain()
        if self._open_store is not None and self._service is not None:
            service, self._service = self._service, None
            await asyncio.to_thread(service.store.close)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            startup = message["type"] == "lifespan.startup"
            step: Callable[[], Awaitable[Any]] = self._started if startup else self._stop
            try:
                await step()
            except Exception as error:
                logger.error("%s", error)
                await send({"type": f"{message['type']}.failed", "message": str(error)})
                return
            await send({"type": f"{message['type']}.complete"})
            if not startup:
                return

    # -- requests --------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1003})
            case other:
                raise ValueError(f"no ASGI scope of type {other!r} is known here")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            answer = await self._answer_or_refusal(request)
        except ClientGone:
            return
        base = self.base_headers(request.origin)
        await send_answer(send, answer, base, head_only=request.method == "HEAD")

    async def _answer_or_refusal(self, request: Request) -> Answer:
        try:
            service = await self._started()
            try:
                return await self._answer(service, request)
            finally:
                request.release_body(service.budget)
        except StreamError as error:
            return refusal(error)
        except ClientGone:
            raise
        except Exception as error:
            return failure(error)

    async def _answer(self, service: Service, request: Request) -> Answer:
        """Section 4.0."""
        method, path, root = request.method, request.path, self.config.root
        if method == "OPTIONS":
            preflight = self.config.cors.preflight_headers() if self.config.cors else ()
            return Answer(204, [ALLOW, *preflight])
        if not is_stream(path, root):
            return text_answer(404, f"nothing here: streams live below {root}")
        path_size_max = self.config.limits.path_size_max
        if len(path) > path_size_max:
            return text_answer(414, f"the path is longer than {path_size_max} bytes")
        if is_reserved(path, root):
            return _no_subscription()
        match method:
            case "GET":
                return await _get(service, request)
            case "POST":
                return await append(service, request)
            case "HEAD":
                return await head(service, request)
            case "PUT":
                return await create(service, request)
            case "DELETE":
                return await delete(service, request)
        return text_answer(405, f"method {method} is not allowed: use {METHODS}", ALLOW)

    def base_headers(self, origin: bytes | None) -> Sequence[Header]:
        """What every answer carries: sections 4.8 and 16."""
        cors = self.config.cors
        if cors is None or cors.is_open:
            return self._open_headers
        return self._security + cors.headers(origin)


async def _get(service: Service, request: Request) -> Answer:
    try:
        query = parse_query(request.query())
    except StreamError as error:
        raise await service.refuse(request.path, error) from None
    if query.live == "sse":
        return await event_stream(service, request, query)
    if query.live == "long-poll":
        return await long_poll(service, request, query)
    return await catch_up(service, request, query)


def _no_subscription() -> Answer:
    error = {"code": "SUBSCRIPTION_NOT_FOUND", "message": "there are no subscriptions here"}
    body = json.dumps({"error": error}).encode()
    return Answer(404, [(b"content-type", b"application/json")], [body])
