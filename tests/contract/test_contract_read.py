"""Sections 4.5 and 10: offsets, and chunks that reassemble to what was written."""

from __future__ import annotations

import pytest

from durastream.engine.options import READ_SIZE_MAX
from durastream.protocol.errors import InvalidOffset, StreamNotFound
from durastream.protocol.offset import format_offset as at


@pytest.fixture
def stream(store):
    store.create("/s", content_type="text/plain", initial_data=b"one")
    store.append("/s", b"three")
    return store


def chunks(store, path, *, max_bytes=None):
    """Follow the offsets from the start until an empty answer."""
    offset = None
    while True:
        result = store.read(path, offset, max_bytes=max_bytes)
        assert result.size == len(bytes(result))
        if not result.size:
            assert result.up_to_date
            assert result.next_offset == result.offset
            return
        assert result.next_offset > result.offset
        yield result
        offset = result.next_offset


def test_the_start_has_three_names(stream):
    reads = [stream.read("/s"), stream.read("/s", "-1"), stream.read("/s", at(0))]
    for result in reads:
        assert (bytes(result), result.offset, result.next_offset) == (b"onethree", at(0), at(8))
        assert (result.up_to_date, result.closed) == (True, False)
        assert result.content_type == "text/plain"
        assert result.incarnation == stream.get("/s").incarnation
    assert [(m.data, m.offset) for m in reads[0].messages] == [(b"one", at(3)), (b"three", at(8))]


def test_now_is_the_tail(stream):
    result = stream.read("/s", "now")
    assert (result.size, result.offset, result.next_offset) == (0, at(8), at(8))
    assert result.up_to_date


def test_a_middle_offset_reads_the_rest(stream):
    assert bytes(stream.read("/s", at(3))) == b"three"


@pytest.mark.parametrize(
    "offset",
    [
        "",
        "0",
        "-2",
        "NOW",
        "-1 ",
        "now\n",
        at(3) + "\n",
        at(3) + "\r\n",
        at(3) + "\0",
        " " + at(3),
        "3_3",
        "0000000000000000_000000000000003",
        "0000000000000001_0000000000000003",
        "0000000000000000,0000000000000003",
        "0000000000000000_000000000000000\u0663",
        "../" + at(3),
        "9999999999999999_9999999999999999",
    ],
)
def test_malformed_offsets_are_refused(stream, offset):
    with pytest.raises(InvalidOffset):
        stream.read("/s", offset)
    with pytest.raises(InvalidOffset):
        stream.wait_for_messages("/s", offset, 0)


@pytest.mark.parametrize("position", [1, 2, 4, 7, 9, 10**15])
def test_offsets_that_were_never_handed_out_are_refused(stream, position):
    with pytest.raises(InvalidOffset):
        stream.read("/s", at(position))


@pytest.mark.parametrize("offset", [None, "-1", "now", "nonsense"])
def test_a_missing_stream_is_missing_whatever_the_offset(store, offset):
    with pytest.raises(StreamNotFound):
        store.read("/s", offset)


def test_an_empty_stream_reads_empty(store):
    store.create("/s")
    result = store.read("/s")
    assert (result.size, result.next_offset, result.up_to_date) == (0, at(0), True)


def test_closed_shows_only_at_the_end(stream):
    stream.close_stream("/s")
    first = stream.read("/s", max_bytes=3)
    assert (bytes(first), first.up_to_date, first.closed) == (b"one", False, False)
    last = stream.read("/s", first.next_offset)
    assert (bytes(last), last.up_to_date, last.closed) == (b"three", True, True)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
@pytest.mark.parametrize("max_bytes", [1, 2, 3, 7, 10, 100])
def test_chunks_hold_whole_appends_and_reassemble(store, content_type, max_bytes):
    store.create("/s", content_type=content_type)
    appends = [b"1", b"[22,3]", b"4444", b'["a","bb","ccc"]', b"5", b"6", b"7"]
    ends = {store.append("/s", data).offset for data in appends}
    whole = bytes(store.read("/s"))
    parts = list(chunks(store, "/s", max_bytes=max_bytes))
    assert b"".join(map(bytes, parts)) == whole
    assert {part.next_offset for part in parts} <= ends
    for part in parts:
        assert part.size <= max_bytes or len(part.messages) == 1


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_chunk_has_room_for_something(stream, max_bytes):
    with pytest.raises(ValueError, match="max_bytes"):
        stream.read("/s", max_bytes=max_bytes)


def test_a_long_append_is_cut_at_offsets_that_stay_valid(store):
    data = bytes(range(256)) * (READ_SIZE_MAX // 256 * 2) + b"tail"
    store.create("/s", initial_data=b"head")
    store.append("/s", data)
    store.append("/s", b"end")
    parts = list(chunks(store, "/s"))
    assert b"".join(map(bytes, parts)) == b"head" + data + b"end"
    cuts = [4, 4 + READ_SIZE_MAX, 4 + 2 * READ_SIZE_MAX, 4 + len(data) + 3]
    assert [part.next_offset for part in parts] == [at(cut) for cut in cuts]
    for cut in (READ_SIZE_MAX, 3 + READ_SIZE_MAX, 5 + READ_SIZE_MAX):
        with pytest.raises(InvalidOffset):
            store.read("/s", at(cut))
    small = list(chunks(store, "/s", max_bytes=10))
    assert b"".join(map(bytes, small)) == b"head" + data + b"end"
    assert store.create("/fork", forked_from="/s", fork_offset=at(cuts[1])).created
    assert bytes(store.read("/fork", at(4))) == data[:READ_SIZE_MAX]


def test_a_long_json_append_is_cut_between_messages(store):
    message = b'"' + b"x" * (READ_SIZE_MAX // 4 * 3) + b'"'
    store.create("/s", content_type="application/json")
    store.append("/s", b"[0," + message + b"," + message + b",1]")
    store.append("/s", b"2")
    parts = [bytes(part) for part in chunks(store, "/s")]
    assert parts == [b"0," + message + b",", message + b",1,2,"]


def test_a_json_message_is_never_cut(store):
    message = b'"' + b"x" * (READ_SIZE_MAX + 10) + b'"'
    store.create("/s", content_type="application/json", initial_data=b"[1," + message + b"]")
    assert [bytes(part) for part in chunks(store, "/s")] == [b"1,", message + b","]


def test_what_was_read_stays_as_it_was(stream):
    result = stream.read("/s")
    stream.delete("/s")
    stream.create("/s", initial_data=b"another")
    assert bytes(result) == b"onethree"


def test_reading_again_gives_the_same_bytes(stream):
    before = bytes(stream.read("/s", at(3), max_bytes=5))
    stream.append("/s", b"more")
    stream.close_stream("/s")
    assert bytes(stream.read("/s", at(3), max_bytes=5)) == before
