"""Drive work that is done in steps: a progress bar if somebody can see it, a rate if wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Protocol

import click

from ..engine.options import MIB


class Work(Protocol):
    """Work in steps; ``total_size`` is known, and may change, after the first of them."""

    total_size: int

    def run(self) -> Iterator[int]:
        """Do it; yields bytes done since the last step."""
        ...


def drive(work: Work, label: str | None, rate: float | None = None) -> None:
    """Do all of it.

    Args:
        label: of the bar; None: no bar.
        rate: MiB a second at most.
    """
    steps = work.run() if rate is None else _paced(work.run(), rate * MIB)
    if label is None or not sys.stderr.isatty():
        for _ in steps:
            pass
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=False) as bar:
        for size in steps:
            bar.length = length = max(1, work.total_size)
            bar.update(min(size, length - bar.pos))
        bar.update((bar.length or 0) - bar.pos)


def _paced(steps: Iterator[int], rate: float) -> Iterator[int]:
    """The same, with pauses."""
    started, done = time.monotonic(), 0
    for size in steps:
        done += size
        yield size
        early = done / rate - (time.monotonic() - started)
        if early > 0:
            time.sleep(early)
