"""What a soak is to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from killing.ours import Durastream, SmallDurastream
from peers import Server

UNDISTURBED = 1 / 3  # of a run: at its end nobody kills, so that a slow leak has time to show


@dataclass(frozen=True)
class Soaked(Durastream):
    """``durastream serve`` with its defaults, but a scrub that goes round every few minutes."""

    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        scrub = ["--scrub-interval", "300"]
        return [*super().command(data_dir, port, long_poll_seconds), *scrub]


@dataclass(frozen=True)
class Plan:
    """How long, how much and how often. Times are seconds, rates per second.

    Attributes:
        rate: appends; sent when they are due, also when the server is late.
        length: batches of a stream, on average, from the beginning on: so many are written at
            first, and after one append in so many a stream is deleted and another takes its
            place. What is stored neither grows nor shrinks.
        verify_every: kills after one of which ``durastream verify`` looks at the directory.
        window: of a sample.
    """

    seconds: float
    server: Server
    seed: int = 1
    streams: int = 10_000
    lanes: int = 48
    rate: float = 400.0
    reads: float = 100.0
    length: int = 5
    kill_after: tuple[float, float] = (60.0, 180.0)
    backup_after: tuple[float, float] = (60.0, 120.0)
    verify_every: int = 3
    window: float = 10.0

    @property
    def kills_until(self) -> float:
        """Seconds from the beginning."""
        return self.seconds * (1 - UNDISTURBED)


SOAKED = Soaked("durastream-soaked", "durastream, scrub every 5 min", "")
SMALL = SmallDurastream("durastream", "durastream, small flushes", "")
# For runs of a few minutes: everything happens at least once.
SHORT: dict[str, Any] = {
    "kill_after": (15.0, 25.0),
    "backup_after": (5.0, 10.0),
    "verify_every": 2,
    "window": 5.0,
}
