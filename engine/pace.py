"""Hold background reading to a rate, so that who pays for the disk gets it."""

from __future__ import annotations

import time

_SLEEP_MAX = 0.25  # seconds at a time: whoever waits can be stopped


class Pace:
    """Call it with what was done; it sleeps for as long as that was too fast.

    Args:
        rate: bytes a second; 0: never sleeps.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._due = time.monotonic()  # when everything so far may be done

    def __call__(self, size: int) -> None:
        if self._rate <= 0:
            return
        now = time.monotonic()
        self._due = max(self._due, now - 1) + size / self._rate  # a pause earns a second at most
        while (left := self._due - time.monotonic()) > 0:
            time.sleep(min(left, _SLEEP_MAX))
