"""One step of the store: what it read, what it decided, and when that may be told (I4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .errors import StoreBusy

Result = TypeVar("Result")


class Seen:
    """The highest LSN that a step read or wrote: its answer, refusals included, waits for that."""

    __slots__ = ("lsn",)

    def __init__(self) -> None:
        self.lsn = 0

    def note(self, lsn: int) -> None:
        if lsn > self.lsn:
            self.lsn = lsn


Step = Callable[[Seen], Result]


class Outcome(Generic[Result]):
    """What a step decided; true for others to see once ``lsn`` is durable."""

    __slots__ = ("_error", "_value", "lsn")

    def __init__(self, value: Result | None, error: Exception | None, lsn: int) -> None:
        self._value = value
        self._error = error
        self.lsn = lsn

    @property
    def is_busy(self) -> bool:
        """Refused only because too much waits for the disk: worth another attempt."""
        return isinstance(self._error, StoreBusy)

    def result(self) -> Result:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]
