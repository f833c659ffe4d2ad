"""Sections 5.3 and 7: close without data."""

from __future__ import annotations

import pytest

from durastream.protocol.errors import StreamClosed, StreamGone, StreamNotFound
from durastream.protocol.offset import format_offset as at


def close(store, epoch, seq, producer_id="p"):
    return store.close_stream_with_producer(
        "/s", producer_id=producer_id, producer_epoch=epoch, producer_seq=seq
    )


def send(store, epoch, seq, producer_id="p"):
    return store.append("/s", b"x", producer_id=producer_id, producer_epoch=epoch, producer_seq=seq)


@pytest.fixture
def stream(store):
    store.create("/s", initial_data=b"abc")
    return store


def test_close_keeps_the_data_and_ends_the_stream(stream):
    result = stream.close_stream("/s")
    assert (result.final_offset, result.already_closed, result.stream_closed) == (
        at(3),
        False,
        True,
    )
    read = stream.read("/s", at(3))
    assert (read.size, read.up_to_date, read.closed) == (0, True, True)
    with pytest.raises(StreamClosed):
        stream.append("/s", b"x")


def test_closing_again_is_fine(stream):
    stream.close_stream("/s")
    again = stream.close_stream("/s")
    assert (again.final_offset, again.already_closed, again.stream_closed) == (at(3), True, True)


def test_a_missing_stream_cannot_be_closed(store):
    with pytest.raises(StreamNotFound):
        store.close_stream("/s")
    with pytest.raises(StreamNotFound):
        close(store, 0, 0)


def test_a_soft_deleted_stream_cannot_be_closed(stream):
    stream.create("/fork", forked_from="/s")
    stream.delete("/s")
    with pytest.raises(StreamGone):
        stream.close_stream("/s")
    with pytest.raises(StreamGone):
        close(stream, 0, 0)


def test_a_producers_close_uses_up_its_seq(stream):
    send(stream, 1, 0)
    result = close(stream, 1, 1)
    assert result.producer.status == "accepted"
    assert (result.producer.epoch, result.producer.last_seq) == (1, 1)
    assert result.stream_closed
    assert stream.get("/s").closed_by.seq == 1


def test_a_producers_close_sent_again_is_a_duplicate(stream):
    close(stream, 1, 0)
    again = close(stream, 1, 0)
    assert (again.already_closed, again.stream_closed) == (True, True)
    assert again.producer.status == "duplicate"
    assert (again.producer.epoch, again.producer.last_seq) == (1, 0)


def test_the_closing_tuple_of_an_append_closes_again(stream):
    stream.append("/s", b"x", producer_id="p", producer_epoch=0, producer_seq=0, close=True)
    assert close(stream, 0, 0).producer.status == "duplicate"
    assert close(stream, 0, 0).final_offset == at(4)


@pytest.mark.parametrize(("epoch", "seq", "producer_id"), [(1, 1, "p"), (2, 0, "p"), (1, 0, "q")])
def test_another_producers_close_finds_it_closed(stream, epoch, seq, producer_id):
    close(stream, 1, 0)
    with pytest.raises(StreamClosed) as caught:
        close(stream, epoch, seq, producer_id)
    assert caught.value.final_offset == at(3)


def test_a_producers_close_after_a_plain_close_finds_it_closed(stream):
    stream.close_stream("/s")
    with pytest.raises(StreamClosed):
        close(stream, 0, 0)


def test_a_plain_close_after_a_producers_close_is_fine(stream):
    close(stream, 0, 0)
    assert stream.close_stream("/s").already_closed


@pytest.mark.parametrize(
    ("epoch", "seq", "status"),
    [
        (1, 0, "duplicate"),
        (0, 1, "stale_epoch"),
        (2, 1, "invalid_epoch_seq"),
        (1, 2, "sequence_gap"),
    ],
)
def test_a_refused_or_repeated_tuple_leaves_the_stream_open(stream, epoch, seq, status):
    send(stream, 1, 0)
    result = close(stream, epoch, seq)
    assert result.producer.status == status
    assert (result.already_closed, result.stream_closed) == (False, False)
    assert result.final_offset == at(4)
    assert stream.append("/s", b"y").appended


def test_close_does_not_look_at_seq(stream):
    stream.append("/s", b"x", seq="m")
    assert stream.append("/s", b"", seq="a", close=True).stream_closed
    assert stream.get("/s").last_seq == "m"


def test_a_closed_stream_can_be_deleted_and_made_anew(stream):
    stream.close_stream("/s")
    assert stream.delete("/s")
    assert stream.create("/s").created
    assert stream.append("/s", b"x").offset == at(1)
