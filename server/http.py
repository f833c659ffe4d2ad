"""uvicorn's HTTP/1.1 connection, mended where it answers or accepts what the protocol forbids.

uvicorn hands a well-formed request to the application; what it refuses itself lacks the
headers of section 16, and some of what it accepts is dangerous: trailers join the headers, a
body behind ``Upgrade`` is taken for the next request, heads have no limit, a refusal
overtakes answers still due on the connection. ``make_http_protocol`` returns a subclass
without those traits. It decides nothing about streams.

tests/wire/test_uvicorn_internals.py pins what this file uses of uvicorn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from .answer import Answer, text_answer
from .asgi_types import Application
from .http_patience import HttpOptions, PatientProtocol
from .http_refusal import Refused, answering, refused_bytes, refused_method, rendered

_METHOD_SIZE_MAX = 32  # bytes kept to judge a request line that the parser refused


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    connection: StreamHttpProtocol

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and self.waiting_for_100_continue:
            # The client still holds its body back, or just begins to send it: what follows
            # on this connection could be either.
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        if is_last and not self.keep_alive and (self.more_body or self.connection.is_deaf):
            self.keep_alive = True  # uvicorn is not to close: see ``linger``
            self.connection.is_ending = True
            await super().send(message)
            self.connection.linger()
            return
        await super().send(message)


class StreamHttpProtocol(PatientProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.is_ending = False  # the last answer is being sent
        self._refusal: Refused | None = None
        self._in_head = False
        self._head_size = 0  # of whole headers
        self._received_size = 0  # of an unfinished head
        self._line = b""  # the beginning of the head, to judge a method that is not known
        self._follows_another = False  # a request ended within the bytes now being parsed
        self._host_count = 0
        self._has_body = False
        self._resuming = False  # a second parser reads the body of an upgrade request
        self._active: Cycle | None = None
        self._is_whole = False  # no byte of another request came behind the last one
        self._was_upgraded = False
        self.busy_elsewhere: Callable[[], int] = int  # requests under way that have no task

    # -- for a front end that parses some requests itself ----------------------------------

    @property
    def is_between_requests(self) -> bool:
        """Whether all that was asked for is answered, and nothing more was begun."""
        return (
            self._is_whole
            and self.cycle is not None
            and self.cycle.response_complete
            and not (self.pipeline or self.is_deaf or self.is_ending or self._was_upgraded)
            and not self.transport.is_closing()
        )

    def _is_busy(self, limit: int) -> bool:
        return len(self.tasks) + self.busy_elsewhere() >= limit

    def leave(self) -> None:
        """The next request is another's: nobody waits for it here."""
        self._unset_keepalive_if_required()

    def give_up_waiting(self) -> None:
        """The time for the head of a request, begun elsewhere, is over."""
        if self._in_head or self.cycle is None:
            self._head_is_late()

    # -- its end ---------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        cycles = [self._active, *(cast(Cycle, cycle) for cycle, _ in self.pipeline)]
        self.pipeline.clear()
        super().connection_lost(exc)
        for cycle in cycles:
            # uvicorn tells only the newest of pipelined requests.
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def on_response_complete(self) -> None:
        if not self.is_ending:
            super().on_response_complete()

    def _head_is_late(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._head_timer = None
            self._refuse(Refused(408, "the head of the request did not arrive in time"))
        else:
            super()._head_is_late()

    # -- bytes in --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            self.discard(len(data))
            return
        self._unset_keepalive_if_required()
        was_in_head = self._in_head
        if not was_in_head:
            self._line = b""
        self._follows_another = False
        self._feed(data)
        if self.is_deaf:
            return
        if not self._in_head:
            self._head_is_there()
            return
        self._line = (self._line + data)[:_METHOD_SIZE_MAX]
        self._await_head()
        if was_in_head or not self._follows_another:
            self._count_received(len(data))

    def _feed(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # Upgrades are not offered, and ignoring one is allowed: what follows is the
                # body of this request, or the next one.
                rest = memoryview(rest)[upgrade.args[0] :]
                if self._has_body and not self._resuming:
                    self._read_body_anew()
            except httptools.HttpParserError as error:
                line = None if self._follows_another else self._line + data
                self._refuse(self._refusal or refused_bytes(error, line))
                return

    def _read_body_anew(self) -> None:
        """Let a fresh parser read the body that the present one would take for a request."""
        self._resuming = self._was_upgraded = True
        framing = [
            name + b": " + value + b"\r\n"
            for name, value in self.headers
            if name in (b"content-length", b"transfer-encoding", b"connection")
            and b"upgrade" not in value.lower()
        ]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")

    def _count_received(self, size: int) -> None:
        """Bound a head whose target or header has no end, which no callback reports."""
        self._received_size += size
        if self._received_size > self.options.head_size_max:
            in_target = not self.headers and not self._host_count
            self._refuse(self._target_too_long() if in_target else self._head_too_large())

    # -- parser callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._resuming:
            return
        self._in_head, self._has_body, self._is_whole = True, False, False
        self._head_size = self._received_size = self._host_count = self._discarded_size = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._resuming:
            return
        super().on_url(url)
        if len(self.url) > self.options.target_size_max:
            self._raise(self._target_too_long())

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head or self._resuming:
            return  # a trailer: it comes too late to mean anything
        name = name.lower()
        self._head_size += len(name) + len(value) + 4
        if self._head_size > self.options.head_size_max:
            self._raise(self._head_too_large())
        if name == b"host":
            self._host_count += 1
        elif name in (b"content-length", b"transfer-encoding"):
            self._has_body = self._has_body or value != b"0"
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                self._raise(Refused(501, "the only Transfer-Encoding known is chunked"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._resuming:
            return
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self._check_head()
        path, query = self._split_target()
        self._in_head = False  # from here on a refusal breaks off this very request
        self.scope["http_version"] = self.parser.get_http_version()
        self.scope["path"] = self.root_path + unquote(path.decode("ascii"))
        self.scope["raw_path"] = self.root_path.encode("ascii") + path
        self.scope["query_string"] = query
        app = cast(Application, self.app)
        if self.limit_concurrency is not None and self._is_busy(self.limit_concurrency):
            busy = text_answer(503, "too many requests at once: try again", (b"retry-after", b"1"))
            app = answering(busy, self.options.base_headers)
        self._begin_cycle(app)

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self.discard(len(body))
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self._has_body and not self._resuming:
            return  # said too early: see _read_body_anew
        self._resuming = False
        self._follows_another = self._is_whole = True
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cast(Cycle, cycle)
        super()._start_asgi_task(cycle, app)

    def _begin_cycle(self, app: Application) -> None:
        """As uvicorn does: start the request, or queue it behind those not yet answered."""
        previous = self.cycle
        cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=not self.is_deaf
            and self.scope["http_version"] != "1.0"
            and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        cycle.connection = self
        self.cycle = cycle
        if previous is None or previous.response_complete:
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, cast(Any, app)))

    # -- refusals --------------------------------------------------------------------------

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._raise(Refused(505, f"HTTP/{version} is not spoken here: use HTTP/1.1"))
        if self._host_count > 1 or (version == "1.1" and not self._host_count):
            self._raise(Refused(400, "a request needs exactly one Host header"))
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in self.headers):
            self._raise(Refused(400, "Transfer-Encoding has no meaning in HTTP/1.0"))

    def _split_target(self) -> tuple[bytes, bytes]:
        if self.scope["method"] == "CONNECT":
            self._raise(refused_method())
        if self.url == b"*":
            return b"*", b""
        try:
            target = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            self._raise(Refused(400, "malformed request target"))
        return target.path or b"/", target.query or b""

    def _raise(self, refusal: Refused) -> NoReturn:
        self._refusal = refusal
        raise refusal

    def _target_too_long(self) -> Refused:
        return Refused(414, f"the URL is longer than {self.options.target_size_max} bytes")

    def _head_too_large(self) -> Refused:
        return Refused(431, f"the headers are larger than {self.options.head_size_max} bytes")

    def _refuse(self, refusal: Refused) -> None:
        """Answer ``refusal`` after all answers still due, then end the connection."""
        self.is_deaf = True
        self._head_is_there()
        if self.transport.is_closing():
            return
        if self.scope is None:
            super().on_message_begin()
        if self._in_head or self.cycle is None:
            self._in_head = False
            self.scope.setdefault("method", "-")
            self.scope.setdefault("path", self.url.decode("latin-1"))
            self.scope.setdefault("query_string", b"")
            self._begin_cycle(answering(refusal.answer, self.options.base_headers))
        elif self.pipeline and self.pipeline[0][0] is self.cycle:
            self.cycle.keep_alive = False
            self.pipeline[0] = (
                self.cycle,
                cast(Any, answering(refusal.answer, self.options.base_headers)),
            )
        else:
            self._break_off(refusal.answer)

    def _break_off(self, answer: Answer) -> None:
        """The body of the request being processed is malformed: it ends without effect."""
        cycle = self.cycle
        had_begun, was_complete = cycle.response_started, cycle.response_complete
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False  # nothing more is asked for
        cycle.message_event.set()
        if not had_begun and not was_complete:
            headers = self.server_state.default_headers
            self.transport.write(rendered(answer, self.options.base_headers, headers))
        self.linger()


def make_http_protocol(options: HttpOptions) -> type[StreamHttpProtocol]:
    """The connection class for ``uvicorn.Config(http=...)``."""
    return cast(
        type[StreamHttpProtocol],
        type("StreamHttpProtocol", (StreamHttpProtocol,), {"options": options}),
    )
