"""Which segments to merge, and when: a function of their sizes alone.

Segments lie in the order of their LSNs, and only neighbours are merged, so that this order
stays. Two bounds are kept: on the number of segments, since a look-up probes them all, and on the
share of bytes that nobody needs. To keep the first, a run is merged in which no segment has more
than a third of the bytes: small ones pay for small ones, and a byte is copied only some
log(size) times, as the figures in tests/unit/test_compaction_policy.py show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

_LARGEST_SHARE = 2  # the rest of a run is at least so many times as large as its largest segment
_DEAD_SIZE_MIN = 1024 * 1024  # bytes: less is not worth a file


class Part(NamedTuple):
    """A segment, as the policy sees it. Sizes are bytes."""

    size: int
    dead_size: int
    is_movable: bool = True  # False: damaged, or it could not be read

    @property
    def live_size(self) -> int:
        return max(0, self.size - self.dead_size)


class Run(NamedTuple):
    """Segments [start, stop) of the list, to be merged into one."""

    start: int
    stop: int


def choose(parts: Sequence[Part], count_max: int, dead_share_max: float) -> Run | None:
    """What to merge now; None if both bounds are kept, or nothing can be done.

    Args:
        parts: all segments, the oldest first.
        count_max: segments that a look-up may probe.
        dead_share_max: of all bytes, how many may be dead, 0 to 1.
    """
    if len(parts) > count_max:
        found = _cheapest(parts)
        if found is not None:
            return found
    dead_size = sum(part.dead_size for part in parts)
    if dead_size > max(_DEAD_SIZE_MIN, dead_share_max * sum(part.size for part in parts)):
        return _most_wasteful(parts, dead_share_max)
    return None


def choose_to_free(parts: Sequence[Part], size_max: int) -> Run | None:
    """On a full disk: the segment that gives most for at most ``size_max`` bytes of new file."""
    worth = [
        (part.dead_size, at)
        for at, part in enumerate(parts)
        if part.is_movable and part.dead_size and part.live_size <= size_max
    ]
    return Run(max(worth)[1], max(worth)[1] + 1) if worth else None


def _cheapest(parts: Sequence[Part]) -> Run | None:
    """The run that costs least for each segment less; if all are unbalanced, the least so."""
    best: tuple[bool, float, Run] | None = None
    for run, size, largest in _runs(parts):
        rest = size - largest
        is_unbalanced = largest * _LARGEST_SHARE > rest
        cost = largest / max(1, rest) if is_unbalanced else size / (run.stop - run.start - 1)
        if best is None or (is_unbalanced, cost) < best[:2]:
            best = (is_unbalanced, cost, run)
    return None if best is None else best[2]


def _runs(parts: Sequence[Part]) -> Iterator[tuple[Run, int, int]]:
    """Every run of two or more movable segments, its live size and that of its largest."""
    for start in range(len(parts)):
        size = largest = 0
        for stop in range(start, len(parts)):
            if not parts[stop].is_movable:
                break
            size += parts[stop].live_size
            largest = max(largest, parts[stop].live_size)
            if stop > start:
                yield Run(start, stop + 1), size, largest


def _most_wasteful(parts: Sequence[Part], share_max: float) -> Run | None:
    """The segment with the largest share of dead bytes, and neighbours above the bound."""

    def share(at: int) -> float:
        part = parts[at]
        return part.dead_size / part.size if part.is_movable and part.size else 0.0

    start = max(range(len(parts)), key=share)
    if share(start) == 0:
        return None
    stop = start + 1
    while stop < len(parts) and share(stop) > share_max:
        stop += 1
    while start > 0 and share(start - 1) > share_max:
        start -= 1
    return Run(start, stop)
