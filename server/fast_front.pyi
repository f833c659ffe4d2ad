import asyncio
from collections.abc import Callable
from typing import Self, final

from uvicorn.config import Config
from uvicorn.server import ServerState

from ..engine.errors import StorageError
from .app import DurableStreamApp
from .http import StreamHttpProtocol
from .http_patience import HttpOptions

@final
class FastConnection(asyncio.Protocol):
    """One connection; made by ``FastFront.connect``."""

    def __new__(cls, front: FastFront) -> Self: ...
    def shutdown(self) -> None:
        """End as soon as everything under way is answered."""

    def events_ended(self) -> None:
        """All events are written; the next request may have come already."""

    def go_on_later(self) -> None:
        """Look at it, from the loop."""

@final
class FastFront:
    """What the connections of one event loop share. Made and used on that loop only.

    Args:
        make_parser: makes a connection for what the front end leaves to the application.
    """

    def __init__(
        self,
        app: DurableStreamApp,
        options: HttpOptions,
        make_parser: Callable[[], StreamHttpProtocol],
        config: Config,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
    ) -> None: ...
    def connect(self) -> FastConnection:
        """A protocol for one more connection."""

    def close(self) -> None:
        """The loop serves no more."""

    def busy(self) -> int:
        """Requests under way here: appends that wait for the log, and readers of events."""

    def watch(self) -> None:
        """End connections that take too long; calls itself again."""

    def committed(self) -> None:
        """Answer the appends that are durable and visible by now."""

    def failed(self, make_error: Callable[[], StorageError]) -> None:
        """Nothing of what waits will become durable."""
