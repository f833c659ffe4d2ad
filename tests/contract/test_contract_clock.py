"""Clocks that jump: section 13, and the one moment that a step has."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from durastream.protocol.errors import StreamError

TTL = 10
DAY = 86_400


class ExpiringClock:
    """Unix time in ms. Once told to, it gets to the deadline after so many more readings."""

    def __init__(self):
        self.now_ms = 1_800_000_000_000
        self.readings_left = None

    def __call__(self):
        if self.readings_left is not None:
            if self.readings_left == 0:
                self.now_ms += TTL * 1000
                self.readings_left = None
            else:
                self.readings_left -= 1
        return self.now_ms


OPERATIONS = {
    "create": lambda store: store.create("/s"),
    "create again": lambda store: store.create("/s", ttl_seconds=TTL, forked_from="/source"),
    "fork": lambda store: store.create("/f", forked_from="/s"),
    "append": lambda store: store.append("/s", b"x"),
    "close": lambda store: store.close_stream("/s"),
    "delete": lambda store: store.delete("/s"),
    "delete the source": lambda store: store.delete("/source"),
    "read": lambda store: store.read("/s"),
    "get": lambda store: store.get("/s"),
    "wait": lambda store: store.wait_for_messages("/s", "-1", 1),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("readings", range(7))
def test_a_deadline_between_two_readings_of_the_clock_leaves_nothing_behind(
    open_store, operation, readings
):
    clock = ExpiringClock()
    store = open_store(clock=clock)
    store.create("/source", initial_data=b"abc")
    store.create("/s", ttl_seconds=TTL, forked_from="/source")
    clock.readings_left = readings
    made = None
    with suppress(StreamError):  # it was over, or there with its TTL
        result = OPERATIONS[operation](store)
        made = result if operation in ("create", "create again", "fork") else None
    clock.readings_left = None
    clock.now_ms += 1
    if made is not None and made.created and made.ttl_seconds is None:
        store.sweep()
        assert store.get(made.path).incarnation == made.incarnation
    for path in ("/f", "/s", "/source"):
        with suppress(StreamError):
            store.delete(path)
    clock.now_ms += 2 * TTL * 1000
    store.sweep()
    assert store.list() == []
    assert [store.get(path) for path in ("/f", "/s", "/source")] == [None] * 3


def test_after_a_clock_was_ahead_new_streams_end_in_time(store, clock):
    clock.advance(DAY)
    store.create("/ahead", ttl_seconds=TTL)
    clock.advance(-DAY)
    store.create("/s", ttl_seconds=TTL)
    clock.advance(TTL)
    assert not store.has("/s")
    assert store.has("/ahead")  # nobody knows how much of it has passed


def test_a_clock_set_back_takes_back_no_access(store, clock):
    store.create("/s", ttl_seconds=TTL)
    clock.advance(TTL - 1)
    store.read("/s")
    clock.advance(-DAY)
    store.read("/s")
    clock.advance(DAY + TTL - 1)
    assert store.has("/s")
    clock.advance(1)
    assert not store.has("/s")


def test_a_machine_asleep_past_a_ttl_keeps_what_somebody_waits_for(blocking_store, clock):
    for path in ("/waited for", "/alone"):
        blocking_store.create(path, ttl_seconds=TTL)
    found = []

    def wait():
        found.append(blocking_store.wait_for_messages("/waited for", "now", 20_000))

    reader = threading.Thread(target=wait)
    clock.advance(1)
    reader.start()
    while blocking_store.get("/waited for").last_accessed_at != clock.now_ms:
        time.sleep(0.005)
    time.sleep(0.05)  # to park
    clock.advance(DAY)
    assert not blocking_store.has("/alone")
    assert blocking_store.has("/waited for")
    blocking_store.append("/waited for", b"woken")
    reader.join(10)
    assert bytes(found[0].result) == b"woken"
