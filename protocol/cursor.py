"""Cursors: numbers that live readers echo, so that shared caches move on (section 11).

A cursor is the number of an interval of time since an epoch. All readers of an interval
share one URL; a reader that already holds the present number, because a cache replayed an
old answer, is sent ahead by a random step.
"""

from __future__ import annotations

import datetime as dt
import math
import random
import re
import time
from dataclasses import dataclass
from typing import Final

DEFAULT_CURSOR_EPOCH: Final = dt.datetime(2024, 10, 9, tzinfo=dt.UTC)
DEFAULT_CURSOR_INTERVAL_SECONDS: Final = 20
JITTER_SECONDS_MAX: Final = 3600

# Longer ones no server of this protocol ever sent: they are treated as absent.
_CURSOR = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CursorOptions:
    """``interval_seconds`` is positive; ``epoch`` has a zone and lies in the past."""

    interval_seconds: float = DEFAULT_CURSOR_INTERVAL_SECONDS
    epoch: dt.datetime = DEFAULT_CURSOR_EPOCH

    def __post_init__(self) -> None:
        if not self.interval_seconds > 0:
            raise ValueError(f"interval_seconds: {self.interval_seconds} is not positive")
        if self.epoch.tzinfo is None:
            raise ValueError(f"epoch: {self.epoch} has no zone: use datetime.UTC")


_DEFAULTS: Final = CursorOptions()


def calculate_cursor(options: CursorOptions = _DEFAULTS, *, now_ms: int | None = None) -> str:
    """The number of the present interval; ``now_ms`` is a Unix time, by default the clock's."""
    return str(_interval(options, now_ms))


def generate_response_cursor(
    client_cursor: str | None,
    options: CursorOptions = _DEFAULTS,
    *,
    now_ms: int | None = None,
) -> str:
    """The cursor to answer to a client that sent ``client_cursor``.

    Never behind the present interval, and greater than the client's. Feed it the last one
    sent, and a connection's cursors never fall.
    """
    current = _interval(options, now_ms)
    if client_cursor is None or not _CURSOR.fullmatch(client_cursor):
        return str(current)
    client = int(client_cursor)
    if client < current:
        return str(current)
    return str(client + _jitter(options))


def handle_cursor_collision(
    current_cursor: str,
    previous_cursor: str | None,
    options: CursorOptions = _DEFAULTS,
    *,
    now_ms: int | None = None,
) -> str:
    """Kept for its name; ``generate_response_cursor`` covers every case."""
    return generate_response_cursor(previous_cursor, options, now_ms=now_ms)


def _interval(options: CursorOptions, now_ms: int | None) -> int:
    now = time.time() if now_ms is None else now_ms / 1000
    return max(0, math.floor((now - options.epoch.timestamp()) / options.interval_seconds))


def _jitter(options: CursorOptions) -> int:
    seconds = random.randint(1, JITTER_SECONDS_MAX)
    return max(1, math.ceil(seconds / options.interval_seconds))
