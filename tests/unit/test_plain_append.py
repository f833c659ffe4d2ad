"""Appends of data alone, compiled: the same record and the same states as the long way."""

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durastream.engine.errors import StreamQuarantined
from durastream.engine.fast_path import FastPath
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.plain_append import RECORD_KIND, encoded_meta
from durastream.engine.records import AppendMeta, Kind, QuarantineMeta, encode
from durastream.protocol.errors import StreamError

A, J = "/a", "/j"


@pytest.fixture
def stores(tmp_path):
    """Two stores that lead the same life; the second one never takes the short way."""
    clock = [1_700_000_000_000]
    opened = [
        FileBackedStreamStore(path=tmp_path / name, clock=lambda: clock[0])
        for name in ("short", "long")
    ]
    opened[1]._engine.operations._plain = lambda *arguments: None
    for store in opened:
        store.create(A, content_type="text/plain")
        store.create(J, content_type="application/json")
    yield *opened, clock
    for store in opened:
        store.close()


def rows(store):
    return {
        stream_id: (row.path, row.state, row.lsn)
        for stream_id, row in store._engine.projection.dirty.items()
    }


@given(st.integers(0, 2**63 - 1))
@example(0)
@example(127)
@example(128)
@example(255)
@example(256)
@example(65535)
@example(65536)
@example(2**32 - 1)
@example(2**32)
def test_metadata_is_what_the_encoder_makes(accessed_at):
    assert encoded_meta(accessed_at) == encode(AppendMeta(accessed_at))


def test_the_kind_is_an_append():
    assert RECORD_KIND == Kind.APPEND


def test_states_rows_and_answers_are_those_of_the_long_way(stores):
    short, long, clock = stores
    for step, (path, data) in enumerate(
        [(A, b"one"), (J, b'{"n": 1}'), (J, b"[1, 2, 3]"), (A, b"x" * 70_000), (J, b' "s" ')]
    ):
        clock[0] += step
        assert short.append(path, data) == long.append(path, data)
    for path in (A, J):
        ours, theirs = (s._engine.catalog.bindings[path].reserved for s in (short, long))
        for name in ("reserved", "visible", "lsn", "logged_at"):
            ours_value, theirs_value = getattr(ours, name), getattr(theirs, name)
            if name in ("reserved", "visible"):
                ours_value, theirs_value = _comparable(ours_value), _comparable(theirs_value)
            assert ours_value == theirs_value, name
        assert bytes(short.read(path)) == bytes(long.read(path))
    assert {i: (p, _comparable(s), n) for i, (p, s, n) in rows(short).items()} == {
        i: (p, _comparable(s), n) for i, (p, s, n) in rows(long).items()
    }


def _comparable(state):
    return {name: getattr(state, name) for name in state.__struct_fields__}


def test_time_set_back_does_not_move_the_last_access_back(stores):
    short, long, clock = stores
    short.append(A, b"x"), long.append(A, b"x")
    clock[0] -= 5000
    short.append(A, b"y"), long.append(A, b"y")
    assert short.get(A).last_accessed_at == long.get(A).last_accessed_at == clock[0] + 5000


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.close_stream(A),
        lambda store: store.delete(A),
        lambda store: store.create("/f", forked_from=A) and store.delete(A),
    ],
)
def test_an_ended_stream_takes_the_long_way(stores, change):
    short, long, _ = stores
    outcomes = []
    for store in (short, long):
        store.append(A, b"x")
        change(store)
        with pytest.raises(StreamError) as refusal:
            store.append(A, b"y")
        outcomes.append((type(refusal.value), str(refusal.value)))
    assert outcomes[0] == outcomes[1]


# -- the front ends' door --------------------------------------------------------------------


@pytest.fixture
def fast(stores):
    return FastPath(stores[0]._engine)


def durable(store, found):
    lsn, tail = found
    store._engine.wait_durable(lsn)
    return tail


BODIES = [
    b"1", b"-0.5e7", b'"text"', b'{"a": [1, {"b": null}]}', b"[1,2]", b" [ 1 , 2 ] ", b" 1", b"1 ",
    b"\t{}\r\n", b"[]", b"{", b"nul", b"1 2", b"[1,", b'"\\ud83d"', b'"\xff"', b'"\xc3\xa9"',
    b"\xef\xbb\xbf1", b"[" * 200 + b"]" * 200, b"{" * 3, b"NaN", b'"a\x01b"', b"1,", b",",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_json_is_judged_and_stored_as_by_the_store(stores, fast, body):
    short, long, _ = stores
    found = fast.try_append(J.encode(), b"application/json", body)
    try:
        expected = long.append(J, body)
    except StreamError:
        assert found is None
        return
    if found is not None:
        tail = durable(short, found)
        assert tail == int(expected.offset.rpartition("_")[2])
    else:
        short.append(J, body)
    assert bytes(short.read(J)) == bytes(long.read(J))


@given(body=st.binary(min_size=1, max_size=40) | st.sampled_from(BODIES))
def test_whatever_it_takes_the_store_takes_alike(tmp_path_factory, body):
    # One pair of stores for all examples would be quicker, and one failure would blame another.
    store = _SHARED.open(tmp_path_factory)
    fast = FastPath(store._engine)
    before = len(bytes(store.read(J)))
    found = fast.try_append(J.encode(), b"application/json", body)
    if found is None:
        return
    durable(store, found)
    stored = bytes(store.read(J))[before:]
    store.append(J, body)
    assert bytes(store.read(J))[before + len(stored) :] == stored


class _Shared:
    store = None

    def open(self, factory):
        if self.store is None:
            self.store = FileBackedStreamStore(path=factory.mktemp("shared"))
        elif self.store.get(J) is not None:
            self.store.delete(J)
        self.store.create(J, content_type="application/json")
        return self.store


_SHARED = _Shared()


@pytest.fixture(scope="module", autouse=True)
def close_shared():
    yield
    if _SHARED.store is not None:
        _SHARED.store.close()
        _SHARED.store = None


def test_what_it_does_not_know_it_leaves_alone(stores, fast):
    store = stores[0]
    store.create("/ttl", ttl_seconds=60)
    store.create("/closed", closed=True)
    store.create("/kept", retention_bytes=10)
    store.create("/late", expires_at="2099-01-01T00:00:00Z")
    staged = store._engine.log.staged_lsn
    octets = b"application/octet-stream"
    for path in (b"/none", b"/ttl", b"/closed", b"/kept", b"/late"):
        assert fast.try_append(path, octets, b"x") is None
    assert fast.try_append(b"/a", b"TEXT/plain", b"x") is None  # the same type, but not its bytes
    assert fast.try_append(b"/a", b"text/plai", b"x") is None
    assert store._engine.log.staged_lsn == staged


def test_a_damaged_stream_is_left_to_the_store(stores, fast):
    store = stores[0]
    store.append(A, b"whole")
    entry = store._engine.catalog.bindings[A].reserved
    assert fast.try_append(b"/a", b"text/plain", b"x") is not None
    entry.quarantine = QuarantineMeta(5, "a segment")
    assert fast.try_append(b"/a", b"text/plain", b"x") is None
    assert fast.try_read(b"/a") is None
    with pytest.raises(StreamQuarantined):
        store.append(A, b"x")


def test_a_store_that_may_not_write_leaves_all_to_the_store(stores, fast):
    store = stores[0]
    store._engine.set_disk_full(True)
    assert fast.try_append(b"/a", b"text/plain", b"x") is None
    store._engine.set_disk_full(False)
    assert fast.try_append(b"/a", b"text/plain", b"x") is not None
    store.close()
    assert fast.try_append(b"/a", b"text/plain", b"x") is None


class Listener:
    def __init__(self):
        self.commits, self.failures = 0, []

    def committed(self):
        self.commits += 1

    def failed(self, error):
        self.failures.append(error())


def test_a_front_end_hears_of_commits_and_of_the_end(tmp_path):
    async def main():
        store = FileBackedStreamStore(path=tmp_path)
        store.create(A)
        listener = Listener()
        fast = store.aio.fast_path(listener)
        found = fast.try_append(b"/a", b"application/octet-stream", b"x")
        assert found is not None
        while store._engine.projection.visible_lsn < found[0]:
            await asyncio.sleep(0.001)
        assert listener.commits > 0
        assert bytes(await store.aio.read(A)) == b"x"
        await store.aio.close()
        return listener

    listener = asyncio.run(main())
    assert [type(failure).__name__ for failure in listener.failures] == ["StoreClosed"]
