"""Scenario of many streams: a million, of which a few are used."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from durastream import FileBackedStreamStore
from many_streams import load, message, name, request
from support.http_client import ROOT, HttpClient

UNUSED_CHECKED = 200
_PLAIN = dict.fromkeys(
    ("ttl_seconds", "expires_at", "forked_from", "fork_offset", "fork_sub_offset",
     "retention_seconds", "retention_bytes")
)  # fmt: skip


def create(data_dir: Path, count: int) -> None:
    """So many streams with a message each, by the engine itself: nobody waits for each commit."""
    with FileBackedStreamStore(data_dir) as store:
        for index in range(count):
            store._engine.decide(
                store.create_step(
                    ROOT + name(index),
                    content_type="text/plain",
                    initial_data=message(0),
                    closed=False,
                    **_PLAIN,
                )
            )


async def use(port: int, active: Sequence[int], seconds: float) -> int:
    """Append to the streams ``active``, round after round. Returns: how many rounds."""
    until, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        rounds += 1
        await load(port, _round(active, rounds), len(active))
    return rounds


def _round(active: Sequence[int], number: int) -> Iterator[bytes]:
    for index in active:
        yield request(b"POST", index, message(number))


def check(port: int, count: int, active: Sequence[int], rounds: int) -> tuple[Counter[str], int]:
    """Read the active streams and as many others. Returns: answers, and streams that are wrong."""
    others = random.Random(2).sample(range(count), min(count, UNUSED_CHECKED))
    unused = sorted(set(others) - set(active))
    written = b"".join(message(number) for number in range(rounds + 1))
    answers: Counter[str] = Counter()
    wrong = 0
    with HttpClient(port) as client:
        for indexes, content in ((active, written), (unused, message(0))):
            for index in indexes:
                wrong += client.read_all(name(index)) != content
        answers["200, active"], answers["200, unused"] = len(active), len(unused)
    return answers, wrong
