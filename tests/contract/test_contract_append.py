"""Sections 4.2 and 6: append, and Stream-Seq."""

from __future__ import annotations

import pytest

from durastream.protocol.errors import (
    ContentTypeMismatch,
    EmptyAppend,
    InvalidContentType,
    InvalidRequest,
    SequenceConflict,
    StreamClosed,
    StreamNotFound,
)
from durastream.protocol.offset import format_offset as at

PRODUCER = {"producer_id": "p", "producer_epoch": 0, "producer_seq": 0}


def test_each_append_moves_the_tail_and_is_read_at_once(store):
    store.create("/s")
    first = store.append("/s", b"one")
    second = store.append("/s", b"three")
    assert (first.offset, first.appended, first.stream_closed) == (at(3), True, False)
    assert second.offset == at(8)
    assert second.producer is None
    assert bytes(store.read("/s", first.offset)) == b"three"
    assert store.get_current_offset("/s") == at(8)


def test_a_missing_stream_takes_nothing(store):
    with pytest.raises(StreamNotFound, match="/s"):
        store.append("/s", b"x")
    with pytest.raises(StreamNotFound):
        store.append("/s", b"", close=True)
    with pytest.raises(StreamNotFound):
        store.append("/s", b"")


@pytest.mark.parametrize("extra", [{}, PRODUCER, {"seq": "a"}])
def test_an_empty_append_is_refused(store, extra):
    store.create("/s")
    with pytest.raises(EmptyAppend):
        store.append("/s", b"", **extra)
    assert store.get_producer_epoch("/s", "p") is None


def test_an_empty_append_to_a_closed_stream_is_refused_as_empty(store):
    store.create("/s", closed=True)
    with pytest.raises(EmptyAppend):
        store.append("/s", b"")


def test_the_content_type_must_be_the_streams(store):
    store.create("/s", content_type="text/plain; charset=utf-8")
    store.append("/s", b"x", content_type="Text/PLAIN")
    with pytest.raises(ContentTypeMismatch, match="text/plain"):
        store.append("/s", b"y", content_type="text/html")
    with pytest.raises(InvalidContentType):
        store.append("/s", b"y", content_type="nonsense")
    assert bytes(store.read("/s")) == b"x"


def test_closed_is_judged_before_the_content_type(store):
    store.create("/s", closed=True)
    with pytest.raises(StreamClosed):
        store.append("/s", b"x", content_type="text/html")


def test_seq_must_grow_byte_by_byte(store):
    store.create("/s")
    for seq in ["09", "10", "2", "B", "a", "a0", "z", "\u00e9", "\uffff", "\U0001f600"]:
        assert store.append("/s", b"x", seq=seq).appended
    assert store.get("/s").last_seq == "\U0001f600"


@pytest.mark.parametrize("seq", ["10", "1", "09", "0"])
def test_a_seq_that_does_not_grow_is_a_conflict(store, seq):
    store.create("/s")
    store.append("/s", b"x", seq="10")
    with pytest.raises(SequenceConflict) as caught:
        store.append("/s", b"y", seq=seq)
    assert (caught.value.received, caught.value.last) == (seq, "10")
    assert bytes(store.read("/s")) == b"x"


def test_appends_without_seq_are_neither_checked_nor_recorded(store):
    store.create("/s")
    store.append("/s", b"a", seq="5")
    store.append("/s", b"b")
    with pytest.raises(SequenceConflict):
        store.append("/s", b"c", seq="5")
    assert store.append("/s", b"d", seq="6").appended


def test_an_empty_seq_is_malformed(store):
    store.create("/s")
    with pytest.raises(InvalidRequest):
        store.append("/s", b"x", seq="")


def test_seq_is_recorded_only_with_the_append(store):
    store.create("/s", content_type="application/json")
    with pytest.raises(InvalidRequest):
        store.append("/s", b"{", seq="a")
    assert store.append("/s", b"{}", seq="a").appended


@pytest.mark.parametrize("missing", sorted(PRODUCER))
def test_the_producers_three_go_together(store, missing):
    store.create("/s")
    some = {name: value for name, value in PRODUCER.items() if name != missing}
    with pytest.raises(InvalidRequest, match="together"):
        store.append("/s", b"x", **some)


@pytest.mark.parametrize(
    "wrong",
    [
        {"producer_id": ""},
        {"producer_epoch": -1},
        {"producer_seq": -1},
        {"producer_epoch": 2**53},
        {"producer_seq": 2**53},
    ],
)
def test_a_producers_tuple_must_be_well_formed_before_anything_else(store, wrong):
    with pytest.raises(InvalidRequest):
        store.append("/missing", b"x", **(PRODUCER | wrong))


def test_an_append_with_close_does_both(store):
    store.create("/s")
    result = store.append("/s", b"last", close=True)
    assert (result.offset, result.appended, result.stream_closed) == (at(4), True, True)
    read = store.read("/s")
    assert (bytes(read), read.closed) == (b"last", True)
    with pytest.raises(StreamClosed) as caught:
        store.append("/s", b"last", close=True)
    assert caught.value.final_offset == at(4)


def test_a_refused_append_with_close_does_not_close(store):
    store.create("/s", content_type="application/json")
    for data, extra in [
        (b"{", {}),
        (b"[]", {}),
        (b"1", {"content_type": "text/plain"}),
        (b"1", PRODUCER | {"producer_seq": 1}),
    ]:
        try:
            outcome = store.append("/s", data, close=True, **extra)
        except (InvalidRequest, ContentTypeMismatch):
            pass
        else:
            assert outcome.producer.status == "sequence_gap"
        assert not store.get("/s").closed


def test_close_without_data_through_append_is_a_close(store):
    store.create("/s", content_type="text/plain", initial_data=b"x")
    result = store.append("/s", b"", close=True, content_type="anything goes")
    assert (result.offset, result.appended, result.stream_closed) == (at(1), False, True)
    assert store.append("/s", b"", close=True).stream_closed


def test_bodies_are_kept_byte_for_byte(store):
    store.create("/s")
    data = bytes(range(256)) * 40
    store.append("/s", data)
    assert bytes(store.read("/s")) == data
