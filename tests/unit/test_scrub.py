"""The scrub: what it finds, what it does about it, and that it disturbs nobody."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

import pytest

from durastream.engine.errors import ReadOnly, StreamQuarantined
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB
from support.damage import extent_fields, populate, segment_files, sign
from support.stores import SMALL_LIMITS, SMALL_STORE, contents

MARK = b"the bytes that will be damaged"
HIDING = ["index", "footer", "missing"]


@pytest.fixture
def store(opener):
    opened = opener()
    populate(opened)
    opened.flush()
    return opened


def round_of(store):
    """One whole round; the sizes of its steps."""
    sizes = []
    while (size := store.scrub.step()) is not None:
        sizes.append(size)
    return sizes


def found(store):
    return [(f.file.rsplit("/")[-1], f.stream_id, f.what) for f in store.scrub.state.findings]


def segment_of(store):
    return segment_files(store.path)[0]


def change_in_place(path, position, bits=0x40):
    """Others have the file open and mapped: it must stay the same file."""
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ bits]))


def test_a_whole_store_has_no_findings(store):
    size = segment_of(store).stat().st_size
    sizes = round_of(store)
    state = store.scrub.state
    assert found(store) == []
    assert (state.rounds, state.running, state.rows_unchecked) == (1, False, None)
    assert state.checked_size == state.total_size == size
    assert sum(sizes) == size
    assert max(sizes) <= 320 * 1024
    assert state.row_count == 6 + 6 + 1 + 2 + 1  # streams, paths, producers, deadlines, segments
    assert state.finished_ms >= state.started_ms


def test_damage_to_a_stream_puts_it_under_quarantine(store, caplog):
    raw = segment_of(store).read_bytes()
    change_in_place(segment_of(store), raw.index(MARK))
    store.append("/bad", b"after")
    round_of(store)
    ((file, stream_id, what),) = found(store)
    assert (file, stream_id, what) == (segment_of(store).name, 2, "wire bytes: checksum mismatch")
    with pytest.raises(StreamQuarantined):
        store.append("/bad", b"more")
    store.append("/good", b"goes on")
    assert contents(store, "/good") == b"first;second;goes on"
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "(stream 2, /bad, from offset 0 on)" in errors[0].getMessage()
    assert len(errors) == 1
    round_of(store)
    assert len(found(store)) == 1  # said once
    assert not store.read_only


def test_damage_to_an_offset_index_leaves_what_lies_before_it(store):
    store.append("/until", b"in a segment of its own;" * 10)
    store.flush()
    newest = segment_files(store.path)[-1]
    before = contents(store, "/until")[: 256 * 1024]
    change_in_place(newest, extent_fields(newest, 0)["ends"])
    round_of(store)
    assert [stream_id for _, stream_id, _ in found(store)] == [4]
    with pytest.raises(StreamQuarantined):
        store.append("/until", b"more")
    assert bytes(store.read("/until", max_bytes=256 * 1024)) == before


def test_the_quarantine_is_still_there_after_a_restart(store, opener):
    change_in_place(segment_of(store), segment_of(store).read_bytes().index(MARK))
    round_of(store)
    store.close()
    with pytest.raises(StreamQuarantined):
        opener().append("/bad", b"more")


def test_a_fork_of_damaged_bytes_is_hit_too_and_its_source_may_be_deleted(store):
    change_in_place(segment_of(store), segment_of(store).read_bytes().index(b"own, too"))
    round_of(store)
    with pytest.raises(StreamQuarantined):
        store.append("/fork-of-fork", b"more")
    assert store.delete("/fork-of-fork")


def test_damage_of_what_was_deleted_is_reported_and_hurts_nobody(store):
    position = segment_of(store).read_bytes().index(MARK)
    for path in ("/fork-of-fork", "/bad"):
        store.delete(path)
    change_in_place(segment_of(store), position)
    round_of(store)
    assert len(found(store)) == 1
    store.create("/bad", initial_data=b"anew")
    store.append("/bad", b", and whole")


def test_a_damaged_copy_of_a_row_is_reported_and_hurts_nobody(store):
    change_in_place(segment_of(store), extent_fields(segment_of(store), 1)["row"] + 3)
    round_of(store)
    assert found(store) == [(segment_of(store).name, 2, "row: checksum mismatch")]
    store.append("/bad", b"goes on")


@pytest.mark.parametrize("how", HIDING)
def test_damage_that_hides_whom_it_hit_makes_the_store_read_only(store, how):
    segment = segment_of(store)
    if how == "missing":
        segment.unlink()
    else:
        at = extent_fields(segment, 1)["entry"] if how == "index" else segment.stat().st_size - 60
        change_in_place(segment, at)
    round_of(store)
    assert store.read_only
    for write in (lambda: store.append("/good", b"x"), lambda: store.create("/new")):
        with pytest.raises(ReadOnly, match=segment.name):
            write()
    round_of(store)
    assert len(found(store)) == 1


def test_rows_that_vanished_make_the_store_read_only(opener, tmp_path):
    store = opener()
    populate(store)
    store.flush()
    rows = store._engine.metadata
    with rows._env.begin(write=True) as txn:
        assert txn.delete((2).to_bytes(8, "big"), db=rows._streams._db)
        sign(rows, txn)
    round_of(store)
    assert store.read_only
    with pytest.raises(ReadOnly, match="table streams: 5 rows where 6 were written"):
        store.append("/good", b"x")
    assert contents(store, "/good") == b"first;second;"


def test_a_damaged_row_is_reported_with_its_stream(store):
    rows = store._engine.metadata
    key = (2).to_bytes(8, "big")
    with rows._env.begin(write=True) as txn:
        stored = bytearray(txn.get(key, db=rows._streams._db))
        stored[3] ^= 1
        txn.put(key, bytes(stored), db=rows._streams._db)
        sign(rows, txn)
    round_of(store)
    ((file, stream_id, what),) = found(store)
    assert (file, stream_id) == ("data.mdb", 2)
    assert "table streams" in what
    assert not store.read_only
    store.append("/good", b"goes on")


def test_it_goes_on_beside_flushes_and_after_new_segments(store):
    store.scrub.step()
    store.append("/good", b"third;")
    store.flush()
    round_of(store)
    round_of(store)
    assert found(store) == []
    assert store.scrub.state.total_size == sum(f.stat().st_size for f in segment_files(store.path))


def test_the_thread_finds_damage_by_itself_and_stops_with_the_store(tmp_path):
    options = replace(SMALL_STORE, scrub_interval=0.05, scrub_rate=64 * MIB)
    store = FileBackedStreamStore(tmp_path / "data", limits=SMALL_LIMITS, options=options)
    populate(store)
    store.flush()
    change_in_place(segment_of(store), segment_of(store).read_bytes().index(MARK))
    until = time.monotonic() + 20
    while store.scrub.state.rounds == 0:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert [finding.stream_id for finding in store.scrub.state.findings] == [2]
    store.close()
    assert "durastream-scrub" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("off", [{"scrub_rate": 0}, {"scrub_interval": 0.0}])
def test_it_can_be_switched_off(tmp_path, off):
    options = replace(SMALL_STORE, **off)
    store = FileBackedStreamStore(tmp_path / "data", limits=SMALL_LIMITS, options=options)
    assert "durastream-scrub" not in [thread.name for thread in threading.enumerate()]
    store.close()


def test_its_rate_is_kept(tmp_path):
    options = replace(SMALL_STORE, scrub_interval=0.05, scrub_rate=MIB)
    store = FileBackedStreamStore(tmp_path / "data", limits=SMALL_LIMITS, options=options)
    store.create("/a", initial_data=bytes(MIB))
    store.flush()
    until = time.monotonic() + 20
    while not store.scrub.state.checked_size:
        assert time.monotonic() < until
        time.sleep(0.01)
    began = time.monotonic()
    while store.scrub.state.running:
        time.sleep(0.01)
    assert time.monotonic() - began > 0.5
    store.close()
