"""Reads for front ends, compiled: the same ranges as the store's, or left to it."""

import pytest

from durastream.engine.fast_path import FastPath
from durastream.engine.file_store import FileBackedStreamStore
from durastream.protocol.errors import StreamError
from durastream.protocol.offset import format_offset

OCTETS = "application/octet-stream"
JSON = "application/json"


@pytest.fixture
def store(tmp_path):
    store = FileBackedStreamStore(path=tmp_path)
    yield store
    store.close()


@pytest.fixture
def fast(store):
    return FastPath(store._engine)


def compare(store, fast, path, offset=b"", *, known=None):
    """What the fast path says is what the store says; whether it said anything."""
    found = fast.try_read(path.encode(), offset)
    try:
        expected = store.read(path, offset.decode() or None)
    except StreamError:
        assert found is None
        return False
    if found is None:
        return False
    assert b"".join(found.buffers) == bytes(expected)
    assert format_offset(found.start) == expected.offset
    assert format_offset(found.tail) == expected.next_offset
    assert expected.up_to_date
    assert found.is_closed == expected.closed
    assert found.incarnation == expected.incarnation
    assert found.content_type.decode() == expected.content_type
    return True


def offsets(store, path):
    """Every position up to behind the tail, and what is none."""
    tail = int(store.get(path).current_offset.rpartition("_")[2])
    yield from (b"", b"-1", b"now", b"0", b"x", b"-2", b"0" * 33, b"0" * 16 + b"_" + b"9" * 16)
    yield from (format_offset(position).encode() for position in range(tail + 2))


@pytest.mark.parametrize("content_type", [OCTETS, JSON])
@pytest.mark.parametrize("flushes", ["none", "first", "all"])
@pytest.mark.parametrize("is_closed", [False, True])
def test_ranges_are_those_of_the_store(store, fast, content_type, flushes, is_closed):
    store.create("/s", content_type=content_type)
    for number in range(3):
        store.append("/s", b"[%d, 2]" % number if content_type == JSON else b"abcd")
        if flushes == "all" or (flushes == "first" and number == 0):
            store.flush()
    if is_closed:
        store.close_stream("/s")
    for look in range(2):  # at the second one it knows what the first one found
        found = {offset for offset in offsets(store, "/s") if compare(store, fast, "/s", offset)}
        if flushes == "none" or look:
            assert len(found) == 3 + 4  # start, "-1", "now", and where each append begins or ends


def test_what_the_rules_have_a_say_in_is_left_to_the_store(store, fast):
    store.create("/a", initial_data=b"one")
    store.create("/fork", forked_from="/a")
    store.create("/ttl", ttl_seconds=60, initial_data=b"x")
    store.create("/late", expires_at="2099-01-01T00:00:00Z")
    store.delete("/a")
    for path in (b"/none", b"/fork", b"/ttl", b"/late", b"/a"):
        assert fast.try_read(path) is None
        assert fast.try_look(path) is None


def test_more_than_a_chunk_is_left_to_the_store(store, fast):
    store.create("/a", initial_data=b"x" * 100)
    assert fast.try_read(b"/a", size_max=99) is None
    assert fast.try_read(b"/a", size_max=100) is not None


def test_only_what_is_visible_is_shown(store, fast):
    store.create("/a", content_type=OCTETS)
    store._engine.stop_committing()
    assert fast.try_append(b"/a", OCTETS.encode(), b"not durable") is not None
    found = fast.try_read(b"/a")
    assert (found.tail, found.buffers) == (0, [])


def test_a_merged_segment_is_found_again(store, fast):
    store.create("/a")
    store.create("/dead")
    for _ in range(3):
        store.append("/a", b"abcd")
        store.append("/dead", b"x" * 100_000)
        store.flush()
    store.delete("/dead")
    store.flush()
    before = set(store._engine.by_number)
    assert not compare(store, fast, "/a")
    assert compare(store, fast, "/a")
    store.compact(everything=True)
    assert not before <= set(store._engine.by_number)
    assert fast.try_read(b"/a") is None
    assert bytes(store.read("/a")) == b"abcd" * 3
    assert compare(store, fast, "/a")
    assert store._engine.reaper.pinned_size == 0


def test_a_trimmed_stream_starts_at_its_earliest_position(store, fast):
    store.create("/a", retention_bytes=8)
    for _ in range(10):
        store.append("/a", b"abcd")
    store._maintenance.sweep()
    assert store.get("/a").is_trimmed
    for offset in offsets(store, "/a"):
        compare(store, fast, "/a", offset)
    assert fast.try_look(b"/a") is None


def test_bytes_that_are_not_in_memory_are_left_to_a_worker(store, fast, monkeypatch):
    store.create("/a", initial_data=b"abcd")
    store.flush()
    store.read("/a")
    assert fast.try_read(b"/a") is not None
    number = next(iter(store._engine.by_number))
    monkeypatch.setattr(store._engine, "by_number", {number: Gone()})
    assert fast.try_read(b"/a") is None


class Gone:
    """A segment whose pages were dropped."""

    def read_resident(self, index, start, end):
        return None


def test_a_head_tells_what_the_store_tells(store, fast):
    store.create("/a", content_type=JSON, initial_data=b"[1]")
    store.close_stream("/a")
    found, expected = fast.try_look(b"/a"), store.get("/a")
    assert format_offset(found.tail) == expected.current_offset
    assert (found.is_closed, found.content_type) == (True, JSON.encode())
    assert found.buffers is None


def test_a_closed_store_shows_nothing(store, fast):
    store.create("/a")
    store.close()
    assert fast.try_read(b"/a") is None
    assert fast.try_look(b"/a") is None
