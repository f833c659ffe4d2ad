"""The unflushed tail of a stream against a plain model of messages."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.errors import TailMoved
from durastream._native.tail import Tail
from simulation.logs import Writer, new_disk, open_log

APPENDS = st.lists(
    st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=8
)  # message sizes by append


class Model:
    """The same appends as a list of ends."""

    def __init__(self, appends: list[list[int]]) -> None:
        self.data = b""
        self.ends: dict[int, bool] = {}  # position -> whether an append ends
        for number, sizes in enumerate(appends):
            for size in sizes:
                self.data += bytes([number + 65]) * size
                self.ends[len(self.data)] = False
            self.ends[len(self.data)] = True

    def appends(self) -> list[int]:
        return [end for end, of_append in self.ends.items() if of_append]

    def append_start(self, position: int) -> int:
        return max([0, *(end for end in self.appends() if end <= position)])

    def chunk_end(self, start: int, limit: int, size_max: int, whole_messages: bool) -> int:
        for ends in (self.appends(), list(self.ends) if whole_messages else []):
            fitting = [end for end in ends if start < end <= min(limit, start + size_max)]
            if start >= limit or fitting:
                return max(fitting, default=start)
        if whole_messages:
            return min(end for end in self.ends if end > start)
        first = self.append_start(start)
        return min(limit, first + ((start - first) // size_max + 1) * size_max)

    def message_end(self, start: int, count: int) -> int:
        ends = [start, *(end for end in self.ends if end > start)]
        last = next((end for end in self.appends() if end > start), start)
        return ends[count] if count < len(ends) and ends[count] <= last else -1


def build(appends: list[list[int]]) -> tuple[Tail, Model]:
    log, _, _ = open_log(new_disk())
    writer, model, position = Writer(log), Model(appends), 0
    for sizes in appends:
        end = position + sum(sizes)
        writer.append(1, model.data[position:end], array("I", sizes))
        position = end
    return writer.tails[1], model


@given(APPENDS, st.integers(1, 12), st.booleans(), st.data())
def test_searches_agree_with_the_model(
    appends: list[list[int]], size_max: int, whole: bool, data: st.DataObject
) -> None:
    tail, model = build(appends)
    assert (tail.start, tail.end, tail.size) == (0, len(model.data), len(model.data))
    for position in range(tail.end + 2):
        wanted = 2 if position == 0 else {None: 0, False: 1, True: 2}[model.ends.get(position)]
        assert tail.boundary(position) == wanted
    for position in range(tail.end):
        assert tail.append_start(position) == model.append_start(position)
    limit = data.draw(st.sampled_from([0, *model.appends()]))
    for start in range(limit + 1):
        wanted = model.chunk_end(start, limit, size_max, whole)
        assert tail.chunk_end(start, limit, size_max, whole) == wanted
    for start in [0, *model.appends()]:
        for count in range(6):
            assert tail.message_end(start, count) == model.message_end(start, count)


@given(APPENDS, st.data())
def test_reads_and_drops_agree_with_the_model(
    appends: list[list[int]], data: st.DataObject
) -> None:
    tail, model = build(appends)
    floor = data.draw(st.sampled_from([0, *model.appends()]))
    tail.drop_below(floor)
    assert (tail.start, tail.end) == (floor, len(model.data))
    start = data.draw(st.integers(floor, tail.end))
    end = data.draw(st.integers(start, tail.end))
    assert b"".join(tail.read(start, end)) == model.data[start:end]
    assert list(tail.append_ends(start, end)) == [p for p in model.appends() if start < p <= end]
    assert tail.boundary(floor) == 2


def test_large_pieces_are_views_and_runs_of_small_ones_are_copied() -> None:
    log, _, _ = open_log(new_disk(), file_size=1 << 20)
    writer = Writer(log)
    for data in (b"a" * 10, b"b" * 10, b"c" * 65_536, b"d" * 10):
        writer.append(1, data)
    parts = writer.tails[1].read(5, 65_566)
    assert [type(part) for part in parts] == [bytes, memoryview, bytes]
    assert [len(part) for part in parts] == [15, 65_536, 10]
    # Less than 64 KiB of a large piece is copied, too.
    assert [type(part) for part in writer.tails[1].read(21, 65_566)] == [bytes]


def test_many_appends_and_drops_keep_the_index_right() -> None:
    log, _, _ = open_log(new_disk(), file_size=1 << 20)
    writer = Writer(log)
    for number in range(3000):
        writer.append(1, b"%04d" % number)
        tail = writer.tails[1]
        if number % 7 == 6:
            tail.drop_below(max(tail.start, tail.end - 40))
        low = max(tail.start, tail.end - 12)
        assert b"".join(tail.read(low, tail.end)).endswith(b"%04d" % number)
    assert tail.message_count == tail.size // 4


def test_refuses_what_is_outside() -> None:
    tail, _ = build([[3, 4]])
    for call in (
        lambda: tail.read(0, 8),
        lambda: tail.read(5, 4),
        lambda: tail.chunk_end(0, 8, 10, False),
        lambda: tail.chunk_end(0, 7, 0, False),
        lambda: tail.drop_below(3),
        lambda: tail.drop_below(8),
    ):
        with pytest.raises(ValueError, match=r"tail|size_max"):
            call()
    tail.drop_below(7)
    with pytest.raises(TailMoved, match="starts at 7"):
        tail.read(0, 7)
    assert tail.read(7, 7) == []
