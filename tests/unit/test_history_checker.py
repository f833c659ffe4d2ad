"""The checker of histories: it lets right ones pass, and each way to be wrong is found."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from durastream.engine.memory_store import StreamStore
from histories.checker import Call, NotLinearizable, check
from histories.model import StreamsModel
from histories.operations import Append, Close, Create, Delete, Head, Read
from histories.recording import FastClock, Recording, blocking
from histories.workload import Client, by_family, families

A, F = "/a", "/f"
MADE = (Create(A), 0, 1, ("created", 0))
TTL_MADE = (Create(A, ttl_ms=1000), 0, 1, ("created", 0))


def judge(*calls, has_ttl=False):
    """Check calls given as (operation, invoked, returned, outcome)."""
    found = [Call(f"c{n}", *call) for n, call in enumerate(calls)]
    check(found, StreamsModel(has_ttl=has_ttl))


def read(data, *, at=0, closed=False):
    return "read", data, at + len(data), closed


def append(data, begin, end, tail, **more):
    return Append(A, data, **more), begin, end, ("accepted", tail, more.get("close", False))


RIGHT = {
    "nothing": [],
    "a read beside an append shows it or not": [
        MADE,
        append(b"x;", 2, 9, 2),
        (Read(A, 0), 3, 8, read(b"x;")),
        (Read(A, 0), 3, 5, read(b"")),
    ],
    "appends beside each other in any order": [
        MADE, append(b"x;", 2, 9, 4), append(b"y;", 2, 9, 2), (Read(A, 0), 10, 11, read(b"y;x;")),
    ],
    "no answer, and it took effect late": [
        MADE,
        (Append(A, b"x;"), 2, None, None),
        (Read(A, 0), 3, 4, read(b"")),
        (Read(A, 0), 5, 6, read(b"x;")),
    ],
    "no answer, and it never took effect": [
        MADE, (Delete(A), 2, None, None), append(b"x;", 3, 4, 2),
    ],
    "a close that found it closed, or open again": [
        MADE,
        (Close(A), 2, 3, ("accepted", 0, True)),
        (Delete(A), 4, 20, ("deleted",)),
        (Create(A), 4, 20, ("created", 0)),
        (Close(A), 5, 9, ("accepted", 0, True)),
        (Append(A, b"x;", ("p", 0, 3)), 5, 20, ("gap", 0)),
        (Append(A, b"x;"), 21, 22, ("closed", 0)),
    ],
    "a waiting reader resolved now when it came": [
        MADE, append(b"x;", 2, 3, 2), append(b"y;", 5, 6, 4),
        (Read(A, None, 100), 4, 7, read(b"y;", at=2)),
    ],
}  # fmt: skip

WRONG = {
    "a read misses what was acknowledged": [
        MADE, append(b"x;", 2, 3, 2), (Read(A, 0), 4, 5, read(b"")),
    ],
    "a read shows what nobody wrote": [MADE, (Read(A, 0), 4, 5, read(b"x;"))],
    "a read shows what was not yet begun": [
        MADE, (Read(A, 0), 2, 3, read(b"x;")), append(b"x;", 4, 5, 2),
    ],
    "what was shown is taken back": [
        MADE,
        append(b"x;", 2, 9, 2),
        (Read(A, 0), 3, 4, read(b"x;")),
        (Read(A, 0), 5, 6, read(b"")),
    ],
    "an offset is given twice": [MADE, append(b"x;", 2, 9, 2), append(b"y;", 2, 9, 2)],
    "two readers see two orders": [
        MADE, append(b"x;", 2, 9, 2), append(b"y;", 2, 9, 4), (Read(A, 0), 10, 11, read(b"y;x;")),
    ],
    "two make the same stream": [MADE, (Create(A), 0, 2, ("created", 0))],
    "a stream is there after its deletion": [
        MADE, (Delete(A), 2, 3, ("deleted",)), (Head(A), 4, 5, ("head", 0, False)),
    ],
    "it is deleted twice": [MADE, *[(Delete(A), 2, 5, ("deleted",))] * 2],
    "an append behind the close": [
        MADE, (Close(A), 2, 3, ("accepted", 0, True)), append(b"x;", 4, 5, 2),
    ],
    "a batch accepted twice": [
        MADE,
        append(b"x;", 2, 5, 2, producer=("p", 0, 0)),
        append(b"x;", 2, 5, 4, producer=("p", 0, 0)),
    ],
    "a duplicate of what was never accepted": [
        MADE, (Append(A, b"x;", ("p", 0, 0)), 2, 5, ("duplicate", 0, False)),
    ],
    "a refusal for what was not so at any time": [
        MADE, (Append(A, b"x;"), 2, 3, ("closed", 0)), (Close(A), 4, 5, ("accepted", 0, True)),
    ],
    "what came while it waited is missed": [
        # recorded as from the end of its timeout on
        MADE, append(b"x;", 2, 3, 2), (Read(A, 0, 100), 100, 101, read(b"")),
    ],
    "an unanswered call takes effect twice": [
        MADE, (Append(A, b"x;"), 2, None, None), (Read(A, 0), 5, 6, read(b"x;x;")),
    ],
    "a fork of a stream that is not there": [
        MADE,
        (Delete(A), 2, 3, ("deleted",)),
        (Create(F, source=A), 4, 5, ("created", 0)),
    ],
    "a source forgets its fork": [
        MADE,
        (Create(F, source=A), 2, 3, ("created", 0)),
        (Delete(A), 4, 5, ("deleted",)),
        (Create(A), 6, 7, ("created", 0)),
    ],
}  # fmt: skip

TTL_RIGHT = {
    "over in time": [TTL_MADE, (Head(A), 1500, 1501, ("missing",))],
    "nobody knows whether the access came in time": [
        TTL_MADE,
        (Read(A, 0), 900, 1100, read(b"")),
        (Head(A), 1050, 1060, ("head", 0, False)),
        (Head(A), 1950, 1960, ("head", 0, False)),
        (Head(A), 2050, 2060, ("missing",)),
    ],
}
TTL_WRONG = {
    "it ends before its time": [TTL_MADE, (Head(A), 500, 501, ("missing",))],
    "it is there after its time": [TTL_MADE, (Head(A), 1500, 1501, ("head", 0, False))],
    "a look keeps it alive": [
        TTL_MADE,
        (Head(A), 900, 901, ("head", 0, False)),
        (Head(A), 1500, 1501, ("head", 0, False)),
    ],
    "an access does not keep it alive": [
        TTL_MADE, (Read(A, 0), 900, 901, read(b"")), (Head(A), 1500, 1501, ("missing",)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_histories_pass(name):
    judge(*RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_wrong_histories_are_found(name):
    with pytest.raises(NotLinearizable):
        judge(*WRONG[name])


@pytest.mark.parametrize("name", TTL_RIGHT)
def test_right_histories_with_a_ttl_pass(name):
    judge(*TTL_RIGHT[name], has_ttl=True)


@pytest.mark.parametrize("name", TTL_WRONG)
def test_wrong_histories_with_a_ttl_are_found(name):
    with pytest.raises(NotLinearizable):
        judge(*TTL_WRONG[name], has_ttl=True)


def test_the_complaint_names_the_call_and_what_was_possible():
    with pytest.raises(NotLinearizable) as complaint:
        judge(*WRONG["a read misses what was acknowledged"], (Head(A), 3, 99, ("missing",)))
    text = str(complaint.value)
    assert "nothing explains Call(client='c2', operation=Read(path='/a'" in text
    assert "data=b'x;'" in text
    assert "under way:\n  Call(client='c3', operation=Head(path='/a')" in text


# -- a real history, changed in one place --------------------------------------------------


def more_data(call):
    kind, data, tail, closed = call.outcome
    return kind, data + b"z;", tail + 2, closed


MUTATIONS = {
    "a read with more than there is": ("read", more_data),
    "an append at another offset": ("accepted", lambda call: ("accepted", 9999, False)),
    "a stream made with bytes in it": ("created", lambda call: ("created", 9999)),
    "a tail that was never there": ("head", lambda call: ("head", 9999, False)),
    "a gap in no sequence": ("gap", lambda call: ("gap", 9999)),
}


@pytest.fixture(scope="module")
def recorded():
    known = families(1, "m", None)
    recording = Recording(FastClock(1.0).exact, 0)
    with StreamStore() as store:
        clients = [Client(f"c{n}", 1, known, 1) for n in range(4)]
        recording.run([blocking(recording, store, client, 100) for client in clients])
    recording.check(known)
    return recording.calls


@pytest.mark.parametrize("name", MUTATIONS)
def test_no_mutation_of_a_real_history_passes(recorded, name):
    kind, mutate = MUTATIONS[name]
    found = [n for n, call in enumerate(recorded) if call.outcome[0] == kind]
    assert found
    for number in random.Random(name).sample(found, min(10, len(found))):
        mutated = list(recorded)
        mutated[number] = replace(recorded[number], outcome=mutate(recorded[number]))
        with pytest.raises(NotLinearizable):
            check(mutated, StreamsModel(has_ttl=False))


def test_a_lost_append_of_a_real_history_is_found(recorded):
    """Where somebody read it, an append cannot be left out."""
    shown = b"".join(call.outcome[1] for call in recorded if call.outcome[0] == "read")
    lost = [
        call
        for call in recorded
        if call.outcome[0] == "accepted" and getattr(call.operation, "data", b"?") in shown
    ]
    assert lost
    for call in lost[:10]:
        with pytest.raises(NotLinearizable):
            check([one for one in recorded if one is not call], StreamsModel(has_ttl=False))


def test_families_are_checked_apart():
    known = families(3, "x", 1000)
    calls = [Call("c", Head(path), 0, 1, ("missing",)) for f in known for path in f.paths]
    assert [len(found) for found in by_family(calls, known).values()] == [1, 3, 2]
