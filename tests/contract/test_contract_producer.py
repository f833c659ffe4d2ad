"""Section 5: idempotent producers."""

from __future__ import annotations

import pytest

from durastream.protocol.errors import (
    ContentTypeMismatch,
    InvalidJson,
    SequenceConflict,
    StreamClosed,
)
from durastream.protocol.offset import format_offset as at


def send(store, epoch, number, data=b"x", *, producer_id="p", **extra):
    return store.append_with_producer(
        "/s",
        data,
        producer_id=producer_id,
        producer_epoch=epoch,
        producer_seq=number,
        **extra,
    )


@pytest.fixture
def known(store):
    """A stream whose producer p has accepted (2, 0) and (2, 1)."""
    store.create("/s")
    send(store, 2, 0)
    send(store, 2, 1)
    return store


@pytest.mark.parametrize("epoch", [0, 1, 7, 2**53 - 1])
def test_an_unknown_producer_begins_with_seq_0_in_any_epoch(store, epoch):
    store.create("/s")
    result = send(store, epoch, 0)
    assert result.appended
    assert result.producer.status == "accepted"
    assert (result.producer.epoch, result.producer.last_seq) == (epoch, 0)
    assert store.get_producer_epoch("/s", "p") == epoch


def test_an_unknown_producer_with_another_seq_has_a_gap(store):
    store.create("/s")
    result = send(store, 0, 3)
    assert not result.appended
    assert result.producer.status == "sequence_gap"
    assert (result.producer.expected_seq, result.producer.received_seq) == (0, 3)
    assert store.get_producer_epoch("/s", "p") is None


@pytest.mark.parametrize(
    ("epoch", "seq", "status", "facts"),
    [
        (1, 0, "stale_epoch", {"epoch": 2}),
        (0, 9, "stale_epoch", {"epoch": 2}),
        (3, 0, "accepted", {"epoch": 3, "last_seq": 0}),
        (9, 0, "accepted", {"epoch": 9, "last_seq": 0}),
        (3, 1, "invalid_epoch_seq", {}),
        (2, 0, "duplicate", {"epoch": 2, "last_seq": 1}),
        (2, 1, "duplicate", {"epoch": 2, "last_seq": 1}),
        (2, 2, "accepted", {"epoch": 2, "last_seq": 2}),
        (2, 3, "sequence_gap", {"expected_seq": 2, "received_seq": 3}),
        (2, 2**53 - 1, "sequence_gap", {"expected_seq": 2, "received_seq": 2**53 - 1}),
    ],
)
def test_the_decision_table(known, epoch, seq, status, facts):
    result = send(known, epoch, seq, b"new")
    assert result.producer.status == status
    assert result.producer.producer_id == "p"
    assert result.appended == (status == "accepted")
    for name, value in facts.items():
        assert getattr(result.producer, name) == value
    expected = b"xxnew" if status == "accepted" else b"xx"
    assert bytes(known.read("/s")) == expected
    assert result.offset == at(len(expected))
    assert not result.stream_closed


def test_refusals_change_no_producer_state(known):
    for epoch, seq in [(1, 0), (3, 1), (2, 5)]:
        send(known, epoch, seq)
    assert send(known, 2, 2).producer.status == "accepted"


def test_an_older_epoch_stays_fenced(known):
    send(known, 3, 0)
    assert send(known, 2, 2).producer.status == "stale_epoch"


def test_producers_are_independent(known):
    assert send(known, 0, 0, producer_id="q").producer.status == "accepted"
    assert send(known, 2, 2).producer.status == "accepted"
    assert known.get_producer_epoch("/s", "q") == 0


def test_a_batch_is_one_sequence_number(store):
    store.create("/s", content_type="application/json")
    send(store, 0, 0, b"[1,2,3]")
    assert send(store, 0, 1, b"[4]").producer.status == "accepted"


def test_the_content_type_is_judged_before_the_producer(known):
    with pytest.raises(ContentTypeMismatch):
        send(known, 2, 1, content_type="text/html")


def test_the_producer_is_judged_before_seq(known):
    send(known, 2, 2, seq="b")
    retry = send(known, 2, 2, seq="b")
    assert retry.producer.status == "duplicate"
    assert send(known, 2, 2, seq="zzz").producer.status == "duplicate"
    assert known.get("/s").last_seq == "b"


def test_a_seq_conflict_does_not_use_up_the_producers_seq(known):
    known.append("/s", b"y", seq="m")
    with pytest.raises(SequenceConflict):
        send(known, 2, 2, seq="m")
    assert send(known, 2, 2, seq="n").producer.status == "accepted"


def test_invalid_json_does_not_use_up_the_producers_seq(store):
    store.create("/s", content_type="application/json")
    with pytest.raises(InvalidJson):
        send(store, 0, 0, b"{", seq="a")
    assert send(store, 0, 0, b"{}", seq="a").producer.status == "accepted"


def test_a_duplicates_body_is_not_looked_at(store):
    store.create("/s", content_type="application/json")
    send(store, 0, 0, b"1")
    assert send(store, 0, 0, b"{").producer.status == "duplicate"


def test_a_closing_append_is_a_duplicate_when_sent_again_whatever_its_body(known):
    first = send(known, 2, 2, b"end", close=True)
    assert (first.appended, first.stream_closed) == (True, True)
    again = send(known, 2, 2, b"other", close=True)
    assert again.producer.status == "duplicate"
    assert (again.appended, again.stream_closed) == (False, True)
    assert (again.offset, again.producer.last_seq) == (at(5), 2)
    assert send(known, 2, 2, b"other").producer.status == "duplicate"
    assert bytes(known.read("/s")) == b"xxend"


@pytest.mark.parametrize(("epoch", "seq"), [(2, 1), (2, 3), (1, 0), (3, 0)])
def test_a_closed_stream_refuses_every_other_tuple(known, epoch, seq):
    send(known, 2, 2, b"end", close=True)
    with pytest.raises(StreamClosed) as caught:
        send(known, epoch, seq)
    assert caught.value.final_offset == at(5)
    assert (caught.value.producer_epoch, caught.value.producer_seq) == (2, 2)


def test_a_closed_stream_tells_an_unknown_producer_nothing(known):
    known.close_stream("/s")
    with pytest.raises(StreamClosed) as caught:
        send(known, 2, 2, producer_id="q")
    assert (caught.value.producer_epoch, caught.value.producer_seq) == (None, None)


def test_a_duplicate_with_the_close_flag_leaves_the_stream_open(known):
    result = send(known, 2, 1, close=True)
    assert result.producer.status == "duplicate"
    assert not result.stream_closed
    assert not known.get("/s").closed
