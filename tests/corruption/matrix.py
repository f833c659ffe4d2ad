"""All that can be done to a store, by class: a seed, a class and a number are one case."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from durastream._native.checksum import xxh64

from .classes import Harm, classify
from .judge import Judge
from .mutation import damage
from .repairing import RepairJudge
from .specimen import Files, build
from .whole_files import SCENARIOS, damage_files

AGAIN = 0.1  # the share of cases that is opened twice
REPAIRED = 0.03  # of those with damage, that is repaired
ALL_SEEN = 0.1  # in which every stream is looked at
SAMPLE = 0.15  # of the streams, in the other cases; those that were hit are always looked at
WIDE = (Harm.ROW, Harm.ANY)  # may hit several streams: all are looked at


class Matrix:
    """The cases of a seed, judged in ``folder``."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self.specimen = build(seed, folder / "specimen")
        self._other = build(seed + 1_000_000, folder / "other")
        self.classes = classify(self.specimen)
        self._judge = Judge(self.specimen, folder / "data")
        self._repair = RepairJudge(self.specimen, folder / "repaired")
        self._seen: dict[tuple[Any, ...], tuple[int, str]] = {}

    @property
    def names(self) -> list[str]:
        return [*self.classes, *SCENARIOS]

    def run(self, name: str, number: int) -> dict[str, Any]:
        """The outcome of one case, and what was done.

        A small class has fewer different cases than are drawn of it: one that this object has
        judged before bears the number of that in ``repeats``, and is not judged again.
        """
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
        key = (name, *self._changes(files))
        if key in self._seen:
            first, found_by = self._seen[key]
            return {"what": str(done), "found_by": found_by, "broken": [], "repeats": first}
        paths = None if name in SCENARIOS else self._sample(harm, stream_id, rng)
        outcome = self._judge.judge(files, harm, stream_id, instead, rng.random() < AGAIN, paths)
        if outcome.findings and rng.random() < REPAIRED:
            outcome.broken += self._repair.judge(files, instead)
        self._seen[key] = number, outcome.found_by
        return asdict(outcome) | {"what": str(done), "found_by": outcome.found_by}

    def _changes(self, files: Files) -> Iterator[tuple[str, int]]:
        """What tells one damaged store from another."""
        whole = self.specimen.files
        for name in files.keys() | whole.keys():
            if name not in files:
                yield name, -1
            elif files[name] is not whole.get(name):
                yield name, xxh64(files[name])

    def _sample(self, harm: Harm, stream_id: int | None, rng: random.Random) -> set[str] | None:
        """The paths to look at; None: all."""
        if harm in WIDE or rng.random() < ALL_SEEN:
            return None
        names = self.specimen.names
        hit = set() if stream_id is None else self.specimen.heirs({stream_id})
        chosen = {path for path in self.specimen.paths if rng.random() < SAMPLE}
        return chosen | {names[found] for found in hit if found in names}
