"""Decisions that stores alone cannot show: purity, order, and what a value may be."""

from __future__ import annotations

from dataclasses import fields

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream.protocol.append import AppendRequest, decide_append
from durastream.protocol.close import decide_close
from durastream.protocol.create import CreateRequest, decide_create
from durastream.protocol.decision import Accepted
from durastream.protocol.delete import decide_delete
from durastream.protocol.describe import describe
from durastream.protocol.errors import (
    ContentTypeMismatch,
    EmptyAppend,
    InvalidJson,
    InvalidOffset,
    OffsetGone,
    SequenceConflict,
    StreamClosed,
    StreamError,
    TooLarge,
)
from durastream.protocol.expiry import deadline_ms, is_expired, touch
from durastream.protocol.offset import POSITION_MAX, format_offset
from durastream.protocol.payload import Payload
from durastream.protocol.producer import ProducerRequest
from durastream.protocol.read import resolve_offset
from durastream.protocol.results import Stream
from durastream.protocol.state import ProducerState, StreamState

NOW = 1_000_000
OPEN = StreamState(1, "/s", "text/plain", 0, 0, tail=10, last_seq="m")
KNOWN = ProducerState(1, 4, 0)

# Each refusal, in the order of section 4.2, with the fault that causes it.
FAULTS = {
    EmptyAppend: {"is_empty": True},
    StreamClosed: {"closed": True},
    ContentTypeMismatch: {"content_type": "text/html"},
    "stale_epoch": {"producer": ProducerRequest("p", 0, 0)},
    SequenceConflict: {"seq": "a"},
    InvalidJson: {"payload": InvalidJson("bad")},
}


def outcome(faults):
    state = msgspec.structs.replace(OPEN, closed=faults.pop("closed", False))
    payload = faults.pop("payload", Payload(b"x"))
    request = AppendRequest(**({"is_empty": False} | faults))
    try:
        decision = decide_append(state, KNOWN, request, payload, NOW)
    except StreamError as error:
        return type(error)
    return "accepted" if isinstance(decision, Accepted) else decision.producer.status


@given(st.sets(st.sampled_from(list(FAULTS))))
def test_of_several_faults_the_first_in_order_is_answered(chosen):
    faults = {}
    for fault in chosen:
        faults |= FAULTS[fault]
    expected = next((fault for fault in FAULTS if fault in chosen), "accepted")
    assert outcome(faults) == expected


def test_an_accepted_append_changes_only_what_it_should():
    request = AppendRequest(False, None, "z", ProducerRequest("p", 1, 5), close=True)
    decision = decide_append(OPEN, KNOWN, request, Payload(b"abc"), NOW)
    assert isinstance(decision, Accepted)
    changed = {
        name: getattr(decision.state, name)
        for name in OPEN.__struct_fields__
        if getattr(decision.state, name) != getattr(OPEN, name)
    }
    assert changed.pop("closed_by") is not None
    assert changed == {"tail": 13, "closed": True, "last_seq": "z", "last_accessed_at": NOW}
    assert decision.producer == ProducerState(1, 5, NOW)


def test_offsets_have_an_end():
    full = msgspec.structs.replace(OPEN, tail=POSITION_MAX - 1)
    decide_append(full, None, AppendRequest(False), Payload(b"x"), NOW)
    with pytest.raises(TooLarge):
        decide_append(full, None, AppendRequest(False), Payload(b"xx"), NOW)


def test_clocks_set_back_move_nothing_back():
    state = msgspec.structs.replace(OPEN, last_accessed_at=NOW, ttl_seconds=10)
    for now in (0, NOW, NOW + 1):
        appended = decide_append(state, None, AppendRequest(False), Payload(b"x"), now)
        closed = decide_close(state, None, None, now)
        assert isinstance(appended, Accepted)
        assert isinstance(closed, Accepted)
        for after in (appended.state, closed.state, touch(state, now)):
            assert after.last_accessed_at == max(NOW, now)


def test_deadlines():
    assert deadline_ms(OPEN) is None
    assert not is_expired(OPEN, 2**62)
    ttl = msgspec.structs.replace(OPEN, ttl_seconds=2, last_accessed_at=500)
    assert [is_expired(ttl, now) for now in (2499, 2500)] == [False, True]
    fixed = msgspec.structs.replace(OPEN, expires_at_ms=700, last_accessed_at=900)
    assert [is_expired(fixed, now) for now in (699, 700)] == [False, True]


def test_the_largest_ttl_fits_into_a_row():
    state = decide_create(
        CreateRequest("/s", ttl_seconds=2**53 - 1),
        None,
        None,
        None,
        Payload(b""),
        stream_id=1,
        fork_depth_max=1,
        now_ms=NOW,
    ).state
    assert deadline_ms(state) < 2**63
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=StreamState) == state


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (None, 4),
        ("-1", 4),
        ("now", 10),
        (format_offset(4), 4),
        (format_offset(7), 7),
        (format_offset(10), 10),
        (format_offset(3), OffsetGone),
        (format_offset(0), OffsetGone),
        (format_offset(8), InvalidOffset),
        (format_offset(11), InvalidOffset),
    ],
)
def test_reads_of_a_trimmed_stream(offset, expected):
    state = msgspec.structs.replace(OPEN, earliest=4)
    is_boundary = {4, 7}.__contains__
    if isinstance(expected, int):
        assert resolve_offset(state, offset, is_boundary) == expected
        return
    with pytest.raises(expected):
        resolve_offset(state, offset, is_boundary)


def test_a_deletion_goes_up_as_far_as_nobody_else_needs():
    def stream(stream_id, source_id, ref_count, **facts):
        return StreamState(
            stream_id,
            f"/{stream_id}",
            "a/b",
            0,
            0,
            source_id=source_id,
            ref_count=ref_count,
            **facts,
        )

    states = {
        1: stream(1, None, 1, soft_deleted=True),
        2: stream(2, 1, 2, soft_deleted=True),
        3: stream(3, 2, 1, expires_at_ms=NOW),
        4: stream(4, 3, 1, soft_deleted=True),
        5: stream(5, 4, 0),
    }
    removals = decide_delete(states[5], states.__getitem__, NOW)
    assert [r.before.stream_id for r in removals] == [5, 4, 3, 2]
    assert [r.after for r in removals[:3]] == [None] * 3
    assert removals[3].after.ref_count == 1
    before_its_time = decide_delete(states[5], states.__getitem__, NOW - 1)
    assert [r.before.stream_id for r in before_its_time] == [5, 4, 3]
    assert before_its_time[-1].after.ref_count == 0
    [soft] = decide_delete(states[4], states.__getitem__, NOW)
    assert soft.after.soft_deleted


def test_everything_known_of_a_stream_is_described():
    described = describe(OPEN, created=True)
    assert {field.name for field in fields(Stream)} == set(described.__slots__)
    assert (described.current_offset, described.created) == (format_offset(10), True)
