"""How a reader parked at a stream is woken: a thread, or a coroutine of an event loop.

A store calls ``fire`` under its lock from whatever thread changed the stream; a waiter then
looks again by itself. Firing twice, or too late, does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Protocol


class Waiter(Protocol):
    """A reader parked at a stream."""

    cancelled: bool  # the store ended the wait

    def fire(self) -> None:
        """Make the reader look again. Must neither block nor raise."""
        ...


class ThreadWaiter:
    """Parks the calling thread."""

    def __init__(self) -> None:
        self.cancelled = False
        self._event = threading.Event()

    def fire(self) -> None:
        self._event.set()

    def wait(self, timeout: float) -> None:
        """Return when fired, or after ``timeout`` seconds."""
        self._event.wait(timeout)
        self._event.clear()


class LoopWaiter:
    """Parks a coroutine of the running event loop, without a thread."""

    def __init__(self) -> None:
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def fire(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout: float) -> None:
        """Return when fired, or after ``timeout`` seconds."""
        timer = self._loop.call_later(timeout, self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()
        self._event.clear()
