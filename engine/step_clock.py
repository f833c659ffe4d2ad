"""The clock of a store: within a step, which is one moment, it stands still.

A step asks for the time again and again: has this expired, does that rule hold, when was it
used? If a deadline fell between two of these, a stream would be over for one of them only.
"""

from __future__ import annotations

from collections.abc import Callable


class StepClock:
    """Unix time in ms, as ``clock`` has it. It may be set back: deadlines do not follow it,
    since a stream keeps the latest access that it knows of (``protocol.expiry``).

    ``begin`` and ``end`` are called under the store's lock; reading it needs none.
    """

    __slots__ = ("_clock", "_standing")

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._standing: int | None = None

    def __call__(self) -> int:
        standing = self._standing
        return self._clock() if standing is None else standing

    def begin(self) -> None:
        """A step begins: it is now, until ``end``."""
        self._standing = self._clock()

    def end(self) -> None:
        self._standing = None
