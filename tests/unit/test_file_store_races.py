"""What is under way while a store closes or loads rows: all are answered, nothing is lost."""

import asyncio
import threading
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest

from durastream.engine.catalog import Cold
from durastream.engine.errors import StoreClosed, StoreFailed
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB, FileStoreOptions, Limits
from durastream.protocol.errors import InvalidForkOffset, StreamNotFound
from support.stores import SMALL_LIMITS, SMALL_STORE

SMALL = FileStoreOptions(
    wal_file_size=8 * MIB,
    wal_size_max=32 * MIB,
    flush_age=3600.0,
    sweep_interval=3600.0,
    lmdb_map_size=256 * MIB,
    reserve_size=0,
)
A = "/v1/stream/a"


@pytest.fixture
def opener(tmp_path):
    """Opens the one store of a test, again and again."""
    opened = []

    def open_store(clock=None, **options):
        store = FileBackedStreamStore(
            tmp_path / "data",
            limits=Limits(body_size_max=7 * MIB),
            options=replace(SMALL, **options),
            clock=clock,
        )
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def store(opener):
    store = opener()
    store.create(A)
    return store


def in_thread(work):
    """Start ``work`` in a thread; the outcome is in the list once it ended."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


# -- closing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["on the loop", "in a thread", "awaited"])
def test_closing_answers_appends_that_wait_for_the_log(store, opener, how):
    async def main():
        appends = [asyncio.ensure_future(store.aio.append(A, b"%d," % n)) for n in range(20)]
        await asyncio.sleep(0)
        if how == "on the loop":
            store.close()
        elif how == "in a thread":
            await asyncio.to_thread(store.close)
        else:
            await store.aio.close()
        return await asyncio.wait_for(asyncio.gather(*appends), 10)

    results = asyncio.run(main())
    data = bytes(opener().read(A))
    assert sorted(data.split(b",")[:-1], key=int) == [b"%d" % n for n in range(20)]
    assert len({result.offset for result in results}) == 20


class LockThatClosesFirst:
    """Stands for a thread that was held up before it got the lock, until the store was closed."""

    def __init__(self, store):
        self._store = store
        self._lock = store._engine.lock
        self._is_first = True

    def __enter__(self):
        if self._is_first:
            self._is_first = False
            in_thread(self._store.close)[0].join(10)
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def test_a_step_that_gets_the_lock_after_the_close_is_refused(store):
    store._engine.lock = LockThatClosesFirst(store)
    with pytest.raises(StoreClosed):
        store.append(A, b"late")


def test_a_reader_that_comes_back_after_the_close_hears_of_it(opener):
    now = [1_700_000_000_000]
    store = opener(clock=lambda: now[0])
    store.create(A, ttl_seconds=160)
    unpark, closed = store._engine.unpark, threading.Event()

    def late_unpark(path, waiter):
        closed.wait(10)
        unpark(path, waiter)

    store._engine.unpark = late_unpark
    waiting, outcome = in_thread(lambda: store.wait_for_messages(A, "now", 60_000))
    while not store._engine.parked:
        time.sleep(0.01)
    now[0] += 20_000  # so that the end of the wait is an access to be logged
    store.close()
    closed.set()
    waiting.join(10)
    assert isinstance(outcome[0], StoreClosed)


def test_two_closers_close_once_and_both_wait_for_the_end(store, opener):
    engine, released = store._engine, []
    release = engine.release

    def slow_release():
        time.sleep(0.2)
        release()
        released.append(True)

    engine.release = slow_release
    seen = []
    closers = [in_thread(lambda: (store.close(), seen.append(len(released)))) for _ in range(3)]
    for thread, _ in closers:
        thread.join(10)
    assert released == [True]
    assert seen == [1, 1, 1]
    opener().close()


def test_the_directory_is_let_go_whatever_the_last_flush_says(store, opener):
    def broken(*args, **kwargs):
        raise MemoryError

    store._engine.metadata.commit = broken
    store.append(A, b"x")
    with pytest.raises(MemoryError):
        store.close()
    assert bytes(opener().read(A)) == b"x"


def test_rows_stay_open_while_somebody_reads_them(opener):
    store = opener()
    for number in range(20):
        store.create(f"/{number:02d}")
    store.close()
    store = opener()
    rows, begun, go_on = store._engine.metadata.rows, threading.Event(), threading.Event()

    def slow_rows():
        for row in rows():
            begun.set()
            go_on.wait(10)
            yield row

    store._engine.metadata.rows = slow_rows
    listing, outcome = in_thread(store.list)
    begun.wait(10)
    closing, _ = in_thread(store.close)
    time.sleep(0.1)
    assert closing.is_alive()
    go_on.set()
    listing.join(10)
    closing.join(10)
    assert outcome == [[f"/{number:02d}" for number in range(20)]]


def test_everything_says_closed_afterwards(store):
    store.close()
    for blocking in (store.list, store.flush, store.sweep, store.clear):
        with pytest.raises(StoreClosed):
            blocking()

    async def main():
        for call in (
            lambda: store.aio.list(),
            lambda: store.aio.clear(),
            lambda: store.aio.read(A),
            lambda: store.aio.append(A, b"x"),
            lambda: store.aio.format_response(A, []),
            lambda: store.aio.wait_for_messages(A, "now", 1000),
        ):
            with pytest.raises(StoreClosed):
                await call()
        await store.aio.close()

    asyncio.run(main())


def write_and_look(store, acknowledged):
    """Write until the store is closed, noting what was acknowledged."""
    count = 0
    while True:
        path = f"/{count % 30}"
        store.append(path, b"%d," % count)
        acknowledged.append((path, b"%d," % count))
        store.read(path)
        store.get(f"/unknown/{count}")
        count += 1


def list_for_ever(store):
    while True:
        store.list()


def follow_on_a_loop(store):
    async def follow(path):
        at = "-1"
        while True:
            at = (await store.aio.wait_for_messages(path, at, 60_000)).result.next_offset

    async def main():
        outcomes = [follow(f"/{number}") for number in range(5)]
        for outcome in await asyncio.gather(*outcomes, return_exceptions=True):
            assert isinstance(outcome, StoreClosed), outcome

    asyncio.run(main())


def test_closing_beside_everything_hangs_nobody_and_loses_nothing(opener):
    """Real threads and a loop; closed at another moment each time."""
    store = opener()
    for number in range(30):
        store.create(f"/{number}")
    store.close()
    acknowledged = []
    for moment in range(8):
        store = opener(streams_cached_max=10)
        working = [
            in_thread(lambda store=store: write_and_look(store, acknowledged)),
            in_thread(lambda store=store: list_for_ever(store)),
            in_thread(lambda store=store: follow_on_a_loop(store)),
        ]
        time.sleep(0.02 + 0.03 * moment)
        store.close()
        for thread, outcome in working:
            thread.join(10)
            assert not thread.is_alive()
            assert outcome == [None] or isinstance(outcome[0], StoreClosed), outcome
    store = opener()
    contents = {path: bytes(store.read(path)) for path, _ in acknowledged}
    assert acknowledged
    assert all(data in contents[path] for path, data in acknowledged)


# -- interrupts ------------------------------------------------------------------------------


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["_change", "add_grown"])
def test_a_step_cut_short_stops_everything_and_loses_nothing(store, opener, monkeypatch, place):
    store.append(A, b"before;")
    engine = store._engine
    with monkeypatch.context() as patch:
        where = engine.operations if place == "_change" else engine.operations.watchlist
        patch.setattr(where, place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.append(
                A, b"cut short;", seq="1"
            )  # appends of data alone are one compiled section
    for use in (store.flush, store.list, lambda: store.append(A, b"x"), lambda: store.read(A)):
        with pytest.raises(StoreFailed, match="KeyboardInterrupt cut a change short"):
            use()
    store.close()
    store = opener()
    assert bytes(store.read(A)) == b"before;cut short;"
    store.append(A, b"after;")
    store.close()
    assert bytes(opener().read(A)) == b"before;cut short;after;"


def test_what_became_durable_shows_although_making_it_visible_was_cut_short(store):
    store._engine.catalog.bindings[A].reserved.park(Mock(fire=interrupt))
    with pytest.raises(KeyboardInterrupt):
        store.append(A, b"x")
    assert bytes(store.read(A)) in (b"", b"x")  # nobody was told of it
    store.append(A, b"y")
    assert bytes(store.read(A)) == b"xy"


# -- arguments -------------------------------------------------------------------------------


def test_a_buffer_may_be_used_again_while_its_append_waits(store, opener):
    store.create("/j", content_type="application/json")
    store.close()
    store = opener()  # so that even small appends wait for a row

    async def main():
        for path, body in (
            (A, bytearray(b"small")),
            (A, bytearray(b"x" * 20_000)),
            ("/j", bytearray(b'"%b"' % (b"x" * 20_000))),
        ):
            append = asyncio.ensure_future(store.aio.append(path, body))
            await asyncio.sleep(0)
            body[:] = b"overwritten"
            await append

    asyncio.run(main())
    assert bytes(store.read(A)) == b"small" + b"x" * 20_000
    assert len(bytes(store.read("/j"))) == 20_003


def test_names_that_cannot_be_stored_name_nothing(store):
    for path in ("/\ud800", "", "/" + "x" * 10_000):
        assert store.get(path) is None
        assert not store.delete(path)
        with pytest.raises(StreamNotFound):
            store.append(path, b"x")
    assert store.get_producer_epoch(A, "\ud800") is None


def test_a_fork_of_a_source_re_created_meanwhile_is_judged_by_the_new_one(tmp_path):
    with FileBackedStreamStore(
        tmp_path / "data", limits=SMALL_LIMITS, options=SMALL_STORE
    ) as store:
        store.create("/s", initial_data=b"0123456789")
        at_five = store.append("/s", b"more").offset
        step = store.create_step(
            "/f", content_type=None, ttl_seconds=None, expires_at=None, initial_data=b"",
            closed=False, forked_from="/s", fork_offset="0" * 16 + "_" + "0" * 14 + "10",
            fork_sub_offset=None, retention_seconds=None, retention_bytes=None,
        )  # fmt: skip
        store.get("/f")  # brings its binding into memory
        with pytest.raises(Cold) as asked:
            store._engine.attempt(step)
        asked.value.load()  # the old source says: 10 ends an append
        store.delete("/s")
        store.create("/s", initial_data=b"x" * 40)
        with pytest.raises(InvalidForkOffset):
            store._engine.run(step)
        assert at_five.endswith("14")
