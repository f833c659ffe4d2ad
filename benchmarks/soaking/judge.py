"""Whether a soak was flat: bounds that always hold, and trends of its second half.

The trend of a measure is its median slope between all pairs of samples (Theil and Sen), times
the length of the time looked at: what it grew by, whatever single windows did. It must be below a
share of its median. Memory, descriptors and mappings begin anew with each process, so they are
looked at from the last start on, which the plan leaves alone for the last third of the run. A run
that is too short for trends is held against the bounds alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from .sample import Sample

MIB = 1024 * 1024
FLUSH_SIZE = 16 * MIB  # staged before it is flushed: memory goes up and down by so much
MEMORY_MAX = (96 + 128) * MIB  # the process and its backlog: docs/operations.md, "Limits"
DESCRIPTORS_MAX = 128
SEGMENTS_MAX = 12 + 8  # at rest; and new ones while a large merge is under way
SPACE_MAX = 1 / 0.7  # segments over live bytes: 30 % may be dead
SPACE_BESIDE = 64 * MIB  # and what a flush and a merge hold beside
SETTLE = 60.0  # seconds after a start that say nothing of a trend
WINDOWS_MIN = 12  # for a trend


@dataclass(frozen=True, slots=True)
class Rule:
    """``name`` may grow by ``share`` of its median, or by ``least``, over the time looked at."""

    name: str
    share: float
    least: float
    is_of_process: bool = False


RULES = (
    Rule("anonymous", 0.10, FLUSH_SIZE, is_of_process=True),
    Rule("descriptors", 0.10, 3, is_of_process=True),
    Rule("mappings", 0.10, 8, is_of_process=True),
    Rule("disk", 0.10, 64 * MIB),
    Rule("segments", 0.15, 32 * MIB),
    Rule("append_p50", 0.25, 0.005),
    Rule("append_p99", 0.50, 0.025),
    Rule("read_p50", 0.25, 0.005),
    Rule("read_p99", 0.50, 0.025),
)


@dataclass(frozen=True, slots=True)
class Trend:
    rule: Rule
    median: float
    growth: float  # over the time looked at
    allowed: float

    @property
    def is_flat(self) -> bool:
        return self.growth <= self.allowed


def beyond_bounds(samples: Sequence[Sample]) -> list[str]:
    """What passed a bound, in words."""
    found = []
    for name, most in (
        ("anonymous", MEMORY_MAX),
        ("descriptors", DESCRIPTORS_MAX),
        ("segment_count", SEGMENTS_MAX),
    ):
        worst = max(getattr(sample, name) for sample in samples)
        if worst > most:
            found.append(f"{name}: {worst:,}, more than {most:,}")
    median_live = statistics.median(sample.live for sample in samples)
    median_held = statistics.median(sample.segments for sample in samples)
    if median_held > median_live * SPACE_MAX + SPACE_BESIDE:
        found.append(f"segments: {median_held:,} bytes for {median_live:,} that are live")
    return found


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """Of each rule for which there are enough windows."""
    found = []
    for rule in RULES:
        chosen = last_process(samples) if rule.is_of_process else second_half(samples)
        points = [(sample.at, float(getattr(sample, rule.name))) for sample in chosen]
        if len(points) >= WINDOWS_MIN:
            median = statistics.median(value for _, value in points)
            allowed = max(rule.least, rule.share * median)
            found.append(Trend(rule, median, growth(points), allowed))
    return found


def write_amplification(samples: Sequence[Sample]) -> float:
    """Bytes written for each byte appended, in the second half; 0 if nothing was."""
    first, *_, last = second_half(samples)
    appended = last.appended - first.appended
    return (last.written - first.written) / appended if appended else 0.0


def space_amplification(samples: Sequence[Sample]) -> float:
    """Bytes of segments for each live byte, in the median of the second half."""
    return statistics.median(s.segments / max(1, s.live) for s in second_half(samples))


def second_half(samples: Sequence[Sample]) -> list[Sample]:
    middle = (samples[0].at + samples[-1].at) / 2
    return [sample for sample in samples if sample.at >= middle]


def last_process(samples: Sequence[Sample]) -> list[Sample]:
    last = [sample for sample in samples if sample.generation == samples[-1].generation]
    return [sample for sample in last if sample.at >= last[0].at + SETTLE]


def growth(points: Sequence[tuple[float, float]]) -> float:
    """The median slope, times the length."""
    slopes = [(b - a) / (v - u) for (u, a), (v, b) in combinations(points, 2) if v > u]
    return statistics.median(slopes) * (points[-1][0] - points[0][0])
