"""What a run is to do, and what came of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from killing.ledger import Ledger
from peers import Server


@dataclass(frozen=True)
class Plan:
    """How to kill. Times are seconds."""

    kills: int
    seed: int = 1
    uptime_max: float = 0.7  # between an audit and the kill
    verify_every: int = 10  # kills; 0: never
    rotate_every: int = 10  # starts; then one shared stream is closed and another takes its place
    text_slots: int = 4
    json_slots: int = 2
    sequenced_slots: int = 2
    lifecycles: int = 3
    think_seconds: float = 0.02
    # Called with the data directory while the server is dead: for runs that damage it.
    before_start: Callable[[Path], None] | None = None


@dataclass
class Result:
    server: Server
    plan: Plan
    ledger: Ledger
    seconds: float = 0.0
    starts: list[float] = field(default_factory=list)  # seconds until the first answer
    ended_early: str = ""  # why, if not all kills were done

    @property
    def is_clean(self) -> bool:
        return not any(self.ledger.violations.values()) and not self.ended_early

    def summary(self) -> dict[str, Any]:
        return {
            "server": self.server.name,
            "version": self.server.version,
            "seed": self.plan.seed,
            "seconds": round(self.seconds),
            "start, median s": round(statistics.median(self.starts or [0]), 2),
            "start, longest s": round(max(self.starts, default=0), 2),
            **dict(sorted(self.ledger.counts.items())),
            "violations": self.ledger.violations,
            "examples": self.ledger.examples,
            "ended early": self.ended_early,
        }
