"""``OffsetIndex``: the native class and its readable twin give the same answers."""

from __future__ import annotations

import importlib
from array import array

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native import offset_index as native
from durastream.engine import offset_index_py

IMPLEMENTATIONS = {
    "native": "durastream._native.offset_index",
    "python": "durastream.engine.offset_index_py",
}


@pytest.fixture(params=IMPLEMENTATIONS)
def module(request):
    return importlib.import_module(IMPLEMENTATIONS[request.param])


def look_up(module, ends, base, positions):
    out = array("q", bytes(8 * len(positions)))
    module.OffsetIndex(ends, base).look_up(array("Q", positions), out)
    return out.tolist()


def test_each_byte_belongs_to_its_message(module):
    ends = array("Q", [12 << 1, 13 << 1 | 1, 17 << 1 | 1])
    found = look_up(module, ends, 10, range(8, 19))
    assert found == [-1, -1, 0, 0, 1, 2, 2, 2, 2, -1, -1]


def test_ranges_of_messages(module):
    index = module.OffsetIndex(array("Q", [12 << 1, 17 << 1 | 1]), 10)
    assert (len(index), index.base, index.end) == (2, 10, 17)
    assert [index.message_range(number) for number in (0, 1)] == [(10, 12), (12, 17)]


@pytest.mark.parametrize("number", [-1, 2])
def test_there_is_no_other_message(module, number):
    index = module.OffsetIndex(array("Q", [12 << 1, 17 << 1 | 1]), 10)
    with pytest.raises(IndexError, match="of 2"):
        index.message_range(number)


def test_an_empty_index_holds_nothing(module):
    assert look_up(module, array("Q"), 5, [0, 4, 5, 6]) == [-1] * 4
    assert module.OffsetIndex(array("Q"), 5).end == 5


def test_results_need_room_for_each_position(module):
    index = module.OffsetIndex(array("Q", [3]), 0)
    with pytest.raises(ValueError, match="2 positions"):
        index.look_up(array("Q", [0, 1]), array("q", [0]))


def test_the_native_index_refuses_other_types():
    with pytest.raises(ValueError, match="mismatch"):
        native.OffsetIndex(array("I", [1]), 0)


def test_numpy_gives_and_takes_the_arrays():
    ends = numpy.arange(1, 10_001, dtype=numpy.uint64) << numpy.uint64(1)
    positions = numpy.arange(10_000, dtype=numpy.uint64)
    out = numpy.empty(10_000, dtype=numpy.int64)
    index = native.OffsetIndex(ends)
    index.look_up(positions, out)
    assert (out == positions.astype(numpy.int64)).all()
    assert numpy.shares_memory(numpy.frombuffer(index.ends, dtype=numpy.uint64), ends)


@given(
    base=st.integers(0, 2**40),
    messages=st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=40),
    positions=st.lists(st.integers(-3, 400), max_size=40),
)
def test_twins_agree(base, messages, positions):
    ends, position = array("Q"), base
    for size, is_append_end in messages:
        position += size
        ends.append(position << 1 | is_append_end)
    wanted = [max(0, base + offset) for offset in positions]
    assert look_up(native, ends, base, wanted) == look_up(offset_index_py, ends, base, wanted)
    ranges = [
        [module.OffsetIndex(ends, base).message_range(number) for number in range(len(ends))]
        for module in (native, offset_index_py)
    ]
    assert ranges[0] == ranges[1]
