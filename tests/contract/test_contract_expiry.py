"""Section 13: TTL and deadlines; what counts as access."""

from __future__ import annotations

import pytest

from durastream.protocol.errors import (
    ForkSourceGone,
    ForkSourceNotFound,
    InvalidRequest,
    StreamClosed,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durastream.protocol.offset import format_offset as at

START = "2027-01-15T08:00:00Z"  # the manual clock's first instant


def is_there(store, path="/s"):
    return store.get(path) is not None


def test_the_window_ends_at_its_very_instant(store, clock):
    store.create("/s", ttl_seconds=10)
    clock.advance(9.999)
    assert store.has("/s")
    clock.advance(0.001)
    assert not store.has("/s")
    for gone in (
        lambda: store.read("/s"),
        lambda: store.read("/s", "now"),
        lambda: store.append("/s", b"x"),
        lambda: store.close_stream("/s"),
        lambda: store.wait_for_messages("/s", "-1", 0),
    ):
        with pytest.raises(StreamNotFound):
            gone()
    assert store.list() == []
    assert store.delete("/s") is False


def test_an_expired_path_takes_any_new_stream(store, clock):
    old = store.create("/s", content_type="text/plain", ttl_seconds=1, initial_data=b"old")
    clock.advance(1)
    new = store.create("/s", content_type="application/json", initial_data=b"[1]")
    assert new.created
    assert new.incarnation != old.incarnation
    assert bytes(store.read("/s")) == b"1,"


def test_a_deadline_is_not_put_off(store, clock):
    store.create("/s", expires_at="2027-01-15T08:00:10Z")
    for _ in range(9):
        clock.advance(1)
        store.read("/s")
        store.append("/s", b"x")
    clock.advance(1)
    assert not is_there(store)


@pytest.mark.parametrize(
    "access",
    [
        lambda store: store.read("/s"),
        lambda store: store.read("/s", "now"),
        lambda store: store.wait_for_messages("/s", "-1", 0),
        lambda store: store.wait_for_messages("/s", "now", 0),
        lambda store: store.append("/s", b"x"),
        lambda store: store.append("/s", b"x", producer_id="p", producer_epoch=0, producer_seq=0),
        lambda store: store.close_stream("/s"),
        lambda store: store.close_stream_with_producer(
            "/s", producer_id="p", producer_epoch=0, producer_seq=1
        ),
        lambda store: store.touch_access("/s"),
    ],
    ids=[
        "read",
        "read now",
        "wait",
        "wait now",
        "append",
        "duplicate",
        "close",
        "producer's close",
        "touch",
    ],
)
def test_an_access_restarts_the_window(store, clock, access):
    store.create("/s", ttl_seconds=10, initial_data=b"abc")
    store.append("/s", b"x", producer_id="p", producer_epoch=0, producer_seq=0)
    clock.advance(9)
    access(store)
    clock.advance(9)
    assert is_there(store)
    clock.advance(1)
    assert not is_there(store)


@pytest.mark.parametrize(
    "no_access",
    [
        lambda store: store.get("/s"),
        lambda store: store.has("/s"),
        lambda store: store.list(),
        lambda store: store.get_current_offset("/s"),
        lambda store: store.get_producer_epoch("/s", "p"),
        lambda store: store.create("/s", ttl_seconds=10, closed=True),
        lambda store: store.create("/f", forked_from="/s", ttl_seconds=99),
    ],
    ids=["get", "has", "list", "offset", "epoch", "create", "fork"],
)
def test_looking_is_no_access(store, clock, no_access):
    store.create("/s", ttl_seconds=10, closed=True)
    clock.advance(9)
    no_access(store)
    clock.advance(1)
    assert not store.has("/s")


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (lambda store: store.append("/s", b""), InvalidRequest),
        (lambda store: store.append("/s", b"{"), InvalidRequest),
        (lambda store: store.read("/s", at(1)), InvalidRequest),
        (lambda store: store.wait_for_messages("/s", at(1), 0), InvalidRequest),
        (lambda store: store.create("/s"), StreamExists),
    ],
)
def test_a_refused_request_is_no_access(store, clock, refused, error):
    store.create("/s", ttl_seconds=10, content_type="application/json")
    clock.advance(9)
    with pytest.raises(error):
        refused(store)
    clock.advance(1)
    assert not is_there(store)


def test_a_producers_refusal_is_no_access(store, clock):
    store.create("/s", ttl_seconds=10)
    clock.advance(9)
    gap = store.append("/s", b"x", producer_id="p", producer_epoch=0, producer_seq=5)
    assert gap.producer.status == "sequence_gap"
    clock.advance(1)
    assert not is_there(store)


def test_an_append_to_a_closed_stream_is_no_access(store, clock):
    store.create("/s", ttl_seconds=10, closed=True)
    clock.advance(9)
    with pytest.raises(StreamClosed):
        store.append("/s", b"x")
    clock.advance(1)
    assert not is_there(store)


def test_the_window_is_shown_as_configured(store, clock):
    store.create("/s", ttl_seconds=10)
    clock.advance(5)
    assert store.get("/s").ttl_seconds == 10


@pytest.mark.parametrize(
    "asked", [{"ttl_seconds": 0}, {"expires_at": START}, {"expires_at": "1970-01-01T00:00:00Z"}]
)
def test_a_stream_may_be_over_when_it_is_created(store, asked):
    assert store.create("/s", **asked).created
    assert not is_there(store)
    assert store.create("/s").created


def test_a_clock_set_back_shortens_no_life(store, clock):
    store.create("/s", ttl_seconds=10)
    clock.advance(8)
    store.read("/s")
    clock.advance(-100)
    store.read("/s")
    store.append("/s", b"x")
    clock.advance(100 + 9)
    assert is_there(store)


def test_what_was_gone_stays_gone_when_the_clock_is_set_back(store, clock):
    store.create("/s", ttl_seconds=10)
    clock.advance(10)
    assert not is_there(store)
    clock.advance(-5)
    assert not is_there(store)


@pytest.mark.parametrize("lifetime", [{"ttl_seconds": 10}, {"expires_at": "2027-01-15T08:00:10Z"}])
def test_an_expired_source_is_kept_for_its_forks_only(store, clock, lifetime):
    store.create("/src", initial_data=b"abc", **lifetime)
    store.create("/f", forked_from="/src", ttl_seconds=1000)
    clock.advance(10)
    assert store.list() == ["/f"]
    assert store.get("/src").soft_deleted
    for refused, error in [
        (lambda: store.read("/src"), StreamGone),
        (lambda: store.create("/src"), StreamGone),
        (lambda: store.delete("/src"), StreamGone),
        (lambda: store.create("/g", forked_from="/src"), ForkSourceGone),
    ]:
        with pytest.raises(error):
            refused()
    assert bytes(store.read("/f")) == b"abc"
    store.delete("/f")
    assert not is_there(store, "/src")
    assert store.create("/src").created


def test_an_expired_fork_releases_its_source(store, clock):
    store.create("/src", initial_data=b"abc")
    store.create("/f", forked_from="/src", ttl_seconds=10)
    store.delete("/src")
    assert is_there(store, "/src")
    clock.advance(10)
    assert not is_there(store, "/f")
    assert not is_there(store, "/src")


def test_an_expired_source_cannot_be_forked(store, clock):
    store.create("/src", ttl_seconds=10)
    clock.advance(10)
    with pytest.raises(ForkSourceNotFound):
        store.create("/f", forked_from="/src")


def test_a_fork_has_a_window_of_its_own(store, clock):
    store.create("/src", ttl_seconds=10, initial_data=b"abc")
    clock.advance(5)
    store.create("/f", forked_from="/src")
    clock.advance(5)
    assert store.list() == ["/f"]
    store.read("/f")
    clock.advance(9)
    assert store.list() == ["/f"]


def test_reads_of_a_fork_are_no_access_to_its_source(store, clock):
    store.create("/src", ttl_seconds=10, initial_data=b"abc")
    store.create("/f", forked_from="/src", ttl_seconds=100)
    clock.advance(9)
    assert bytes(store.read("/f")) == b"abc"
    clock.advance(1)
    assert not store.has("/src")


def test_a_re_created_source_lends_the_old_fork_nothing(store, clock):
    store.create("/src", ttl_seconds=10, initial_data=b"old")
    store.create("/f", forked_from="/src", ttl_seconds=100)
    store.delete("/src")
    with pytest.raises(StreamGone):
        store.create("/src", initial_data=b"new")
    assert bytes(store.read("/f")) == b"old"
