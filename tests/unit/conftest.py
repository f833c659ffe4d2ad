"""Fixtures of the file store's tests."""

import time
from dataclasses import replace

import pytest

from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB, Limits
from support.damage import populate
from support.repair import seen
from support.stores import SMALL_LIMITS, SMALL_STORE, ManualClock, crash, fill_spare


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def opener(tmp_path, clock):
    """Opens the one store of a test, again and again; nothing is flushed or swept by itself."""
    opened = []

    def open_store(**options):
        store = FileBackedStreamStore(
            tmp_path / "data",
            limits=SMALL_LIMITS,
            options=replace(SMALL_STORE, **options),
            clock=clock,
        )
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def settled(tmp_path, clock):
    """Have the log of ``opener`` stay in one file."""
    fill_spare(
        FileBackedStreamStore(
            tmp_path / "data",
            limits=SMALL_LIMITS,
            options=SMALL_STORE,
            clock=clock,
            threads=False,
        )
    )


def flush_and_crash(store):
    store.flush()
    crash(store)


@pytest.fixture(params=[FileBackedStreamStore.close, crash, flush_and_crash])
def leave(request):
    """Ways to end a store, after which it must be found the same."""
    return request.param


@pytest.fixture
def folder(tmp_path):
    """The data directory of ``opener`` and ``quick_opener``."""
    return tmp_path / "data"


@pytest.fixture
def quick_opener(folder, clock):
    """As ``opener``, with small files of the log, which are quick to make and to read."""
    opened = []

    def open_store(**changes):
        options = replace(
            SMALL_STORE, wal_file_size=MIB, wal_size_max=64 * MIB, slab_size=MIB // 4, **changes
        )
        limits = Limits(body_size_max=MIB // 2)
        opened.append(FileBackedStreamStore(folder, limits=limits, options=options, clock=clock))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def settled_log(folder, quick_opener):
    """Have the log begin in a file that was filled before: it is not left for a better one."""
    store = quick_opener()
    for _ in range(500):
        spare = folder / "wal" / "spare.wal"
        if spare.exists() and spare.stat().st_size == MIB:
            break
        time.sleep(0.01)
    crash(store)


@pytest.fixture
def used(quick_opener):
    """A killed store with two segments and a log behind them: what its users saw of it."""
    store = quick_opener()
    populate(store)
    store.flush()
    store.append("/bad", b"between;")
    store.append("/json", b'[3,"x"]')
    store.append("/good", b"third;", producer_id="other", producer_epoch=0, producer_seq=0)
    store.create("/gone", initial_data=b"anew", content_type="text/plain")
    store.flush()
    store.append("/bad", b"after;")
    store.append("/good", b"fourth;", producer_id="writer", producer_epoch=2, producer_seq=0)
    store.create("/late", initial_data=b"late;", ttl_seconds=50)
    store.append("/json", b"[4,5]", seq="a")
    store.append("/late", b"later;")
    store.close_stream("/gone")
    found = seen(store)
    crash(store)
    return found
