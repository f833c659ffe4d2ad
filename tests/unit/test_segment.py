"""``Segment``: finding, reading and searching, against a model in plain Python."""

from __future__ import annotations

import errno
import random
import threading
from array import array

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import PosixDisk
from support.segments import WatchedDisk, ends_of, open_segment, write, writer

BLOCK = 64 * 1024
MIB = 1024 * 1024


class Model:
    """One extent as lists: what each operation is meant to say, by scanning."""

    def __init__(self, base, appends):
        self.base = base
        self.ends = [(end >> 1, bool(end & 1)) for end in ends_of(base, appends)]
        self.end = self.ends[-1][0] if self.ends else base

    def boundary(self, position):
        return 2 if position == self.base else self.marks().get(position, -1) + 1

    def marks(self):
        return {position: int(is_append) for position, is_append in self.ends}

    def append_start(self, position):
        return max([self.base, *(p for p, is_append in self.ends if is_append and p <= position)])

    def chunk_end(self, start, limit, size_max, whole_messages):
        limit = min(limit, self.end)
        if start >= limit:
            return start
        cut = min(limit, start + size_max)
        within = [(p, is_append) for p, is_append in self.ends if start < p <= cut]
        if any(is_append for _, is_append in within):
            return max(p for p, is_append in within if is_append)
        if whole_messages:
            behind = [p for p, _ in self.ends if p > start]
            return within[-1][0] if within else min(limit, behind[0])
        cut = self.append_start(start)
        while cut <= start:
            cut += size_max
        return min(limit, cut)

    def message_end(self, start, count):
        if count == 0:
            return start
        for position, is_append in self.ends:
            if position > start:
                count -= 1
                if count == 0:
                    return position
                if is_append:
                    return -1
        return -1

    def append_ends(self, start, end):
        return [p for p, is_append in self.ends if is_append and start < p <= end]


def agree(segment, model, rng, queries):
    appends = [model.base, *model.append_ends(model.base, model.end)]
    for _ in range(queries):
        start = rng.randint(model.base, model.end)
        end = rng.randint(start, min(model.end, start + 40))
        size_max = rng.choice([1, 2, 7, 30, 1000])
        limit, whole = rng.choice(appends), rng.random() < 0.5
        assert segment.boundary(0, start) == model.boundary(start)
        assert segment.append_start(0, start) == model.append_start(start)
        assert segment.append_ends(0, start, end).tolist() == model.append_ends(start, end)
        chunk = segment.chunk_end(0, start, limit, size_max, whole)
        assert chunk == model.chunk_end(start, limit, size_max, whole)
        begin, count = rng.choice(appends), rng.randint(0, 5)
        assert segment.message_end(0, begin, count) == model.message_end(begin, count)


sizes = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), max_size=12)


@given(base=st.integers(0, 2**40), sizes=sizes, seed=st.integers(0, 2**32))
def test_searches_agree_with_a_scan(base, sizes, seed, tmp_path_factory):
    path = tmp_path_factory.mktemp("segment") / "7.seg"
    appends = [[b"m" * size for size in append] for append in sizes]
    write(PosixDisk(), path, [(1, base, appends, b"row")])
    segment = open_segment(PosixDisk(), path)
    agree(segment, Model(base, appends), random.Random(seed), 10)


@pytest.mark.parametrize("seed", range(6))
def test_searches_over_many_blocks_verify_what_they_touch(tmp_path, seed):
    rng = random.Random(seed)
    append_sizes = [rng.choice([1, 1, 3, 50]) for _ in range(700)] + [12_000]
    rng.shuffle(append_sizes)
    appends = [[b"m" * rng.randint(1, 3) for _ in range(size)] for size in append_sizes]
    write(PosixDisk(), tmp_path / "7.seg", [(1, 7, appends, b"row")])
    watched = WatchedDisk()
    segment = open_segment(DelegatedDisk(watched), tmp_path / "7.seg")
    assert segment.message_count > 2 * BLOCK // 8
    agree(segment, Model(7, appends), rng, 6)
    # Each block once, with its checksum; header, footer and index were three reads.
    blocks = -(-segment.message_count * 8 // BLOCK)
    assert watched.count("pread") <= 3 + 2 * blocks


def test_a_chunk_of_messages_costs_what_it_returns(tmp_path):
    """Also at the end of an append of many: what lies before is not read."""
    count = 10 * BLOCK // 8
    write(PosixDisk(), tmp_path / "7.seg", [(1, 0, [[b"m"] * count], b"")])
    watched = WatchedDisk()
    segment = open_segment(DelegatedDisk(watched), tmp_path / "7.seg")
    opened = watched.count("pread")
    assert segment.chunk_end(0, count - 20, count, 10, True) == count - 10
    assert segment.boundary(0, count - 15) == 1
    assert watched.count("pread") - opened <= 2 * 5  # a binary search over ten blocks


def test_finding_extents(tmp_path):
    appends = [[b"0123456789"]]
    extents = [(2, 0, [], b"r"), (4, 5, appends, b""), (4, 15, appends, b""), (4, 40, appends, b"")]
    write(PosixDisk(), tmp_path / "7.seg", extents)
    segment = open_segment(PosixDisk(), tmp_path / "7.seg")
    positions = (0, 4, 5, 14, 15, 24, 25, 39, 40, 49, 50, 2**64 - 1)
    assert [segment.find(4, position) for position in positions] == [
        -1, -1, 1, 1, 2, 2, -1, -1, 3, 3, -1, -1,
    ]  # fmt: skip
    assert [segment.find_end(4, position) for position in positions] == [
        -1, -1, -1, 1, 1, 2, 2, -1, -1, 3, 3, -1,
    ]  # fmt: skip
    assert segment.extents_of(4) == [(5, 15, 1), (15, 25, 2), (40, 50, 3)]
    assert segment.extents_of(2) == [(0, 0, 0)]
    assert segment.extents_of(3) == []
    assert [segment.find(stream_id, 7) for stream_id in (0, 2, 3, 5)] == [-1] * 4


@pytest.mark.parametrize(
    "use",
    [
        lambda segment: segment.read(0, 4, 6),
        lambda segment: segment.read(0, 6, 5),
        lambda segment: segment.read(0, 5, 9),
        lambda segment: segment.boundary(0, 9),
        lambda segment: segment.append_start(0, 4),
        lambda segment: segment.chunk_end(0, 5, 8, 0, False),
        lambda segment: segment.append_ends(0, 5, 9),
        lambda segment: segment.resident(0, 5, 9),
    ],
)
def test_positions_outside_are_refused(tmp_path, use):
    write(PosixDisk(), tmp_path / "7.seg", [(1, 5, [[b"abc"]], b"")])
    with pytest.raises(ValueError, match=r"not within|at least 1"):
        use(open_segment(PosixDisk(), tmp_path / "7.seg"))


@pytest.mark.parametrize("index", [-1, 1])
def test_extents_outside_are_refused(tmp_path, index):
    write(PosixDisk(), tmp_path / "7.seg", [(1, 5, [[b"abc"]], b"")])
    segment = open_segment(PosixDisk(), tmp_path / "7.seg")
    for use in (segment.extent, segment.row, segment.ends, lambda i: segment.read(i, 5, 5)):
        with pytest.raises(IndexError, match="of 1"):
            use(index)


def test_an_extent_without_data_has_only_a_row(tmp_path):
    write(PosixDisk(), tmp_path / "7.seg", [(1, 0, [], b"row")])
    segment = open_segment(PosixDisk(), tmp_path / "7.seg")
    assert (segment.row(0), segment.read(0, 0, 0), segment.ends(0).tolist()) == (b"row", b"", [])
    assert (segment.boundary(0, 0), segment.append_start(0, 0)) == (2, 0)
    assert segment.chunk_end(0, 0, 100, 10, False) == 0
    assert segment.append_ends(0, 0, 0).tolist() == []
    assert (segment.message_end(0, 0, 0), segment.message_end(0, 0, 1)) == (0, -1)


def test_views_are_read_only_and_outlive_the_segment(tmp_path):
    watched = WatchedDisk()
    write(PosixDisk(), tmp_path / "7.seg", [(1, 0, [[b"abc"], [b"de"]], b"")])
    segment = open_segment(DelegatedDisk(watched), tmp_path / "7.seg")
    data, ends = segment.read(0, 1, 4), segment.ends(0)
    segment.close()
    segment.close()
    del segment
    assert watched.count("close") == 0
    assert (bytes(data), data.readonly, ends.readonly) == (b"bcd", True, True)
    assert numpy.frombuffer(ends, dtype=numpy.uint64).tolist() == [3 << 1 | 1, 5 << 1 | 1]
    del data, ends
    assert watched.count("close") == 1


def test_a_closed_segment_refuses(tmp_path):
    write(PosixDisk(), tmp_path / "7.seg", [(1, 0, [[b"abc"]], b"")])
    segment = open_segment(PosixDisk(), tmp_path / "7.seg")
    segment.close()
    for use in (lambda: segment.find(1, 0), lambda: segment.read(0, 0, 3), lambda: segment.row(0)):
        with pytest.raises(ValueError, match="was closed"):
            use()


def test_resident_means_that_nothing_is_read(tmp_path):
    watched = WatchedDisk()
    write(PosixDisk(), tmp_path / "7.seg", [(1, 0, [[b"x" * 3 * BLOCK], [b"y" * BLOCK]], b"")])
    segment = open_segment(DelegatedDisk(watched), tmp_path / "7.seg")
    opened = watched.count("pread")
    assert not segment.resident(0, 0, BLOCK)
    assert watched.count("pread") == opened

    segment.read(0, 0, BLOCK)
    assert not segment.resident(0, 0, BLOCK)  # its ends were not
    segment.chunk_end(0, 0, 4 * BLOCK, BLOCK, False)
    read = watched.count("pread")
    assert segment.resident(0, 0, BLOCK)
    assert not segment.resident(0, 0, BLOCK + 1)
    segment.read(0, 5, BLOCK - 5)
    segment.chunk_end(0, 0, 4 * BLOCK, BLOCK, False)
    assert watched.count("pread") == read


def test_an_error_of_the_medium_concerns_one_call(tmp_path):
    watched = WatchedDisk()
    write(PosixDisk(), tmp_path / "7.seg", [(1, 0, [[b"abc"]], b"row")])
    segment = open_segment(DelegatedDisk(watched), tmp_path / "7.seg")
    watched.fail = lambda name, _: errno.EIO if name == "pread" else 0
    for use in (
        lambda: segment.read(0, 0, 3),
        lambda: segment.row(0),
        lambda: segment.boundary(0, 1),
        lambda: segment.message_end(0, 0, 1),
    ):
        with pytest.raises(OSError, match=r"7\.seg, byte \d+") as caught:
            use()
        assert caught.value.errno == errno.EIO
    assert any(isinstance(found, OSError) for found in segment.verify())
    watched.fail = lambda name, number: 0
    assert (segment.read(0, 0, 3), segment.row(0)) == (b"abc", b"row")


def test_readers_in_threads_share_a_segment_that_is_closed_under_them(tmp_path):
    data = random.Random(1).randbytes(4 * MIB)
    segment_writer = writer(PosixDisk(), tmp_path / "7.seg")
    positions = range(1000, 4 * MIB, 1000)
    ends = array("Q", [*(position << 1 | 1 for position in positions), 4 * MIB << 1 | 1])
    segment_writer.add(1, 0, [data], ends, b"")
    segment_writer.finish()
    segment = open_segment(PosixDisk(), tmp_path / "7.seg")
    wrong, reads, started = [], [0] * 6, threading.Barrier(7)

    def read(number):
        rng = random.Random(number)
        started.wait()
        while True:
            start = rng.randrange(4 * MIB)
            try:
                end = segment.chunk_end(0, start, 4 * MIB, 100_000, True)
                if segment.read(0, start, end) != data[start:end]:
                    wrong.append((start, end))
            except ValueError:
                return
            reads[number] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    started.wait()
    while min(reads) < 20:
        threading.Event().wait(0.001)
    segment.close()
    for thread in threads:
        thread.join()
    assert wrong == []
