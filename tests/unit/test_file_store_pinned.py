"""Readers that are slow hold memory of the log, up to a bound, and flush by flush no more (I8)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from durastream.engine.errors import StoreBusy
from durastream.engine.options import KIB, MIB
from durastream.server.app import create_app
from support.stores import contents

JSON = "application/json"
SIZE = 256 * KIB  # bytes of an append
PINNED_MAX = 1 * MIB


@pytest.fixture
def store(opener):
    store = opener(slab_size=SIZE, flush_size=512 * MIB, pinned_size_max=PINNED_MAX)
    store.create("/v1/stream/a")
    return store


def pin(store, count: int) -> list:
    """Slow readers: each holds the answer of a read, which was flushed since."""
    held = []
    for index in range(count):
        store.append("/v1/stream/a", b"%08d" % index * (SIZE // 8))
        with suppress(StoreBusy):
            held.append(store.read("/v1/stream/a", f"{0:016d}_{index * SIZE:016d}"))
        store.flush()
    return held


def pinned(store) -> int:
    return store._engine.log.pinned_size


def test_slow_readers_hold_no_more_than_the_bound(store):
    held = pin(store, 20)
    assert PINNED_MAX <= pinned(store) <= PINNED_MAX + 2 * MIB
    assert 4 <= len(held) < 10
    assert [bytes(each)[:8] for each in held] == [b"%08d" % n for n in range(len(held))]
    assert len(contents(store, "/v1/stream/a")) == 20 * SIZE  # from segments, as ever
    del held
    assert pinned(store) == 0


def test_small_reads_go_on_as_copies(store):
    held = pin(store, 20)
    store.append("/v1/stream/a", b"small")
    at = f"{0:016d}_{20 * SIZE:016d}"
    before = store.read("/v1/stream/a", at)
    assert bytes(before) == b"small"
    for index in range(40):
        store.append("/v1/stream/a", b"%04d" % index * KIB)
    read = store.read("/v1/stream/a", at)
    assert 5 <= read.size <= 64 * KIB
    store.flush()
    size = pinned(store)
    assert size <= PINNED_MAX + 2 * MIB
    del read, before, held
    assert pinned(store) == 0


def test_what_is_too_large_for_a_copy_waits_for_a_flush(opener):
    store = opener(slab_size=SIZE, flush_size=512 * MIB, pinned_size_max=0)
    store.create("/v1/stream/a")
    store.create("/v1/stream/b", content_type=JSON)
    store.append("/v1/stream/a", b"a" * SIZE)
    held = store.read("/v1/stream/a")
    store.flush()
    assert pinned(store) >= SIZE
    store.append("/v1/stream/b", b'"%b"' % (b"b" * SIZE))
    with pytest.raises(StoreBusy, match="slow readers"):
        store.read("/v1/stream/b")
    for _ in range(200):  # the store flushes by itself, soon
        if len(store._engine.segments) == 2:
            break
        asyncio.run(asyncio.sleep(0.05))
    assert len(contents(store, "/v1/stream/b")) == SIZE + 3
    assert len(bytes(held)) == SIZE


def test_an_event_stream_that_waits_holds_nothing(store):
    """Its last event was sent: only its position is left."""
    sent = bytearray()

    async def receive() -> dict:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message) -> None:
        sent.extend(message.get("body", b""))

    async def run() -> None:
        app = create_app(store)
        scope = {
            "type": "http", "method": "GET", "path": "/v1/stream/a", "headers": [],
            "query_string": b"offset=-1&live=sse",
        }  # fmt: skip
        reader = asyncio.create_task(app(scope, receive, send))
        await store.aio.append("/v1/stream/a", b"x" * SIZE)
        while b"control" not in sent or len(sent) < SIZE:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await asyncio.to_thread(store.flush)
        assert pinned(store) == 0
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    asyncio.run(run())
