"""Slabs: memory that neither moves nor changes nor goes while somebody looks at it."""

from __future__ import annotations

import gc

import pytest

from durastream._native.slab import Slab
from simulation.logs import Writer, new_disk, open_log


def test_an_empty_slab() -> None:
    slab = Slab(4096)
    assert (len(slab), slab.capacity, slab.first_lsn) == (0, 4096, 0)
    assert bytes(memoryview(slab)) == b""


def test_refuses_no_capacity() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Slab(0)


def test_is_read_only() -> None:
    with pytest.raises(TypeError):
        memoryview(Slab(8))[0:0] = b""


def test_a_view_outlives_log_and_tail() -> None:
    log, _, _ = open_log(new_disk(), file_size=1 << 20)
    writer = Writer(log)
    data = bytes(range(256)) * 512
    writer.commit(1, data)
    (view,) = writer.tails[1].read(0, len(data))
    assert isinstance(view, memoryview)
    assert view.readonly
    log.release(log.durable_point())
    log.close()
    del writer, log
    gc.collect()
    assert view == data


def test_what_only_readers_hold_is_counted() -> None:
    log, _, _ = open_log(new_disk(), file_size=1 << 20)
    writer = Writer(log)
    size = 128 * 1024
    writer.commit(1, bytes(size))
    (view,) = writer.tails[1].read(0, size)
    assert isinstance(view, memoryview)
    assert log.pinned_size == 0
    log.release(log.durable_point())
    writer.tails.clear()
    gc.collect()
    assert log.pinned_size >= size
    del view
    assert log.pinned_size == 0
