"""Sections 14.1 to 14.5: forks, sub-offsets, and reading across the fork point."""

from __future__ import annotations

import json

import pytest

from durastream.protocol.errors import (
    ContentTypeMismatch,
    ForkSourceGone,
    ForkSourceNotFound,
    InvalidJson,
    InvalidRequest,
    StreamClosed,
    StreamExists,
    StreamGone,
)
from durastream.protocol.offset import format_offset as at


@pytest.fixture
def source(store):
    """abc | defg | h"""
    store.create("/src", content_type="text/plain", initial_data=b"abc")
    store.append("/src", b"defg")
    store.append("/src", b"h")
    return store


@pytest.fixture
def json_source(store):
    """[1,22,333] | [4,5]"""
    store.create("/src", content_type="application/json", initial_data=b"[1,22,333]")
    store.append("/src", b"[4,5]")
    return store


def values(store, path):
    return json.loads(store.format_response(path, store.read(path).messages))


def test_a_fork_begins_with_all_of_its_source(source):
    fork = source.create("/f", forked_from="/src")
    assert fork.created
    assert (fork.content_type, fork.current_offset) == ("text/plain", at(8))
    assert (fork.forked_from, fork.fork_offset) == ("/src", at(8))
    assert bytes(source.read("/f")) == b"abcdefgh"
    assert source.get("/src").ref_count == 1


@pytest.mark.parametrize(
    ("position", "inherited"), [(0, b""), (3, b"abc"), (7, b"abcdefg"), (8, b"abcdefgh")]
)
def test_a_fork_may_branch_off_anywhere(source, position, inherited):
    source.create("/f", forked_from="/src", fork_offset=at(position))
    source.append("/f", b"OWN")
    assert bytes(source.read("/f")) == inherited + b"OWN"
    assert bytes(source.read("/f", at(position))) == b"OWN"
    assert source.get_current_offset("/f") == at(position + 3)
    assert [m.data for m in source.read("/f").messages][-1] == b"OWN"


def test_offsets_of_the_inherited_part_are_the_sources(source):
    source.create("/f", forked_from="/src", fork_offset=at(7), initial_data=b"xy")
    assert bytes(source.read("/f", at(3))) == b"defgxy"
    with pytest.raises(InvalidRequest):
        source.read("/f", at(8))
    with pytest.raises(InvalidRequest):
        source.read("/f", at(5))


def test_both_go_their_own_ways(source):
    source.create("/f", forked_from="/src", fork_offset=at(3))
    source.append("/src", b"SRC")
    source.append("/f", b"F")
    source.close_stream("/src")
    source.append("/f", b"F")
    assert bytes(source.read("/src")) == b"abcdefghSRC"
    assert bytes(source.read("/f")) == b"abcFF"
    assert not source.get("/f").closed


def test_a_closed_source_has_open_forks(source):
    source.append("/src", b"", close=True, producer_id="p", producer_epoch=3, producer_seq=0)
    assert not source.create("/f", forked_from="/src").closed
    assert source.create("/g", forked_from="/src", closed=True, initial_data=b"end").closed
    assert source.append("/f", b"x").appended
    assert source.read("/g").closed
    with pytest.raises(StreamClosed):
        source.append("/g", b"x")


def test_nothing_but_data_and_lifetime_is_inherited(source):
    source.append("/src", b"x", seq="m", producer_id="p", producer_epoch=3, producer_seq=0)
    fork = source.create("/f", forked_from="/src")
    assert (fork.last_seq, fork.closed_by) == (None, None)
    assert source.get_producer_epoch("/f", "p") is None
    result = source.append("/f", b"y", seq="a", producer_id="p", producer_epoch=3, producer_seq=0)
    assert result.producer.status == "accepted"


def test_an_empty_source_can_be_forked(store):
    store.create("/src")
    assert store.create("/f", forked_from="/src").current_offset == at(0)
    assert store.create("/g", forked_from="/src", fork_offset=at(0)).created


@pytest.mark.parametrize("position", [1, 2, 4, 9, 10**15], ids=lambda position: f"at {position}")
def test_a_fork_offset_must_be_one_of_the_source(source, position):
    with pytest.raises(InvalidRequest):
        source.create("/f", forked_from="/src", fork_offset=at(position))
    assert source.get("/f") is None
    assert source.get("/src").ref_count == 0


def test_the_source_must_be_there(store):
    with pytest.raises(ForkSourceNotFound):
        store.create("/f", forked_from="/missing")
    with pytest.raises(ForkSourceNotFound):
        store.create("/f", forked_from="/f")


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"content_type": "text/html"}, ContentTypeMismatch),
        ({"fork_offset": at(2)}, InvalidRequest),
        ({"fork_offset": at(3), "fork_sub_offset": 5}, InvalidRequest),
        ({"fork_sub_offset": 1}, InvalidRequest),
        ({"fork_offset": at(8), "fork_sub_offset": 1}, InvalidRequest),
    ],
)
def test_a_refused_fork_leaves_no_reference(source, asked, error):
    with pytest.raises(error):
        source.create("/f", forked_from="/src", **asked)
    assert source.get("/src").ref_count == 0
    source.delete("/src")
    assert source.get("/src") is None


def test_invalid_json_leaves_no_reference(json_source):
    with pytest.raises(InvalidJson):
        json_source.create("/f", forked_from="/src", initial_data=b"{")
    assert json_source.get("/src").ref_count == 0


@pytest.mark.parametrize(
    ("anchor", "sub_offset", "inherited"),
    [
        (0, 0, b""),
        (0, 1, b"a"),
        (0, 3, b"abc"),
        (3, 2, b"abcde"),
        (3, 4, b"abcdefg"),
        (7, 1, b"abcdefgh"),
    ],
)
def test_a_sub_offset_counts_bytes_of_the_next_append(source, anchor, sub_offset, inherited):
    fork = source.create(
        "/f",
        forked_from="/src",
        fork_offset=at(anchor),
        fork_sub_offset=sub_offset,
        initial_data=b"XY",
    )
    assert fork.current_offset == at(len(inherited) + 2)
    assert bytes(source.read("/f")) == inherited + b"XY"
    assert bytes(source.read("/f", at(len(inherited)))) == b"XY"
    source.close_stream("/src")
    source.append("/f", b"Z")
    assert bytes(source.read("/f")) == inherited + b"XYZ"


@pytest.mark.parametrize(
    ("anchor", "sub_offset", "inherited"),
    [(0, 1, [1]), (0, 2, [1, 22]), (0, 3, [1, 22, 333]), (9, 1, [1, 22, 333, 4])],
)
def test_a_sub_offset_counts_messages_of_a_json_stream(json_source, anchor, sub_offset, inherited):
    json_source.create(
        "/f",
        forked_from="/src",
        fork_offset=at(anchor),
        fork_sub_offset=sub_offset,
        initial_data=b'["own"]',
    )
    assert values(json_source, "/f") == [*inherited, "own"]


@pytest.mark.parametrize(("anchor", "sub_offset"), [(0, 4), (9, 3), (13, 1)])
def test_a_sub_offset_does_not_reach_past_one_append(json_source, anchor, sub_offset):
    assert json_source.get_current_offset("/src") == at(13)
    with pytest.raises(InvalidRequest):
        json_source.create(
            "/f", forked_from="/src", fork_offset=at(anchor), fork_sub_offset=sub_offset
        )


def test_a_sub_offset_of_an_empty_source_is_refused(store):
    store.create("/src")
    with pytest.raises(InvalidRequest):
        store.create("/f", forked_from="/src", fork_offset=at(0), fork_sub_offset=1)


def test_the_cut_append_and_the_first_own_one_are_two(json_source):
    json_source.create("/f", forked_from="/src", fork_offset=at(0), fork_sub_offset=1)
    json_source.append("/f", b"9")
    messages = json_source.read("/f").messages
    assert [(m.data, m.offset) for m in messages] == [(b"1,", at(2)), (b"9,", at(4))]


def test_a_prefix_can_be_cut_again(store):
    store.create("/src", initial_data=b"abcdef")
    store.create("/f", forked_from="/src", fork_offset=at(0), fork_sub_offset=4)
    store.create("/g", forked_from="/f", fork_offset=at(0), fork_sub_offset=2)
    assert bytes(store.read("/f")) == b"abcd"
    assert bytes(store.read("/g")) == b"ab"
    with pytest.raises(InvalidRequest):
        store.create("/h", forked_from="/f", fork_offset=at(0), fork_sub_offset=5)
    assert store.create("/i", forked_from="/f", fork_offset=at(4)).created


def test_a_json_prefix_can_be_cut_again(json_source):
    create = json_source.create
    create("/f", forked_from="/src", fork_offset=at(0), fork_sub_offset=2, initial_data=b"9")
    create("/g", forked_from="/f", fork_offset=at(0), fork_sub_offset=1, initial_data=b"8")
    assert values(json_source, "/f") == [1, 22, 9]
    assert values(json_source, "/g") == [1, 8]
    with pytest.raises(InvalidRequest):
        create("/h", forked_from="/f", fork_offset=at(0), fork_sub_offset=3)


def test_a_fork_of_a_fork_may_branch_inside_what_it_inherits(source):
    source.create("/f", forked_from="/src", initial_data=b"F")
    source.create("/g", forked_from="/f", fork_offset=at(3), initial_data=b"G")
    source.create("/h", forked_from="/g", fork_offset=at(4), initial_data=b"H")
    assert bytes(source.read("/g")) == b"abcG"
    assert bytes(source.read("/h")) == b"abcGH"
    assert source.get("/g").forked_from == "/f"
    source.delete("/f")
    source.delete("/g")
    assert bytes(source.read("/h")) == b"abcGH"
    source.delete("/h")
    assert source.list() == ["/src"]
    assert source.get("/src").ref_count == 0


def test_chunks_of_a_fork_reassemble(source):
    source.create("/f", forked_from="/src", fork_offset=at(3), fork_sub_offset=2)
    source.append("/f", b"12345")
    source.create("/g", forked_from="/f", initial_data=b"xyz")
    for max_bytes in range(1, 14):
        offset, found = None, b""
        while result := source.read("/g", offset, max_bytes=max_bytes):
            if not result.size:
                break
            found += bytes(result)
            offset = result.next_offset
        assert found == b"abcde12345xyz"


def test_the_same_fork_again_is_the_same(source):
    asked = {"forked_from": "/src", "fork_offset": at(3), "fork_sub_offset": 2}
    first = source.create("/f", **asked)
    source.append("/src", b"more")
    again = source.create("/f", content_type="TEXT/plain", **asked)
    assert (again.created, again.incarnation) == (False, first.incarnation)
    assert not source.create("/f", forked_from="/src", fork_sub_offset=2).created
    assert source.get("/src").ref_count == 1


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"forked_from": "/other", "fork_sub_offset": 2},
        {"forked_from": "/src", "fork_offset": at(0), "fork_sub_offset": 2},
        {"forked_from": "/src", "fork_offset": at(3)},
        {"forked_from": "/src", "fork_offset": at(3), "fork_sub_offset": 1},
        {"forked_from": "/src", "fork_offset": at(3), "fork_sub_offset": 2, "ttl_seconds": 5},
        {"forked_from": "/src", "fork_sub_offset": 2, "content_type": "text/html"},
    ],
)
def test_another_fork_is_a_conflict(source, asked):
    source.create("/other", content_type="text/plain")
    source.create("/f", forked_from="/src", fork_offset=at(3), fork_sub_offset=2)
    with pytest.raises(StreamExists):
        source.create("/f", **asked)


def test_a_plain_stream_is_no_fork(source):
    source.create("/f", content_type="text/plain")
    with pytest.raises(StreamExists):
        source.create("/f", forked_from="/src")


def test_the_same_fork_again_is_the_same_without_its_source(source):
    source.create("/f", forked_from="/src")
    source.delete("/src")
    assert not source.create("/f", forked_from="/src").created
    with pytest.raises(ForkSourceGone):
        source.create("/g", forked_from="/src")
    with pytest.raises(StreamGone):
        source.create("/src")


def test_lifetime_is_inherited_unless_asked_for(store):
    deadline = "2100-01-01T00:00:00Z"
    store.create("/none")
    store.create("/ttl", ttl_seconds=60)
    store.create("/deadline", expires_at=deadline)
    for source in ("/none", "/ttl", "/deadline"):
        there = store.get(source)
        for name, asked in [
            ("", {}),
            ("-t", {"ttl_seconds": 5}),
            ("-d", {"expires_at": "2101-01-01T00:00:00Z"}),
        ]:
            fork = store.create(f"/f{source}{name}", forked_from=source, **asked)
            if asked:
                assert fork.ttl_seconds == asked.get("ttl_seconds")
                assert fork.expires_at == asked.get("expires_at")
            else:
                assert (fork.ttl_seconds, fork.expires_at) == (there.ttl_seconds, there.expires_at)
            assert not store.create(f"/f{source}{name}", forked_from=source, **asked).created
    with pytest.raises(StreamExists):
        store.create("/f/ttl-t", forked_from="/ttl")
