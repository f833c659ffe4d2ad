"""Sections 4.3 and 14.6: deletion, soft deletion and its cascade."""

from __future__ import annotations

import pytest

from durastream.protocol.errors import (
    ForkSourceGone,
    ForkSourceNotFound,
    StreamGone,
    StreamNotFound,
)
from durastream.protocol.offset import format_offset as at


def test_what_is_not_there_is_not_deleted(store):
    assert store.delete("/s") is False


def test_a_deleted_stream_is_gone_at_once(store):
    store.create("/s", initial_data=b"old")
    assert store.delete("/s") is True
    assert store.get("/s") is None
    assert store.list() == []
    with pytest.raises(StreamNotFound):
        store.read("/s")
    with pytest.raises(StreamNotFound):
        store.append("/s", b"x")
    assert store.delete("/s") is False


def test_a_re_created_path_has_no_trace_of_the_old_stream(store):
    old = store.create("/s", content_type="text/plain", initial_data=b"old", ttl_seconds=9)
    store.append("/s", b"x", seq="z", producer_id="p", producer_epoch=5, producer_seq=0)
    store.delete("/s")
    new = store.create("/s", content_type="application/json")
    assert new.created
    assert new.incarnation != old.incarnation
    assert (new.current_offset, new.last_seq, new.ttl_seconds) == (at(0), None, None)
    assert store.get_producer_epoch("/s", "p") is None
    assert store.append("/s", b"[1]", seq="a").appended
    assert bytes(store.read("/s")) == b"1,"


@pytest.fixture
def family(store):
    """/c forks /b forks /a."""
    store.create("/a", initial_data=b"a")
    store.create("/b", forked_from="/a", initial_data=b"b")
    store.create("/c", forked_from="/b", initial_data=b"c")
    return store


def test_a_stream_with_forks_is_kept_for_them_only(family):
    assert family.delete("/a") is True
    assert family.list() == ["/b", "/c"]
    assert family.get("/a").soft_deleted
    assert not family.has("/a")
    for refused in (
        lambda: family.read("/a"),
        lambda: family.append("/a", b"x"),
        lambda: family.close_stream("/a"),
        lambda: family.delete("/a"),
        lambda: family.create("/a"),
        lambda: family.create("/a", content_type="text/html"),
    ):
        with pytest.raises(StreamGone, match="/a"):
            refused()
    with pytest.raises(ForkSourceGone):
        family.create("/d", forked_from="/a")
    assert bytes(family.read("/b")) == b"ab"
    assert bytes(family.read("/c")) == b"abc"


def test_the_last_fork_takes_its_soft_deleted_sources_along(family):
    family.delete("/a")
    family.delete("/b")
    assert bytes(family.read("/c")) == b"abc"
    assert family.delete("/c")
    for path in ("/a", "/b", "/c"):
        assert family.get(path) is None
        assert family.create(path).created


def test_a_living_source_stays(family):
    family.delete("/c")
    assert family.get("/b").ref_count == 0
    family.delete("/b")
    assert family.get("/a").ref_count == 0
    assert bytes(family.read("/a")) == b"a"


def test_the_cascade_stops_where_another_fork_needs_the_source(family):
    family.create("/sibling", forked_from="/a")
    family.delete("/a")
    family.delete("/b")
    family.delete("/c")
    assert family.get("/b") is None
    assert family.get("/a").ref_count == 1
    assert bytes(family.read("/sibling")) == b"a"
    family.delete("/sibling")
    assert family.get("/a") is None


def test_the_cascade_stops_at_a_living_source(family):
    family.delete("/b")
    family.delete("/c")
    assert family.get("/b") is None
    assert family.get("/a").ref_count == 0
    assert family.append("/a", b"x").appended


def test_ten_siblings_count(store):
    store.create("/a", initial_data=b"a")
    for number in range(10):
        store.create(f"/fork{number}", forked_from="/a")
    assert store.get("/a").ref_count == 10
    store.delete("/a")
    for number in range(10):
        assert store.get("/a") is not None
        store.delete(f"/fork{number}")
    assert store.get("/a") is None
    with pytest.raises(ForkSourceNotFound):
        store.create("/late", forked_from="/a")


def test_a_long_chain_falls_at_once(store):
    store.create("/0", initial_data=b"x")
    for number in range(1, 60):
        store.create(f"/{number}", forked_from=f"/{number - 1}")
    assert bytes(store.read("/59")) == b"x"
    for number in range(59):
        store.delete(f"/{number}")
    store.delete("/59")
    assert store.list() == []
    assert store.get("/0") is None


def test_a_soft_deleted_stream_is_known_but_neither_there_nor_at_an_offset(store):
    store.create("/s", initial_data=b"x")
    store.create("/f", forked_from="/s")
    store.delete("/s")
    assert store.get("/s").soft_deleted
    assert not store.has("/s")
    assert store.get_current_offset("/s") is None
