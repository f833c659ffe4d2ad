"""Any sequence of operations on a store gives the answers of a simple model.

Over every store; a durable one is also closed and opened again in between.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from durastream.engine.options import Limits
from durastream.protocol.errors import InvalidRequest, StreamError
from support.model import BYTES, JSON, Model, Producer, token
from support.stores import ManualClock, StoreKind

# TTLs and steps of the clock are chosen so that no deadline falls on a step: a store that
# counts a restart as part of an access, as one does after a crash, stays within the model.
TTL = 12
STEP = 10

PATHS = ["/a", "/b", "/c", "/d"]
paths = st.sampled_from(PATHS)
ttls = st.sampled_from([None, None, TTL])
types = st.sampled_from([JSON, BYTES])
bodies = st.sampled_from(
    [b"1", b"no JSON", b"[22,333]", b'["x",[],{"k":"v"}]', b"[]", b'[[1,2],"long text"]']
)
seqs = st.sampled_from([None, None, "1", "2", "3", "a"])
producers = st.tuples(st.sampled_from("pq"), st.integers(0, 2), st.integers(0, 3))
maybe_producers = st.none() | producers
rarely = st.sampled_from([False, False, False, True])


class StoreMachine(RuleBasedStateMachine):
    """Do the same to a store and to the model."""

    kind: StoreKind

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock()
        self.model = Model(self.clock.now_ms)
        self.store = self.open()
        self.last_append: tuple[str, bytes, str | None, Producer | None, bool] | None = None

    def open(self) -> Any:
        return self.kind.open(Path(self.folder.name) / "data", self.clock, Limits())

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @initialize()
    def begin_with_something(self) -> None:
        """Most operations on nothing are dull."""
        self.create("/a", JSON, None, b"[1,[2],3]")
        self._append("/a", b'["x",{"k":"v"}]', None, None, False)
        self.create("/b", BYTES, TTL, b"abcdef")
        self._append("/b", b"ghi", "1", ("p", 0, 0), False)

    # -- operations --------------------------------------------------------------------------

    @rule(path=paths, content_type=types, ttl=ttls, data=bodies | st.just(b""))
    def create(self, path: str, content_type: str, ttl: int | None, data: bytes) -> None:
        agree(
            lambda: self.model.create(path, content_type, ttl, data),
            lambda: (
                self.store.create(
                    path, content_type=content_type, ttl_seconds=ttl, initial_data=data
                ).created
            ),
        )

    @rule(data=st.data(), body=bodies, seq=seqs, producer=maybe_producers, close=rarely)
    def append(
        self,
        data: st.DataObject,
        body: bytes,
        seq: str | None,
        producer: Producer | None,
        close: bool,
    ) -> None:
        self._append(self._some_path(data), body, seq, producer, close)

    @precondition(lambda self: self.last_append is not None)
    @rule()
    def append_again(self) -> None:
        """A retry after an answer that was lost."""
        self._append(*self.last_append)

    def _append(
        self, path: str, body: bytes, seq: str | None, producer: Producer | None, close: bool
    ) -> None:
        self.last_append = (path, body, seq, producer, close)
        agree(
            lambda: self.model.append(path, body, seq=seq, producer=producer, close=close),
            lambda: outcome(
                self.store.append(path, body, seq=seq, close=close, **arguments(producer))
            ),
        )

    @rule(data=st.data(), body=bodies, name=st.sampled_from("pq"), close=rarely)
    def append_in_order(self, data: st.DataObject, body: bytes, name: str, close: bool) -> None:
        """The next batch of a producer."""
        path = self._some_path(data)
        stream = self.model.streams.get(path)
        epoch, last = stream.producers.get(name, (0, -1)) if stream is not None else (0, -1)
        self._append(path, body, None, (name, epoch, last + 1), close)

    @precondition(lambda self: sum(s.closed for s in self.model.streams.values()) < 2)
    @rule(path=paths, producer=maybe_producers)
    def close(self, path: str, producer: Producer | None) -> None:
        def close_in_store() -> tuple[str, bool]:
            if producer is None:
                return outcome(self.store.close_stream(path))
            return outcome(self.store.close_stream_with_producer(path, **arguments(producer)))

        agree(lambda: self.model.close(path, producer), close_in_store)

    @rule(data=st.data(), sub_offset=st.integers(0, 3))
    def fork(self, data: st.DataObject, sub_offset: int) -> None:
        source, path = self._some_path(data), data.draw(paths)
        offset = self._some_offset(source, data)
        agree(
            lambda: self.model.fork(path, source, offset, sub_offset),
            lambda: (
                self.store.create(
                    path,
                    forked_from=source,
                    fork_offset=token(offset),
                    fork_sub_offset=sub_offset,
                ).created
            ),
        )

    @rule(path=paths)
    def delete(self, path: str) -> None:
        agree(lambda: self.model.delete(path), lambda: self.store.delete(path))

    @rule(data=st.data(), max_bytes=st.integers(1, 60))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        path = self._some_path(data)
        offset = self._some_offset(path, data)
        agree(
            lambda: self.model.follow(path, offset),
            lambda: read_all(self.store, path, token(offset), max_bytes),
        )

    @rule(path=paths, position=st.integers(0, 40))
    def read_anywhere(self, path: str, position: int) -> None:
        agree(
            lambda: self.model.read(path, position),
            lambda: bytes(self.store.read(path, token(position))),
        )

    @rule()
    def let_time_pass(self) -> None:
        self.clock.advance(STEP)
        self.model.advance(STEP)
        for path in PATHS:
            self.store.has(path)  # expiry is found on access; what forks it frees goes then

    @precondition(lambda self: self.kind.is_durable)
    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    # -- what always holds -------------------------------------------------------------------

    @invariant()
    def the_same_streams_are_there(self) -> None:
        live = sorted(path for path, s in self.model.streams.items() if not s.soft_deleted)
        assert list(self.store.list()) == live
        for path in PATHS:
            self._compare(path)

    def _compare(self, path: str) -> None:
        stream, found = self.model.streams.get(path), self.store.get(path)
        assert (found is None) == (stream is None)
        if stream is None or found is None:
            return
        assert found.soft_deleted == stream.soft_deleted
        assert found.ref_count == stream.forks
        assert found.content_type == stream.content_type
        assert found.current_offset == token(stream.offsets[-1])
        assert found.closed == stream.closed
        assert found.last_seq == stream.last_seq
        assert found.ttl_seconds == stream.ttl_seconds
        if not stream.soft_deleted:
            for name in "pq":
                epoch = stream.producers.get(name, (None, None))[0]
                assert self.store.get_producer_epoch(path, name) == epoch

    def _some_path(self, data: st.DataObject) -> str:
        """Mostly one where something is."""
        return data.draw(st.sampled_from([*self.model.streams, *self.model.streams, *PATHS]))

    def _some_offset(self, path: str, data: st.DataObject) -> int:
        stream = self.model.streams.get(path)
        return data.draw(st.sampled_from(stream.offsets)) if stream is not None else 0


def agree(expected: Callable[[], Any], actual: Callable[[], Any]) -> None:
    """Both give the same value, or the same kind of refusal."""
    assert attempt(actual) == attempt(expected)


def attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except InvalidRequest:
        return InvalidRequest
    except StreamError as error:
        return type(error)


def outcome(result: Any) -> tuple[str, bool]:
    status = result.producer.status if result.producer is not None else "accepted"
    return status, result.stream_closed


def arguments(producer: Producer | None) -> dict[str, Any]:
    if producer is None:
        return {}
    return dict(zip(("producer_id", "producer_epoch", "producer_seq"), producer, strict=True))


def read_all(store: Any, path: str, offset: str, max_bytes: int) -> list[tuple[bytes, str]]:
    """Follow the offsets to the tail, checking every step; each append and its offset."""
    found = []
    while True:
        result = store.read(path, offset, max_bytes=max_bytes)
        assert result.offset == offset
        assert result.size == len(bytes(result))
        assert result.size <= max_bytes or len(result.messages) == 1
        found += [(message.data, message.offset) for message in result.messages]
        if result.up_to_date:
            assert result.closed == store.get(path).closed
            return found
        assert result.size
        offset = result.next_offset


def test_a_store_does_what_the_model_does(kind: StoreKind) -> None:
    machine = type("Machine", (StoreMachine,), {"kind": kind})
    budget = settings(stateful_step_count=40)
    if settings.default.max_examples <= 100:
        budget = settings(budget, max_examples=60)
    run_state_machine_as_test(machine, settings=budget)
