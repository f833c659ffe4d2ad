"""The judge of a soak: what is flat passes, what grows does not, whatever single windows did."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from soaking.judge import (
    MEMORY_MAX,
    RULES,
    SEGMENTS_MAX,
    beyond_bounds,
    trends,
    write_amplification,
)
from soaking.sample import Sample

MIB = 1024 * 1024
WINDOWS = 120
KILLED_AT = 60  # the window in which the last process began


def flat(seed: int = 1) -> list[Sample]:
    """20 minutes with noise, and now and then a window that is far off."""
    chance = random.Random(seed)

    def around(value: float) -> float:
        return value * chance.uniform(0.9, 1.1) * (5 if chance.random() < 0.05 else 1)

    return [
        Sample(
            at=10.0 * number,
            generation=1 + (number >= KILLED_AT),
            uptime=10.0 * (number % KILLED_AT),
            anonymous=60 * MIB + chance.randrange(4 * MIB),
            descriptors=70,
            mappings=480 + chance.randrange(6),
            written=number * 6_000_000,
            appended=number * 2_000_000,
            live=100 * MIB,
            disk=400 * MIB + chance.randrange(32 * MIB),
            log=200 * MIB,
            segments=120 * MIB + chance.randrange(16 * MIB),
            segment_count=chance.randrange(4, 13),
            append_count=1000,
            append_p50=around(0.004),
            append_p99=around(0.030),
            read_p50=around(0.002),
            read_p99=around(0.020),
            late_p50=0.01,
        )
        for number in range(WINDOWS)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_outliers_are_flat(seed):
    found = trends(flat(seed))
    assert {trend.rule for trend in found} == set(RULES)
    assert [trend for trend in found if not trend.is_flat] == []
    assert beyond_bounds(flat(seed)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_grows_is_found(rule):
    samples = flat()
    start = getattr(samples[0], rule.name)
    most = 3 * max(rule.least, rule.share * start) / (WINDOWS / 2)  # a window
    growing = [
        replace(sample, **{rule.name: getattr(sample, rule.name) + number * most})
        for number, sample in enumerate(samples)
    ]
    assert [t.rule for t in trends(growing) if not t.is_flat] == [rule]


def test_a_leak_that_every_kill_ends_is_found_in_the_last_process():
    leaking = [replace(s, anonymous=s.anonymous + int(s.uptime * 64 * 1024)) for s in flat()]
    assert [t.rule.name for t in trends(leaking) if not t.is_flat] == ["anonymous"]


def test_a_short_run_has_no_trends():
    assert trends(flat()[:10]) == []


def test_bounds():
    for changes in (
        {"anonymous": MEMORY_MAX + 1},
        {"descriptors": 500},
        {"segment_count": SEGMENTS_MAX + 1},
    ):
        samples = flat()
        samples[7] = replace(samples[7], **changes)
        assert len(beyond_bounds(samples)) == 1, changes
    held = [replace(sample, segments=300 * MIB) for sample in flat()]
    assert len(beyond_bounds(held)) == 1


def test_write_amplification_is_of_the_second_half():
    assert write_amplification(flat()) == pytest.approx(3.0)
