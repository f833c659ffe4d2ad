"""Which segments are merged, and what that costs: the bounds hold, and a byte is copied rarely."""

import random

import pytest

from durastream.engine.compaction_policy import Part, Run, choose, choose_to_free

MIB = 1024 * 1024


def merge(parts, run):
    """The segments after a merge, and the bytes that it wrote."""
    size = sum(part.live_size for part in parts[run.start : run.stop])
    return [*parts[: run.start], Part(size, 0), *parts[run.stop :]], size


def grow(flush_sizes, count_max):
    """Write amplification, flushes included, and the largest number of segments."""
    parts, written, most = [], 0, 0
    for size in flush_sizes:
        parts.append(Part(size, 0))
        while run := choose(parts, count_max, 0.3):
            parts, size = merge(parts, run)
            written += size
        most = max(most, len(parts))
    return 1 + written / sum(flush_sizes), most


@pytest.mark.parametrize(("flush_count", "expected"), [(100, 2.4), (1000, 5), (5000, 6.5)])
def test_a_byte_is_written_some_log_size_times(flush_count, expected):
    amplification, most = grow([16 * MIB] * flush_count, 12)
    assert amplification < expected
    assert most <= 12


def test_the_number_is_bounded_whatever_the_sizes():
    rng = random.Random(7)
    sizes = [rng.choice([1, 10_000, MIB, 16 * MIB]) for _ in range(2000)]
    amplification, most = grow(sizes, 12)
    assert amplification < 7
    assert most <= 12
    assert grow(sizes[:200], 3)[1] <= 3


def test_nothing_is_done_within_the_bounds():
    parts = [Part(100 * MIB, 29 * MIB)] * 12
    assert choose(parts, 12, 0.3) is None
    assert choose([], 12, 0.3) is None
    assert choose([Part(1000, 1000)], 12, 0.3) is None, "too little to be worth a file"


def test_the_most_wasteful_is_rewritten_with_wasteful_neighbours():
    parts = [Part(50 * MIB, 20 * MIB), Part(50 * MIB, 40 * MIB), Part(50 * MIB, 0)]
    assert choose(parts, 12, 0.3) == Run(0, 2)
    assert choose(parts[::-1], 12, 0.3) == Run(1, 3)


def test_the_dead_share_ends_below_its_bound():
    rng = random.Random(3)
    parts = [Part(size := rng.randint(1, 90) * MIB, rng.randint(0, size)) for _ in range(12)]
    steps = 0
    while run := choose(parts, 12, 0.3):
        parts, _ = merge(parts, run)
        steps += 1
    assert sum(p.dead_size for p in parts) <= 0.3 * sum(p.size for p in parts)
    assert 0 < steps < 10


def test_what_cannot_be_moved_divides_the_rest():
    stuck = Part(MIB, MIB, is_movable=False)
    parts = [*[Part(MIB, 0)] * 4, stuck, *[Part(MIB, 0)] * 3]
    run = choose(parts, 7, 0.3)
    assert run == Run(0, 4)
    assert choose([stuck] * 9, 7, 0.1) is None


def test_a_full_disk_is_given_most_for_what_little_there_is():
    parts = [Part(90 * MIB, 60 * MIB), Part(200 * MIB, 90 * MIB), Part(10 * MIB, 0)]
    assert choose_to_free(parts, 64 * MIB) == Run(0, 1)
    assert choose_to_free(parts, 200 * MIB) == Run(1, 2)
    assert choose_to_free(parts, MIB) is None
