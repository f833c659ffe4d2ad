"""What only the file store has: reopening, flushing, memory bounds, threads, loops, processes."""

import asyncio
import os
import threading

import pytest

from durastream.engine.errors import DirectoryInUse, ForeignProcess, StoreClosed
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import MIB, READ_SIZE_MAX
from durastream.protocol.errors import InvalidOffset, StreamClosed, StreamNotFound
from support.stores import contents

JSON = "application/json"
A = "/v1/stream/a"


# -- reopening -------------------------------------------------------------------------------


def test_everything_is_there_after_reopening(opener, leave):
    store = opener()
    store.create(A, content_type=JSON, initial_data=b'[{"a":1},2]')
    store.append(A, b"3", producer_id="p", producer_epoch=1, producer_seq=0, seq="5")
    store.create("/v1/stream/closed", content_type="text/plain", initial_data=b"x", closed=True)
    store.create("/v1/stream/fork", forked_from=A)
    store.append("/v1/stream/fork", b'"own"')
    before = [store.get(path) for path in store.list()]
    leave(store)

    store = opener()
    assert [store.get(path) for path in store.list()] == before
    assert contents(store, A) == b'{"a":1},2,3,'
    assert contents(store, "/v1/stream/fork") == b'{"a":1},2,3,"own",'
    again = store.append(A, b"3", producer_id="p", producer_epoch=1, producer_seq=0)
    assert again.producer.status == "duplicate"
    assert store.get_producer_epoch(A, "p") == 1
    with pytest.raises(StreamClosed):
        store.append("/v1/stream/closed", b"y")


def test_a_deleted_stream_stays_deleted_and_its_bytes_do_not_come_back(opener, leave):
    store = opener()
    store.create(A, initial_data=b"old")
    store.flush()
    store.delete(A)
    leave(store)
    store = opener()
    assert store.get(A) is None
    store.create(A)
    assert contents(store, A) == b""
    store.append(A, b"new")
    store.flush()
    store.close()
    assert contents(opener(), A) == b"new"


def test_a_store_reopened_many_times_does_not_grow(opener, tmp_path):
    def files():
        return sorted(name for _, _, names in os.walk(tmp_path / "data") for name in names)

    store = opener()
    store.create(A, initial_data=b"x")
    store.close()
    counts = set()
    for _ in range(5):
        opener().close()
        counts.add(len(files()))
    assert len(counts) == 1


def test_stream_ids_are_never_used_again(opener, leave):
    store = opener()
    first = store.create(A).incarnation
    store.delete(A)
    leave(store)
    store = opener()
    assert store.create(A).incarnation > first


# -- segments --------------------------------------------------------------------------------


def test_reads_cross_from_segments_into_the_log(opener):
    store = opener()
    store.create(A)
    expected, offsets = b"", [store.read(A).offset]
    for round_ in range(6):
        for number in range(50):
            piece = b"%d.%d;" % (round_, number)
            offsets.append(store.append(A, piece).offset)
            expected += piece
        if round_ < 5:
            store.flush()
    assert contents(store, A) == expected
    for offset in offsets[::7]:
        result = store.read(A, offset)
        assert bytes(result) == expected[result.start :]
    with pytest.raises(InvalidOffset):
        store.read(A, f"0000000000000000_{1:016d}")


def test_a_large_append_is_cut_where_readers_may_come_back(opener):
    store = opener()
    body = os.urandom(6 * MIB + 5)
    store.create(A)
    store.append(A, b"head")
    end = store.append(A, body).offset
    for _ in range(2):
        result = store.read(A, f"0000000000000000_{4:016d}")
        assert result.size == READ_SIZE_MAX
        rest = store.read(A, result.next_offset)
        assert bytes(result) + bytes(rest) == body
        assert rest.next_offset == end
        with pytest.raises(InvalidOffset):
            store.read(A, f"0000000000000000_{4 + READ_SIZE_MAX - 1:016d}")
        store.flush()


def test_messages_are_the_appends(opener):
    store = opener()
    store.create(A, content_type=JSON)
    store.append(A, b"[1,2]")
    store.flush()
    store.append(A, b"[3]")
    messages = store.read(A).messages
    assert [message.data for message in messages] == [b"1,2,", b"3,"]
    assert store.format_response(A, messages) == b"[1,2,3]"
    assert bytes(store.read(A, messages[0].offset)) == b"3,"


def test_views_outlive_the_stream_and_the_store(opener):
    store = opener()
    body = os.urandom(200_000)
    store.create(A, initial_data=body)
    unflushed = store.read(A)
    store.flush()
    flushed = store.read(A)
    store.delete(A)
    store.close()
    assert bytes(unflushed) == bytes(flushed) == body


def test_forks_read_through_flushed_and_deleted_sources(opener, leave):
    store = opener()
    store.create(A, content_type=JSON)
    ends = [store.append(A, b"[%d,%d]" % (n, n)).offset for n in range(10)]
    store.flush()
    store.create("/f1", forked_from=A, fork_offset=ends[4], fork_sub_offset=1)
    store.append("/f1", b'"one"')
    store.flush()
    store.create("/f2", forked_from="/f1", fork_offset=ends[1])
    store.delete(A)
    store.delete("/f1")
    inherited = b"0,0,1,1,"
    assert contents(store, "/f2") == inherited
    leave(store)
    store = opener()
    assert contents(store, "/f2") == inherited
    assert store.get(A).soft_deleted
    assert store.get(A).ref_count == store.get("/f1").ref_count == 1
    store.delete("/f2")
    assert store.get(A) is None
    assert store.get("/f1") is None
    leave(store)
    assert opener().list() == []


# -- memory ----------------------------------------------------------------------------------


def test_unused_streams_are_forgotten_and_found_again(opener):
    store = opener(streams_cached_max=50)
    paths = [f"/v1/stream/{n}" for n in range(400)]
    for path in paths:
        store.create(path)
        store.append(path, path.encode(), producer_id="p", producer_epoch=0, producer_seq=0)
    store.flush()
    for _ in range(20):
        store._maintenance._evict()
    assert len(store._engine.catalog.bindings) <= 60
    assert len(store._engine.catalog.entries) <= 60
    for path in paths[::9]:
        assert contents(store, path) == path.encode()
        known = store.append(path, b"y", producer_id="p", producer_epoch=0, producer_seq=0)
        assert known.producer.status == "duplicate"
        unknown = store.append(path, b"y", producer_id="q", producer_epoch=0, producer_seq=3)
        assert unknown.producer.status == "sequence_gap"


def test_nothing_undurable_unflushed_or_waited_for_is_forgotten(opener):
    store = opener(streams_cached_max=0)
    store.create(A, initial_data=b"x")
    for _ in range(3):
        store._maintenance._evict()
    assert A in store._engine.catalog.bindings
    assert contents(store, A) == b"x"
    store.flush()
    waiter = threading.Thread(target=store.wait_for_messages, args=(A, "now", 5000))
    waiter.start()
    while not store._engine.parked:
        pass
    for _ in range(3):
        store._maintenance._evict()
    assert A in store._engine.catalog.bindings
    store.append(A, b"y")
    waiter.join(5)
    assert not waiter.is_alive()


# -- expiry ----------------------------------------------------------------------------------


def test_the_sweeper_ends_what_nobody_asks_for(opener, clock):
    store = opener()
    store.create(A, ttl_seconds=10)
    store.create("/src", initial_data=b"s")
    store.create("/fork", forked_from="/src", ttl_seconds=5)
    store.delete("/src")
    store.flush()
    store.create("/unflushed", ttl_seconds=10)
    assert store.sweep() == 0
    clock.now_ms += 10_000
    assert store.sweep() == 3
    assert store.get("/src") is None  # the cascade of its last fork
    store.close()
    assert opener().list() == []


def test_expiry_is_found_after_reopening_without_a_sweep(opener, clock):
    store = opener()
    store.create(A, ttl_seconds=10, initial_data=b"x")
    store.close()
    clock.now_ms += 10_001
    store = opener()
    with pytest.raises(StreamNotFound):
        store.read(A)
    store.create(A, ttl_seconds=20)
    assert contents(store, A) == b""


def test_a_reader_keeps_a_stream_alive(opener, clock):
    store = opener()
    store.create(A, ttl_seconds=10)
    waiter = threading.Thread(target=store.wait_for_messages, args=(A, "now", 5000))
    waiter.start()
    while not store._engine.parked:
        pass
    clock.now_ms += 60_000
    store.sweep()
    assert store.has(A)
    store.append(A, b"x")
    waiter.join(5)
    clock.now_ms += 9_000
    assert store.has(A)


def test_the_clock_never_goes_back(opener, clock):
    store = opener()
    store.create(A, ttl_seconds=10)
    clock.now_ms += 5_000
    store.read(A)
    clock.now_ms -= 100_000
    store.read(A)
    clock.now_ms += 109_000
    assert store.has(A)


# -- threads, loops, processes ---------------------------------------------------------------


def test_writers_share_their_syncs(opener):
    store = opener()
    store.create(A)
    before = store._engine.log.syncs

    def write():
        for _ in range(25):
            store.append(A, b"x" * 100)

    threads = [threading.Thread(target=write) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(A).current_offset.endswith("80000")
    assert store._engine.log.syncs - before < 32 * 25 / 2


def test_flushes_beside_readers_and_writers_lose_nothing(opener):
    store = opener()
    store.create(A)
    stop = threading.Event()
    broken = []

    def read():
        while not stop.is_set():
            data = contents(store, A)
            if data != b"".join(b"%07d;" % n for n in range(len(data) // 8)):
                broken.append(data[:100])

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    for number in range(600):
        store.append(A, b"%07d;" % number)
        if number % 40 == 0:
            store.flush()
    stop.set()
    for thread in readers:
        thread.join()
    assert not broken
    assert len(contents(store, A)) == 8 * 600


def test_one_store_serves_several_loops(opener):
    store = opener()
    store.create(A)

    async def follow():
        result = await store.aio.wait_for_messages(A, "-1", 5000)
        return bytes(result.result)

    async def write():
        await store.aio.append(A, b"x")

    results = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(follow())))
    thread.start()
    asyncio.run(write())
    thread.join(5)
    assert results == [b"x"]


def test_aio_answers_from_segments_and_after_eviction(opener):
    store = opener(streams_cached_max=0)

    async def work():
        aio = store.aio
        await aio.create(A, content_type=JSON)
        await aio.append(A, b"[1,2]")
        store.flush()
        for _ in range(3):
            store._maintenance._evict()
        assert A not in store._engine.catalog.bindings
        result = await aio.read(A)
        assert bytes(result) == b"1,2,"
        await aio.create("/fork", forked_from=A, fork_offset="0" * 16 + "_" + "0" * 16)
        assert (await aio.get("/fork")).fork_sub_offset == 0
        assert await aio.list() == ["/fork", A]
        await aio.clear()
        assert await aio.list() == []

    asyncio.run(work())


def test_closing_releases_waiters(opener):
    store = opener()
    store.create(A)

    async def work():
        waiting = asyncio.create_task(store.aio.wait_for_messages(A, "-1", 60_000))
        await asyncio.sleep(0.05)
        await store.aio.close()
        with pytest.raises(StoreClosed):
            await waiting

    asyncio.run(work())
    with pytest.raises(StoreClosed):
        store.get(A)


def test_a_second_opener_is_refused_and_the_first_goes_on(opener, tmp_path):
    store = opener()
    store.create(A)
    with pytest.raises(DirectoryInUse):
        FileBackedStreamStore(tmp_path / "data")
    store.append(A, b"x")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_refused_and_the_parent_goes_on(opener):
    store = opener()
    store.create(A)
    child = os.fork()
    if child == 0:
        try:
            store.append(A, b"child")
        except ForeignProcess:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    store.append(A, b"parent")
    assert contents(store, A) == b"parent"
