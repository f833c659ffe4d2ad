"""Flushes that fail half-way, the sweeper, and the bounds of what is kept in memory (I2, I8)."""

from dataclasses import replace

import lmdb
import pytest

from durastream.engine.errors import StoreFull
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB, FileStoreOptions, Limits
from support.stores import crash

OPTIONS = FileStoreOptions(
    wal_file_size=2 * MIB,
    wal_size_max=8 * MIB,
    flush_age=3600.0,
    sweep_interval=3600.0,
    lmdb_map_size=64 * MIB,
    reserve_size=0,
)
A = "/v1/stream/a"


class Clock:
    def __init__(self):
        self.now = 1_700_000_000_000

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opener(tmp_path, clock):
    opened = []

    def open_store(**options):
        store = FileBackedStreamStore(
            tmp_path / "data",
            limits=Limits(body_size_max=MIB // 2),
            options=replace(OPTIONS, **options),
            clock=clock,
        )
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


# -- flush -----------------------------------------------------------------------------------


def test_a_flush_whose_commit_failed_is_tried_again(opener, monkeypatch):
    store = opener()
    store.create(A, initial_data=b"x")

    def full(*_):
        raise lmdb.MapFullError("full")

    with monkeypatch.context() as patch:
        patch.setattr(store._engine.metadata, "commit", full)
        for _ in range(2):
            with pytest.raises(lmdb.MapFullError):
                store.flush()
    assert store.flush()
    store.append(A, b"y")
    store.close()
    assert bytes(opener().read(A)) == b"xy"


# -- expiry ----------------------------------------------------------------------------------


def test_sweeps_get_through_any_number_of_expired_rows_without_a_flush(opener, clock):
    store = opener()
    for number in range(1100):
        store.create(f"/{number}", ttl_seconds=10)
    store.close()
    store = opener()
    clock.now += 20_000
    assert [store.sweep() for _ in range(4)] == [500, 500, 100, 0]


def test_the_sweeper_forgets_in_memory_what_its_table_has(opener, clock):
    store = opener()
    for number in range(50):
        store.create("/gone", ttl_seconds=86_400)
        store.delete("/gone")
        store.create(f"/{number}", ttl_seconds=10)
    store.flush()
    assert store._engine.operations.watchlist.deadlines == []
    store.create("/unflushed", ttl_seconds=10)
    clock.now += 20_000
    assert store.sweep() == 51


@pytest.mark.parametrize("is_flushed", [False, True], ids=["in the log", "in a row"])
@pytest.mark.parametrize("leave", [FileBackedStreamStore.close, crash])
def test_no_access_is_forgotten_however_the_store_ends(opener, clock, leave, is_flushed):
    """A sixteenth of a TTL is too short to be logged, and must count all the same."""
    store = opener()
    store.create(A, ttl_seconds=160)
    if is_flushed:
        store.flush()
    clock.now += 9_000
    store.read(A)
    leave(store)
    store = opener()
    clock.now += 159_000
    assert store.has(A)
    clock.now += 2_000
    assert not store.has(A) or leave is crash
    clock.now += 10_000
    assert not store.has(A)


def test_an_orderly_close_keeps_accesses_exactly(opener, clock):
    store = opener()
    store.create(A, ttl_seconds=160)
    clock.now += 9_000
    store.read(A)
    accessed_at = store.get(A).last_accessed_at
    for _ in range(2):
        store.close()
        store = opener()
        assert store.get(A).last_accessed_at == accessed_at


# -- memory ----------------------------------------------------------------------------------


def test_a_refusal_does_not_hold_on_to_whom_it_refused(opener):
    store = opener()
    store.create(A)
    store._engine.set_disk_full(True)
    lengths = set()
    for _ in range(5):
        with pytest.raises(StoreFull) as refused:
            store.append(A, b"x")
        lengths.add(len(refused.traceback))
    assert len(lengths) == 1


def test_paths_that_nobody_made_are_forgotten_as_fast_as_they_are_asked_for(opener):
    store = opener(streams_cached_max=100)
    store._maintenance.stop()
    for start in range(0, 60_000, 15_000):
        for number in range(start, start + 15_000):
            store.get(f"/unknown/{number}")
        store._maintenance._evict()
    assert len(store._engine.catalog.bindings) < 25_000


def test_a_hot_streams_producers_are_bounded_and_go_on(opener):
    store = opener(wal_size_max=64 * MIB)
    store.create(A)
    names = [f"p{number}" for number in range(1500)]
    produce(store, names, 0)
    flush_with(store, lambda: produce(store, names[:10], 1))  # it changes during the flush, too
    entry = store._engine.catalog.entries[1]
    assert len(entry.producers) == 10
    for name in ("p0", "p1499"):
        again = store.append_with_producer(
            A, b"x", producer_id=name, producer_epoch=0, producer_seq=0
        )
        assert again.producer.status == "duplicate"
    produce(store, names[10:20], 1)
    store.close()
    store = opener()
    assert store.get_producer_epoch(A, "p1499") == 0
    entry = store._engine.catalog.entries[1]
    for number in range(3000):
        assert store.get_producer_epoch(A, f"nobody{number}") is None
    assert len(entry.producers) + len(entry.producers_read) <= 1024


def produce(store, names, seq):
    for name in names:
        done = store.append_with_producer(
            A, b"x", producer_id=name, producer_epoch=0, producer_seq=seq
        )
        assert done.producer.status == "accepted"


def flush_with(store, work):
    """Flush, with ``work`` done between taking what is dirty and writing it."""
    metadata, commit = store._engine.metadata, store._engine.metadata.commit

    def commit_later(*args):
        work()
        commit(*args)

    metadata.commit = commit_later
    try:
        store.flush()
    finally:
        metadata.commit = commit


def test_a_producer_read_before_a_flush_is_not_taken_for_newer(opener):
    store = opener(wal_size_max=64 * MIB)
    store.create(A)
    produce(store, ["p"], 0)
    store.close()
    store = opener(wal_size_max=64 * MIB)
    metadata, producer = store._engine.metadata, store._engine.metadata.producer

    def overtaken(stream_id, producer_id):
        metadata.producer = producer
        found = producer(stream_id, producer_id)
        produce(store, ["p"], 1)
        produce(store, [f"other{number}" for number in range(1100)], 0)
        store.flush()  # lets go of all of them
        return found

    metadata.producer = overtaken
    again = store.append_with_producer(A, b"x", producer_id="p", producer_epoch=0, producer_seq=1)
    assert again.producer.status == "duplicate"


# -- all streams -----------------------------------------------------------------------------


def test_a_stream_made_again_while_listing_is_listed_once(opener):
    store = opener()
    store.create(A)
    store.close()
    store = opener()
    metadata, rows = store._engine.metadata, store._engine.metadata.rows

    def overtaken():
        yield from list(rows())
        store.delete(A)
        store.create(A)
        store.flush()

    metadata.rows = overtaken
    assert store.list() == [A]


def test_clearing_waits_for_the_disk_once_and_hides_no_trouble(opener):
    store = opener()
    for number in range(200):
        store.create(f"/{number}", forked_from=f"/{number - 1}" if number % 3 else None)
    store._engine.operations.write_refusal = StoreFull("no room")
    with pytest.raises(StoreFull):
        store.clear()
    store._engine.operations.write_refusal = None
    before = store._engine.log.syncs
    store.clear()
    assert store._engine.log.syncs - before < 50
    assert store.list() == []
