"""Section 4.6: waiting readers, woken by what concerns them and by nothing else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from durastream.engine.errors import StoreClosed
from durastream.engine.memory_store import wall_clock_ms
from durastream.protocol.errors import InvalidOffset, StreamGone, StreamNotFound
from durastream.protocol.offset import format_offset as at

LONG_MS = 20_000  # never reached: a wake-up must end the wait
SOON = 10.0  # seconds in which a woken reader must have answered


def settle() -> None:
    """Give a reader that was just started the time to park. No test depends on it."""
    time.sleep(0.05)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def park(store, clock, wait, path, timeout_ms=LONG_MS) -> Future:
    """Start a reader at the tail of a stream with a TTL, and see it parked: an access."""
    clock.advance(1)
    reader = wait(path, "now", timeout_ms)
    until(lambda: store.get(path).last_accessed_at == clock.now_ms)
    settle()
    return reader


@pytest.fixture
def readers():
    with ThreadPoolExecutor(max_workers=64) as pool:
        yield pool


@pytest.fixture(params=["thread", "coroutine"])
def wait(request, blocking_store, readers) -> Callable[..., Future]:
    """Start a reader: ``wait(path, offset, timeout_ms)`` gives the future of its result."""

    def in_thread(*args):
        return readers.submit(blocking_store.wait_for_messages, *args)

    def in_loop(*args):
        async def read():
            return await blocking_store.aio.wait_for_messages(*args)

        return readers.submit(asyncio.run, read())

    def start(*args):
        future = (in_thread if request.param == "thread" else in_loop)(*args)
        settle()
        return future

    return start


def test_data_that_is_there_is_given_at_once(store):
    store.create("/s", initial_data=b"abc")
    outcome = store.wait_for_messages("/s", "-1", LONG_MS)
    assert (bytes(outcome.result), outcome.timed_out) == (b"abc", False)
    assert outcome.result.up_to_date


@pytest.mark.parametrize("offset", ["-1", "now", at(0)])
def test_the_timeout_answers_at_the_tail(store, offset):
    store.create("/s")
    outcome = store.wait_for_messages("/s", offset, 20)
    assert (outcome.timed_out, outcome.stream_closed) == (True, False)
    assert (outcome.result.size, outcome.result.next_offset) == (0, at(0))
    assert outcome.result.up_to_date


def test_a_closed_stream_answers_at_once(store):
    store.create("/s", initial_data=b"abc", closed=True)
    outcome = store.wait_for_messages("/s", "now", LONG_MS)
    assert (outcome.timed_out, outcome.stream_closed) == (False, True)
    assert (outcome.result.size, outcome.result.closed) == (0, True)
    outcome = store.wait_for_messages("/s", "-1", LONG_MS)
    assert (bytes(outcome.result), outcome.result.closed) == (b"abc", True)


def test_bad_offsets_are_refused_before_waiting(store):
    store.create("/s", initial_data=b"abc")
    with pytest.raises(InvalidOffset):
        store.wait_for_messages("/s", at(1), LONG_MS)
    with pytest.raises(StreamNotFound):
        store.wait_for_messages("/missing", "-1", LONG_MS)


def test_an_append_wakes_the_reader(blocking_store, wait):
    blocking_store.create("/s", initial_data=b"abc")
    reader = wait("/s", at(3), LONG_MS)
    blocking_store.append("/s", b"new")
    outcome = reader.result(SOON)
    assert (bytes(outcome.result), outcome.timed_out) == (b"new", False)
    assert (outcome.result.offset, outcome.result.next_offset) == (at(3), at(6))


def test_every_reader_is_woken(blocking_store, wait):
    blocking_store.create("/s")
    waiting = [wait("/s", "-1", LONG_MS) for _ in range(8)]
    blocking_store.append("/s", b"new")
    assert {bytes(reader.result(SOON).result) for reader in waiting} == {b"new"}


def test_the_close_wakes_the_reader(blocking_store, wait):
    blocking_store.create("/s", initial_data=b"abc")
    reader = wait("/s", at(3), LONG_MS)
    blocking_store.close_stream("/s")
    outcome = reader.result(SOON)
    assert (outcome.result.size, outcome.timed_out) == (0, False)
    assert outcome.stream_closed
    assert outcome.result.closed


def test_data_that_comes_with_the_close_is_not_skipped(blocking_store, wait):
    blocking_store.create("/s")
    reader = wait("/s", at(0), LONG_MS)
    blocking_store.append("/s", b"last", close=True)
    outcome = reader.result(SOON)
    assert bytes(outcome.result) == b"last"
    assert outcome.result.closed


def test_deletion_wakes_the_reader(blocking_store, wait):
    blocking_store.create("/s")
    reader = wait("/s", "now", LONG_MS)
    blocking_store.delete("/s")
    with pytest.raises(StreamNotFound):
        reader.result(SOON)


def test_deletion_and_re_creation_do_not_fool_the_reader(blocking_store, clock, wait):
    blocking_store.create("/s", ttl_seconds=10)
    reader = park(blocking_store, clock, wait, "/s")
    blocking_store.delete("/s")
    blocking_store.create("/s", initial_data=b"another stream's")
    with pytest.raises(StreamNotFound):
        reader.result(SOON)


@pytest.mark.parametrize("offset", ["now", at(3)])
def test_a_reader_that_is_late_is_given_nothing_of_the_successor(blocking_store, offset):
    """Woken by the deletion, it looks again only when there is another stream."""

    async def main():
        reader = asyncio.ensure_future(blocking_store.aio.wait_for_messages("/s", offset, LONG_MS))
        await asyncio.sleep(0.05)
        blocking_store.delete("/s")
        blocking_store.create("/s", initial_data=b"abc")
        blocking_store.append("/s", b"def")
        with pytest.raises(StreamNotFound):
            await reader

    blocking_store.create("/s", initial_data=b"old")
    asyncio.run(main())


def test_soft_deletion_wakes_the_reader(blocking_store, wait):
    blocking_store.create("/s")
    blocking_store.create("/f", forked_from="/s")
    reader = wait("/s", "now", LONG_MS)
    blocking_store.delete("/s")
    with pytest.raises(StreamGone):
        reader.result(SOON)


def test_clear_wakes_the_reader(blocking_store, wait):
    blocking_store.create("/s")
    reader = wait("/s", "now", LONG_MS)
    blocking_store.clear()
    with pytest.raises(StreamNotFound):
        reader.result(SOON)


def test_cancelling_all_waits_ends_them_and_no_later_ones(blocking_store, wait):
    blocking_store.create("/s")
    reader = wait("/s", "now", LONG_MS)

    def cancelled():
        blocking_store.cancel_all_waits()
        return reader.done()

    until(cancelled)
    with pytest.raises(StoreClosed):
        reader.result(SOON)
    assert blocking_store.wait_for_messages("/s", "now", 0).timed_out


def test_closing_the_store_ends_waits(open_store, readers):
    store = open_store()
    store.create("/s")
    reader = readers.submit(store.wait_for_messages, "/s", "now", LONG_MS)
    settle()
    store.close()
    with pytest.raises(StoreClosed):
        reader.result(SOON)


def test_a_fork_is_woken_by_its_own_appends_only(blocking_store, wait):
    blocking_store.create("/s", initial_data=b"abc")
    blocking_store.create("/f", forked_from="/s")
    reader = wait("/f", at(3), LONG_MS)
    blocking_store.append("/s", b"source")
    blocking_store.close_stream("/s")
    settle()
    assert not reader.done()
    blocking_store.append("/f", b"fork")
    assert bytes(reader.result(SOON).result) == b"fork"


def test_inherited_data_is_given_at_once(store):
    store.create("/s", initial_data=b"abc")
    store.create("/f", forked_from="/s")
    assert bytes(store.wait_for_messages("/f", "-1", LONG_MS).result) == b"abc"


def test_a_waiting_reader_keeps_the_stream_alive(blocking_store, clock, wait):
    blocking_store.create("/s", ttl_seconds=10)
    reader = park(blocking_store, clock, wait, "/s")
    clock.advance(100)
    assert blocking_store.has("/s")
    blocking_store.append("/s", b"late")
    assert bytes(reader.result(SOON).result) == b"late"
    clock.advance(9)
    assert blocking_store.has("/s")
    clock.advance(1)
    assert not blocking_store.has("/s")


def test_the_end_of_a_wait_is_an_access(blocking_store, clock, wait):
    blocking_store.create("/s", ttl_seconds=10)
    reader = park(blocking_store, clock, wait, "/s", 700)
    clock.advance(100)
    assert reader.result(SOON).timed_out
    clock.advance(9)
    assert blocking_store.has("/s")


def test_a_deadline_ends_the_wait(open_store, readers):
    store = open_store(clock=wall_clock_ms)
    when = time.gmtime(time.time() + 2)
    store.create("/s", expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", when))
    reader = readers.submit(store.wait_for_messages, "/s", "now", LONG_MS)
    with pytest.raises(StreamNotFound):
        reader.result(SOON)


def test_a_cancelled_coroutine_leaves_nothing_behind(blocking_store, clock):
    blocking_store.create("/s", ttl_seconds=10)

    async def cancel_a_reader():
        reader = asyncio.ensure_future(blocking_store.aio.wait_for_messages("/s", "now", LONG_MS))
        await asyncio.sleep(0.05)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    asyncio.run(cancel_a_reader())
    clock.advance(10)
    assert not blocking_store.has("/s")


def test_thousands_of_coroutines_wait_without_threads(blocking_store):
    blocking_store.create("/s")
    count = 2000

    async def run():
        aio = blocking_store.aio
        waiting = [
            asyncio.ensure_future(aio.wait_for_messages("/s", "now", LONG_MS)) for _ in range(count)
        ]
        await asyncio.sleep(0.1)
        assert threading.active_count() < 50
        await aio.append("/s", b"x")
        return await asyncio.wait_for(asyncio.gather(*waiting), SOON)

    outcomes = asyncio.run(run())
    assert sum(bytes(outcome.result) == b"x" for outcome in outcomes) == count


def test_a_follower_misses_nothing(blocking_store, readers):
    """Append at full speed while a reader follows: what it sees is what was written."""
    blocking_store.create("/s")
    total = 400

    def follow():
        offset, found = "-1", []
        while True:
            outcome = blocking_store.wait_for_messages("/s", offset, LONG_MS)
            found += outcome.result.messages
            offset = outcome.result.next_offset
            if outcome.result.closed:
                return [bytes(message.data) for message in found]

    followers = [readers.submit(follow) for _ in range(4)]
    for number in range(total):
        blocking_store.append("/s", b"%d;" % number, close=number == total - 1)
    expected = [b"%d;" % number for number in range(total)]
    for follower in followers:
        assert follower.result(SOON) == expected
