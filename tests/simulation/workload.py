"""What users of a store do: operations drawn from a seed, the same for the store and its oracle.

Each refers to what the oracle holds by then, and sometimes to what is not there: refusals are
outcomes like any other. An operation can be called, or staged without waiting for the log.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from durastream.engine.arguments import producer_request
from durastream.engine.errors import StorageError
from durastream.engine.memory_store import StreamStore
from durastream.engine.step import Outcome
from durastream.engine.store import Store
from durastream.protocol.errors import StreamError
from durastream.protocol.offset import format_offset
from durastream.protocol.results import Stream
from durastream.protocol.state import ProducerState, StreamState

PATHS = ["/a", "/b", "/c", "/d"]
PRODUCERS = ["p", "q"]

JSON = "application/json"
CREATE_DEFAULTS = dict.fromkeys(
    [
        "content_type",
        "ttl_seconds",
        "expires_at",
        "forked_from",
        "fork_offset",
        "fork_sub_offset",
        "retention_seconds",
        "retention_bytes",
    ]
) | {"closed": False, "initial_data": b""}
APPEND_DEFAULTS = dict.fromkeys(
    ["content_type", "seq", "producer_id", "producer_epoch", "producer_seq"]
) | {"close": False}
# No part of a commit of many.
ALONE = ("flush", "prove", "sweep", "evict", "spare", "step", "compact")


@dataclass(frozen=True)
class Operation:
    """One call of a store's method, or of its housekeeping."""

    method: str
    path: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = {
            name: f"{len(value)} bytes {value[:8]!r}" if isinstance(value, bytes) else value
            for name, value in self.arguments.items()
        }
        return f"{self.method} {self.path} {shown if shown else ''}".strip()

    @property
    def is_request(self) -> bool:
        """Whether it is a client's, and no housekeeping."""
        return self.method not in ALONE

    @property
    def is_retried(self) -> bool:
        """Whether a client that got no answer sends it again."""
        return "producer_id" in self.arguments

    def __call__(self, store: Any) -> Any:
        if self.method not in ALONE:
            return getattr(store, self.method)(self.path, **self.arguments)
        if self.method == "sweep":
            store.sweep()
        elif not isinstance(store, StreamStore):
            self._keep_house(store)
        return None

    def _keep_house(self, store: Any) -> None:
        if self.method == "flush":
            store.flush()
        elif self.method == "prove":
            store._engine.log.commit_step(idle=True)
        elif self.method == "evict":
            store._maintenance._evict()
        elif self.method == "spare":
            store._maintenance._prepare_spare()
        elif self.method == "step":
            store._maintenance.step()
        elif self.method == "compact":
            compactor = store._maintenance.compactor
            compactor._begin_all()
            for _ in range(4):  # part of it: the rest comes between other operations
                compactor.step()

    def stage(self, store: Any) -> Outcome[Any]:
        """Decide and log it, and leave the commit to the caller. Raises: StorageError."""
        engine, arguments = store._engine, self.arguments
        if self.method == "create":
            step = store.create_step(self.path, **(CREATE_DEFAULTS | arguments))
        elif self.method == "append":
            step = store.append_step(self.path, **(APPEND_DEFAULTS | arguments))
        elif self.method == "delete":
            return engine.decide(lambda seen: engine.operations.delete(seen, self.path))
        else:
            producer = producer_request(store.limits, *arguments.values()) if arguments else None
            return engine.decide(lambda seen: engine.operations.close(seen, self.path, producer))
        return engine.decide(step)


def attempt(store: Store, operation: Operation) -> Any:
    """The outcome of an operation; trouble of the medium is raised, a refusal is an outcome."""
    return outcome_of(lambda: operation(store))


def outcome_of(call: Any) -> Any:
    """The same of any call."""
    try:
        result = call()
    except StorageError:
        raise
    except StreamError as refusal:
        return type(refusal).__name__
    return comparable(result)


def comparable(result: Any) -> Any:
    """Without what differs: incarnations; and accesses, which may be later after a crash."""
    if isinstance(result, Stream):
        return replace(result, incarnation=0, last_accessed_at=0)
    return result


def state_of(oracle: StreamStore, path: str) -> StreamState | None:
    """What is at a path, whether or not its time is over."""
    stream = oracle._streams._by_path.get(path)
    return stream.state if stream is not None else None


def offsets_of(oracle: StreamStore, path: str) -> list[str]:
    """Where a reader of the stream there can be."""
    stream = oracle._streams._by_path[path]
    ends = stream.append_ends(0, stream.state.tail)
    return [format_offset(position) for position in (0, *ends)]


class Workload:
    """A seeded sequence of operations."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._count = 0

    def step(self, oracle: StreamStore) -> Operation:
        """The next operation. It looks at the oracle, and leaves no trace in it."""
        self._count += 1
        rng, path = self._rng, self._rng.choice(PATHS)
        found = state_of(oracle, path)
        if (found is None or found.soft_deleted) and rng.random() < 0.8:
            return self._create(oracle, path)
        kinds = [self._append] * 8 + [self._produce] * 8 + [self._create]
        kinds += [self._close, self._delete, self._delete]
        if rng.random() < 0.2:
            return Operation(rng.choice(ALONE))
        return rng.choice(kinds)(oracle, path)

    def _data(self, oracle: StreamStore, path: str) -> bytes:
        found = state_of(oracle, path)
        return self._body(found.content_type if found is not None else None)

    def _body(self, content_type: str | None) -> bytes:
        rng, size = self._rng, self._rng.choice([1, 20, 300, 700, 5000, 20_000])
        body = (b"%d:" % self._count + b"x" * size)[: max(size, 8)]
        if content_type != JSON:
            return body
        return b"[%b]" % b", ".join([b'"%b"' % body[: size // 3 + 8]] * rng.choice([1, 1, 3]))

    # -- each kind -------------------------------------------------------------------------

    def _create(self, oracle: StreamStore, path: str) -> Operation:
        source = self._rng.choice(PATHS)
        if source != path and (state_of(oracle, source) or self._rng.random() < 0.1):
            return Operation("create", path, self._fork(oracle, source))
        rng, arguments = self._rng, dict[str, Any]()
        arguments["content_type"] = rng.choice([None, "text/plain", JSON])
        end = rng.choice(["none", "none", "ttl", "at"])
        if end == "ttl":
            arguments["ttl_seconds"] = rng.choice([60, 1000, 50_000])
        elif end == "at":
            now = oracle._streams._clock() // 1000 + rng.choice([100, 5000])
            arguments["expires_at"] = datetime.fromtimestamp(now, UTC).isoformat()
        if rng.random() < 0.5:
            arguments["initial_data"] = self._body(arguments["content_type"])
        arguments["closed"] = rng.random() < 0.1
        if rng.random() < 0.15:
            arguments["retention_bytes"] = rng.choice([1, 500, 6000])
        if rng.random() < 0.1:
            arguments["retention_seconds"] = rng.choice([1, 100, 3000])
        return Operation("create", path, arguments)

    def _fork(self, oracle: StreamStore, source: str) -> dict[str, Any]:
        rng, arguments = self._rng, dict[str, Any](forked_from=source)
        found = state_of(oracle, source)
        if found is not None and not found.soft_deleted and rng.random() < 0.7:
            arguments["fork_offset"] = rng.choice(offsets_of(oracle, source))
            if rng.random() < 0.5:
                arguments["fork_sub_offset"] = rng.choice([0, 1, 2, 7])
        if rng.random() < 0.3:
            arguments["initial_data"] = self._body(found.content_type if found else None)
        return arguments

    def _append(self, oracle: StreamStore, path: str) -> Operation:
        arguments = {"data": self._data(oracle, path), "close": self._rng.random() < 0.03}
        if self._rng.random() < 0.3:
            number = self._count if self._rng.random() < 0.9 else 1
            arguments["seq"] = f"{number:06d}"
        return Operation("append", path, arguments)

    def _produce(self, oracle: StreamStore, path: str) -> Operation:
        rng, name = self._rng, self._rng.choice(PRODUCERS)
        stream = oracle._streams._by_path.get(path)
        known = stream.producers.get(name) if stream is not None else None
        epoch, seq = self._next(known)
        arguments = {"producer_id": name, "producer_epoch": epoch, "producer_seq": seq}
        if rng.random() < 0.04:
            return Operation("close_stream_with_producer", path, arguments)
        arguments |= {"data": self._data(oracle, path), "close": rng.random() < 0.03}
        return Operation("append", path, arguments)

    def _next(self, known: ProducerState | None) -> tuple[int, int]:
        """Mostly what comes next; also retries, gaps, new epochs and old ones."""
        if known is None:
            return 0, self._rng.choice([0, 0, 0, 0, 3])
        kind = self._rng.random()
        if kind < 0.15:
            return known.epoch, self._rng.randint(0, known.last_seq)
        if kind < 0.2:
            return known.epoch, known.last_seq + 3
        if kind < 0.25:
            return known.epoch + 1, self._rng.choice([0, 0, 1])
        if kind < 0.28:
            return max(0, known.epoch - 1), 0
        return known.epoch, known.last_seq + 1

    def _close(self, oracle: StreamStore, path: str) -> Operation:
        return Operation("close_stream", path)

    def _delete(self, oracle: StreamStore, path: str) -> Operation:
        return Operation("delete", path)
