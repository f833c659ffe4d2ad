"""Many event loops and threads on one file store: each is answered, none leaves anything behind."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from durastream.engine.file_store import FileBackedStreamStore
from support.stores import SMALL_LIMITS, SMALL_STORE

A = "/v1/stream/a"
LOOPS = 100
PRODUCER = {"producer_id": "p", "producer_epoch": 0, "producer_seq": 0}


@pytest.fixture
def store(tmp_path):
    with FileBackedStreamStore(
        tmp_path / "data", limits=SMALL_LIMITS, options=SMALL_STORE
    ) as opened:
        opened.create(A)
        yield opened


def descriptors():
    return len(os.listdir("/dev/fd"))


def test_any_number_of_event_loops(store):
    loops = [asyncio.new_event_loop() for _ in range(LOOPS)]
    try:
        for number, loop in enumerate(loops):
            loop.run_until_complete(store.aio.append(A, b"%d," % number))
        found = [bytes(loop.run_until_complete(store.aio.read(A))) for loop in loops]
    finally:
        for loop in loops:
            loop.close()
    assert set(found) == {b"".join(b"%d," % number for number in range(LOOPS))}


def test_closed_loops_give_their_descriptors_back(store):
    asyncio.run(store.aio.append(A, b"x"))
    before = descriptors()
    for _ in range(LOOPS):
        asyncio.run(store.aio.append(A, b"x"))
    assert descriptors() <= before + 1  # that of the last is dropped when another one comes


def test_a_commit_wakes_waiters_of_every_loop_and_of_threads(store):
    ready, results = threading.Barrier(9), []

    def in_thread():
        ready.wait()
        results.append(store.wait_for_messages(A, "-1", 20_000).result)

    def on_a_loop():
        async def wait():
            waiting = [
                asyncio.ensure_future(store.aio.wait_for_messages(A, "-1", 20_000))
                for _ in range(5)
            ]
            await asyncio.sleep(0)
            ready.wait()
            results.extend(done.result for done in await asyncio.gather(*waiting))

        asyncio.run(wait())

    workers = [threading.Thread(target=work) for work in [in_thread, on_a_loop] * 4]
    for worker in workers:
        worker.start()
    ready.wait()
    store.append(A, b"for all")
    for worker in workers:
        worker.join(20)
    assert [bytes(result) for result in results] == [b"for all"] * 24


def test_a_duplicate_on_one_loop_races_its_original_on_another(store):
    """Whoever is second is told so, and not before the original is durable."""

    def append(outcomes, seq):
        async def main():
            outcome = await store.aio.append(A, b"%d," % seq, **(PRODUCER | {"producer_seq": seq}))
            durable = store._engine.projection.visible_lsn
            outcomes.append((outcome.producer.status, outcome.offset, durable))

        asyncio.run(main())

    for seq in range(50):
        outcomes = []
        racers = [threading.Thread(target=append, args=(outcomes, seq)) for _ in range(3)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(20)
        statuses = sorted(status for status, _, _ in outcomes)
        assert statuses == ["accepted", "duplicate", "duplicate"]
        assert len({offset for _, offset, _ in outcomes}) == 1
        lsn = store._engine.catalog.bindings[A].reserved.lsn
        assert all(durable >= lsn for _, _, durable in outcomes)


def test_a_cancelled_append_is_there_whole_or_not_at_all_and_leaks_nothing(store):
    async def main():
        kept = 0
        for number in range(200):
            task = asyncio.ensure_future(store.aio.append(A, b"%03d," % number))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            kept += not task.cancel()
        await store.aio.append(A, b"end,")
        waiting = store.aio._commits[asyncio.get_running_loop()]._waiting
        assert waiting == []
        return kept

    asyncio.run(main())
    parts = bytes(store.read(A)).split(b",")
    assert parts[-2:] == [b"end", b""]
    assert parts[:-2] == sorted(set(parts[:-2]))
    assert all(len(part) == 3 for part in parts[:-2])
