"""All that can be done to a store, by class: a seed, a class and a number are one case."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .classes import Harm, classify
from .judge import Judge
from .mutation import damage
from .repairing import RepairJudge
from .specimen import build
from .whole_files import SCENARIOS, damage_files

AGAIN = 0.2  # the share of cases that is opened twice
REPAIRED = 0.2  # of those with damage, that is repaired


class Matrix:
    """The cases of a seed, judged in ``folder``."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self.specimen = build(seed, folder / "specimen")
        self._other = build(seed + 1_000_000, folder / "other")
        self.classes = classify(self.specimen)
        self._judge = Judge(self.specimen, folder / "data")
        self._repair = RepairJudge(self.specimen, folder / "repaired")

    @property
    def names(self) -> list[str]:
        return [*self.classes, *SCENARIOS]

    def run(self, name: str, number: int) -> dict[str, Any]:
        """The outcome of one case, and what was done."""
        rng = random.Random(f"{self._seed} {name} {number}")
        if name in SCENARIOS:
            files, done = damage_files(name, self.specimen, self._other, rng)
            harm, stream_id, instead = done.harm, None, done.instead
        else:
            files, change = damage(self.specimen.files, self.classes[name], rng)
            harm, stream_id, instead = self.classes[name].harm, change.stream_id, None
            done = change
        if harm is Harm.NEWEST or name == "wal: sectors":
            instead = self.specimen.shown_before_newest
        outcome = self._judge.judge(files, harm, stream_id, instead, rng.random() < AGAIN)
        if outcome.findings and rng.random() < REPAIRED:
            outcome.broken += self._repair.judge(files, instead)
        return asdict(outcome) | {"what": str(done), "found_by": outcome.found_by}
