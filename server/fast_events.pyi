import asyncio
from typing import final

from uvicorn.server import ServerState

from ..engine.fast_path import FastPath
from .fast_answers import Answers
from .service import Service

@final
class Event: ...

@final
class Feeds:
    """All event streams of one event loop. Made and used on that loop only.

    Args:
        state: its tasks are those that a shutdown waits for.
    """

    def __init__(
        self,
        path: FastPath,
        service: Service,
        answers: Answers,
        state: ServerState,
        loop: asyncio.AbstractEventLoop,
    ) -> None: ...
    @property
    def count(self) -> int:
        """Readers that no task sends to."""

    def watch(self) -> None:
        """Look at some readers: all of them, once in a while."""

    def close(self) -> None:
        """The loop serves no more."""

@final
class Feed:
    """The readers of one stream; a ``Waiter`` of the store."""

    cancelled: bool

    @property
    def is_parked(self) -> bool: ...
    def fire(self) -> None:
        """There is news. From any thread, under the store's lock."""

    def step(self) -> None:
        """Write to some of those who are behind."""

@final
class Reader:
    """A client that is sent events."""

    @property
    def owner(self) -> object: ...
    def end(self) -> None:
        """The server is about to stop."""

    def backlog_sent(self, task: asyncio.Task[tuple[str, str] | None]) -> None: ...
