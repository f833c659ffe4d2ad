"""Retention: the beginning of a stream moves on, by age and by bytes (docs/protocol.md)."""

from __future__ import annotations

import pytest

from durastream.engine.options import Limits
from durastream.protocol.errors import InvalidRequest, OffsetGone, StreamExists
from durastream.protocol.offset import format_offset as at
from support.stores import contents


@pytest.fixture
def sweep(blocking_store):
    """Trim what is due now; the stores do so by themselves now and then."""
    return blocking_store.sweep


def earliest(store, path="/s"):
    return store.get(path).earliest_offset


def test_at_least_so_many_of_the_newest_bytes_are_kept(store, sweep):
    store.create("/s", retention_bytes=10)
    for number in range(10):
        store.append("/s", b"%d23456" % number)
        sweep()
    assert earliest(store) == at(48)
    assert contents(store, "/s") == b"823456923456"
    assert store.read("/s", "-1").offset == at(48)
    assert store.read("/s").offset == at(48)
    assert store.get("/s").current_offset == at(60)


def test_what_was_given_up_is_gone_and_says_where_to_go_on(store, sweep):
    store.create("/s", retention_bytes=1, initial_data=b"abc")
    store.append("/s", b"d")
    sweep()
    for offset in (at(0), at(1), at(2)):
        for read in (store.read, lambda path, offset: store.wait_for_messages(path, offset, 0)):
            with pytest.raises(
                OffsetGone, match=f"dropped by retention; read from.*{at(3)}|{at(3)}"
            ):
                read("/s", offset)
    assert bytes(store.read("/s", at(3))) == b"d"
    assert bytes(store.read("/s", at(4))) == b""


def test_only_whole_appends_go(store, sweep):
    store.create("/j", content_type="application/json", retention_bytes=4)
    store.append("/j", b"[1,2,3,4,5,6]")
    sweep()
    assert earliest(store, "/j") == at(0)
    store.append("/j", b"[7]")
    sweep()
    assert earliest(store, "/j") == at(0), "the last four bytes begin in the first append"
    store.append("/j", b"[8]")
    sweep()
    assert earliest(store, "/j") == at(12)
    assert bytes(store.read("/j", at(12))) == b"7,8,"


def test_old_data_goes_and_a_sixteenth_later_at_most(store, sweep, clock):
    store.create("/s", retention_seconds=160)
    for _ in range(40):
        clock.advance(10)
        store.append("/s", b"x")
    sweep()
    # Now is 400; appends lie at 10, 20, ..., 400; those before 240 are too old.
    assert earliest(store) == at(23)
    clock.advance(159)
    sweep()
    assert contents(store, "/s") == b"xx", "the last but one may stay until its mark is old"
    clock.advance(1)
    sweep()
    assert contents(store, "/s") == b""
    assert earliest(store) == store.get("/s").current_offset == at(40)
    store.append("/s", b"y")
    assert contents(store, "/s") == b"y"


def test_frequent_appends_share_a_mark(store, sweep, clock):
    store.create("/s", retention_seconds=160)
    for _ in range(1000):
        store.append("/s", b"x")
        clock.advance(0.5)
    sweep()
    kept = len(contents(store, "/s"))
    assert 320 <= kept <= 340


def test_both_bounds_hold(store, sweep, clock):
    store.create("/s", retention_seconds=100, retention_bytes=1000, initial_data=b"a" * 10)
    clock.advance(100)
    sweep()
    assert contents(store, "/s") == b""
    store.append("/s", b"b" * 1000)
    store.append("/s", b"c" * 1000)
    sweep()
    assert contents(store, "/s") == b"c" * 1000


def test_closed_streams_are_trimmed_and_stay_closed(store, sweep, clock):
    store.create("/s", retention_seconds=10, initial_data=b"abc", closed=True)
    clock.advance(10)
    sweep()
    result = store.read("/s")
    assert (bytes(result), result.closed, result.offset) == (b"", True, at(3))


def test_trimming_is_no_access(store, sweep, clock):
    store.create("/s", ttl_seconds=30, retention_seconds=10, initial_data=b"abc")
    clock.advance(20)
    sweep()
    assert earliest(store) == at(3)
    clock.advance(10)
    assert not store.has("/s")


# -- forks ---------------------------------------------------------------------------------


def test_forks_keep_what_they_inherited(store, sweep):
    store.create("/s", retention_bytes=3, initial_data=b"abc")
    store.append("/s", b"def")
    store.create("/f", forked_from="/s", fork_offset=at(3), retention_bytes=1000)
    store.append("/s", b"ghi")
    sweep()
    assert contents(store, "/s") == b"ghi"
    assert contents(store, "/f") == b"abc"
    store.append("/f", b"own")
    assert contents(store, "/f") == b"abcown"


def test_a_fork_of_a_trimmed_stream_begins_where_that_does(store, sweep):
    store.create("/s", retention_bytes=3, initial_data=b"abc")
    store.append("/s", b"def")
    sweep()
    with pytest.raises(OffsetGone):
        store.create("/f", forked_from="/s", fork_offset=at(0))
    store.create("/f", forked_from="/s")
    assert contents(store, "/f") == b"def"
    with pytest.raises(OffsetGone):
        store.read("/f", at(0))


def test_a_fork_inherits_the_retention_and_trims_what_it_inherited(store, sweep):
    store.create("/s", retention_bytes=3, initial_data=b"abc")
    store.create("/f", forked_from="/s", initial_data=b"def")
    assert store.get("/f").retention_bytes == 3
    sweep()
    assert (contents(store, "/f"), contents(store, "/s")) == (b"def", b"abc")


# -- configuration -------------------------------------------------------------------------


def test_it_is_part_of_the_configuration(store):
    assert store.create("/s", retention_seconds=60, retention_bytes=1000).created
    found = store.get("/s")
    assert (found.retention_seconds, found.retention_bytes) == (60, 1000)
    assert not store.create("/s", retention_seconds=60, retention_bytes=1000).created
    for other in (
        {},
        {"retention_seconds": 60},
        {"retention_seconds": 61, "retention_bytes": 1000},
    ):
        with pytest.raises(StreamExists, match="retention"):
            store.create("/s", **other)
    store.create("/plain")
    assert store.get("/plain").retention_seconds is None
    with pytest.raises(StreamExists, match="retention"):
        store.create("/plain", retention_bytes=1)


@pytest.mark.parametrize("name", ["retention_seconds", "retention_bytes"])
def test_values_are_checked(store, name):
    for wrong in (0, -1, 2**53):
        with pytest.raises(InvalidRequest):
            store.create("/s", **{name: wrong})
    with pytest.raises(TypeError):
        store.create("/s", **{name: 1.5})
    assert store.get("/s") is None
    store.create("/s", **{name: 2**53 - 1})


def test_a_default_is_for_whoever_does_not_say(open_store):
    store = open_store(limits=Limits(retention_bytes=4))
    store.create("/s", initial_data=b"abcd")
    store.create("/own", initial_data=b"abcd", retention_bytes=100)
    store.append("/s", b"efgh")
    store.append("/own", b"efgh")
    store.sweep()
    assert contents(store, "/s") == b"efgh"
    assert contents(store, "/own") == b"abcdefgh"
    assert not store.create("/s").created
    with pytest.raises(StreamExists, match="retention"):
        store.create("/own")
    store.create("/fork", forked_from="/own")
    assert store.get("/fork").retention_bytes == 100
    store.create("/half", retention_seconds=7)
    found = store.get("/half")
    assert (found.retention_seconds, found.retention_bytes) == (7, 4)
