"""One run: open a store, let clients loose on a few streams, check what they recorded."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from durastream import DurableStreamServer
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.memory_store import StreamStore
from durastream.engine.store import Store
from histories.recording import (
    FastClock,
    Recording,
    blocking,
    on_a_loop,
    over_http,
    unix_ms,
)
from histories.workload import Client, Family, families
from support.server_process import ServerProcess
from support.stores import SMALL_LIMITS, SMALL_STORE

CLIENTS = 9
FAMILIES = 6
TTL_MS = 1000
WAIT_MS = 20  # of real time
SPEED = 20.0  # of the clock in this process: a TTL ends in 50 ms
SWITCH_SECONDS = 1e-4  # between threads; the usual 5 ms would let most calls pass unhindered

# Rows come and go, bytes move: what is in memory, and where, changes under every call.
RESTLESS = replace(SMALL_STORE, flush_age=0.05, sweep_interval=0.02, streams_cached_max=4)


@dataclass
class Outcomes:
    """What a run saw: how many calls, of which kinds and outcomes."""

    calls: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, recording: Recording) -> None:
        for call in recording.calls:
            name = type(call.operation).__name__.lower()
            kind = call.outcome[0] if call.returned is not None else "unanswered"
            self.kinds[f"{name}: {kind if isinstance(kind, str) else 'refused'}"] += 1
        self.calls += len(recording.calls)


def run_embedded(kind: str, folder: Path, seed: int, count: int) -> Outcomes:
    """Threads and two event loops on one store; ``count`` operations of each client.

    Raises: NotLinearizable, and whatever a client met that the protocol does not foresee.
    """
    clock = FastClock(SPEED)
    recording = Recording(clock.exact, 0.9 * SPEED * WAIT_MS)
    known = families(FAMILIES, f"{seed}-", TTL_MS)
    clients = [Client(f"c{n}", seed, known, WAIT_MS) for n in range(CLIENTS)]
    with _open(kind, folder, clock) as store:
        workers = [blocking(recording, store, client, count) for client in clients[:3]]
        workers.append(on_a_loop(recording, store, clients[3:6], count))
        workers.append(on_a_loop(recording, store, clients[6:], count))
        return _checked(recording, workers, known)


def run_served(kind: str, folder: Path, seed: int, count: int) -> Outcomes:
    """The same over HTTP, by a server in this process; some clients do not await the answer."""
    clock = FastClock(SPEED)
    recording = Recording(clock.exact, 0.9 * SPEED * WAIT_MS)
    with (
        _open(kind, folder, clock) as store,
        DurableStreamServer(0, store=store, long_poll_timeout=WAIT_MS / 1000) as server,
    ):
        return _run_over_http(recording, server.port, seed, count)


def run_process(folder: Path, seed: int, count: int) -> Outcomes:
    """The same against ``durastream serve``, on the real clock."""
    arguments = ["--long-poll-timeout", str(WAIT_MS / 1000)]
    with ServerProcess(folder / "data", *arguments) as server:
        return _run_over_http(Recording(unix_ms, 0.9 * WAIT_MS), server.port, seed, count)


def _run_over_http(recording: Recording, port: int, seed: int, count: int) -> Outcomes:
    known = families(FAMILIES, f"{seed}-", TTL_MS)
    clients = [Client(f"c{n}", seed, known, WAIT_MS) for n in range(CLIENTS)]
    workers = [over_http(recording, port, client, count, cut=0.03) for client in clients]
    return _checked(recording, workers, known)


def _checked(
    recording: Recording, workers: list[Callable[[], None]], known: list[Family]
) -> Outcomes:
    with _switching_often():
        recording.run(workers)
    recording.check(known)
    outcomes = Outcomes()
    outcomes.add(recording)
    return outcomes


@contextmanager
def _open(kind: str, folder: Path, clock: FastClock) -> Iterator[Store]:
    if kind == "memory":
        store: Store = StreamStore(clock=clock)
    else:
        store = FileBackedStreamStore(
            folder / "data", limits=SMALL_LIMITS, options=RESTLESS, clock=clock
        )
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
