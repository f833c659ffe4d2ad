"""Clients that do everything at once to the same few streams, and remember what they were told.

A *family* is a few streams that forks join. A client works on one family at a time; which, and
what it does there, is drawn from its seed and from what it saw. How calls interleave is up to the
threads: a seed does not repeat a history, it only chooses the work.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from histories.checker import Call
from histories.operations import (
    BAD_OFFSET,
    Append,
    Close,
    Create,
    Delete,
    Head,
    Operation,
    Outcome,
    Producer,
    Read,
)

ROOT = "/v1/stream/"
PRODUCERS = ("p", "q")


@dataclass(frozen=True, slots=True)
class Family:
    """``paths``: a stream, and its forks to be.

    With a TTL nobody waits at them or leaves before the answer: both would prolong it unseen.
    """

    paths: tuple[str, ...]
    ttl_ms: int | None = None


def families(count: int, prefix: str, ttl_ms: int | None) -> list[Family]:
    """In turn: one stream; one with two forks, the second maybe of the first; one that expires."""
    found = []
    for number in range(count):
        size, ttl = [(1, None), (3, None), (2, ttl_ms)][number % 3]
        names = tuple(f"{ROOT}{prefix}{number}/{name}" for name in "abc"[:size])
        found.append(Family(names, ttl))
    return found


def by_family(calls: Iterable[Call], known: list[Family]) -> dict[Family, list[Call]]:
    """The calls of each family, which can be checked by themselves."""
    family_of = {path: family for family in known for path in family.paths}
    found: dict[Family, list[Call]] = {family: [] for family in known}
    for call in calls:
        found[family_of[call.operation.path]].append(call)
    return found


class Client:
    """Draws operations, and learns from their outcomes."""

    def __init__(self, name: str, seed: int, families: list[Family], wait_ms: int) -> None:
        self.name = name
        self.rng = random.Random(f"{seed} {name}")
        self._families = families
        self._family = families[0]  # of the operation drawn last
        self._wait_ms = wait_ms
        self._count = 0
        self._offsets: dict[str, list[int]] = defaultdict(lambda: [0])
        self._sent: dict[str, list[Producer]] = defaultdict(list)

    def next(self) -> Operation:
        self._family = self.rng.choice(self._families)
        path = self.rng.choice(self._family.paths)
        draw = self.rng.random()
        if draw < 0.38:
            return self._append(path)
        if draw < 0.62:
            return self._read(path)
        if draw < 0.70:
            return Head(path)
        if draw < 0.74:
            return Close(path, self._producer(path) if self.rng.random() < 0.5 else None)
        if draw < 0.82:
            return Delete(path)
        return self._create(path)

    def leaves(self, chance: float) -> bool:
        """Whether to go without the answer to what was drawn last."""
        return self._family.ttl_ms is None and self.rng.random() < chance

    def saw(self, operation: Operation, outcome: Outcome) -> None:
        """Remember offsets, which others read and fork at."""
        offsets = self._offsets[operation.path]
        if outcome[0] in ("accepted", "created", "there", "head"):
            offsets.append(outcome[1])
        elif outcome[0] == "read":
            offsets.append(outcome[2])
        elif outcome[0] == BAD_OFFSET:
            offsets[:] = [0]

    def _data(self) -> bytes:
        self._count += 1
        return b"%s.%d;" % (self.name.encode(), self._count)

    def _offset(self, path: str) -> int:
        return self.rng.choice(self._offsets[path][-4:])

    def _append(self, path: str) -> Append:
        producer = self._producer(path) if self.rng.random() < 0.5 else None
        seq = f"{self.rng.randint(0, 99):02}" if self.rng.random() < 0.1 else None
        return Append(path, self._data(), producer, seq, close=self.rng.random() < 0.05)

    def _producer(self, path: str) -> Producer:
        """Mostly what comes next, as far as this client knows; or again; or something else."""
        sent, draw = self._sent[path], self.rng.random()
        if sent and draw < 0.25:
            return self.rng.choice(sent[-3:])
        name, epoch, seq = sent[-1] if sent and draw < 0.8 else (self.rng.choice(PRODUCERS), 0, -1)
        if draw > 0.95:
            epoch, seq = epoch + 1, -1
        sent.append((name, epoch, seq + 1))
        return sent[-1]

    def _read(self, path: str) -> Read:
        offset = None if self.rng.random() < 0.2 else self._offset(path)
        may_wait = self._family.ttl_ms is None and self.rng.random() < 0.3
        return Read(path, offset, self._wait_ms if may_wait else None)

    def _create(self, path: str) -> Create:
        data = self._data() if self.rng.random() < 0.3 else b""
        closed = self.rng.random() < 0.05
        paths, ttl_ms = self._family.paths, self._family.ttl_ms
        if path == paths[0]:
            return Create(path, data, closed, ttl_ms)
        source = self.rng.choice(paths[: paths.index(path)])
        offset = self._offset(source) if self.rng.random() < 0.5 else None
        return Create(path, data, closed, None, source, offset)
