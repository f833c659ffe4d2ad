"""Run clients beside each other and record what they asked and were told, and when."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from durastream.engine.store import Store
from histories.checker import Call, check
from histories.faces import HttpFace, ask, ask_aio
from histories.model import StreamsModel
from histories.operations import Head, Operation, Outcome, Read
from histories.workload import Client, Family, by_family
from support.http_client import Disconnected

Clock = Callable[[], float]  # ms
LEAVES_AFTER_MAX = 0.002  # seconds


class FastClock:
    """Unix time in ms that runs ``speed`` times too fast: a TTL of seconds ends in a moment."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._begun = time.monotonic()

    def __call__(self) -> int:
        return int(self.exact())

    def exact(self) -> float:
        return 1.8e12 + (time.monotonic() - self._begun) * 1000 * self._speed


def unix_ms() -> float:
    """Unix time in ms for clients of a server that has its own clock."""
    return time.time_ns() / 1e6


@dataclass
class Recording:
    """A history as it grows. ``wait_ms``: of the clock, how long a wait lasts without news."""

    clock: Clock
    wait_ms: float
    calls: list[Call] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def note(self, client: Client, operation: Operation, at: float, outcome: Outcome) -> None:
        returned = self.clock()
        client.saw(operation, outcome)
        if isinstance(operation, Read) and operation.wait_ms and is_empty(outcome):
            # It looked once more when the time was over: what was there by then must show.
            at = max(at, min(at + self.wait_ms, returned))
        self.calls.append(Call(client.name, operation, at, returned, outcome))

    def note_unanswered(self, client: Client, operation: Operation, at: float) -> None:
        if not isinstance(operation, Read | Head):
            self.calls.append(Call(client.name, operation, at, None))

    def run(self, workers: list[Callable[[], None]]) -> None:
        """Run each in a thread of its own. Raises what one of them raised."""
        threads = [threading.Thread(target=self._guard, args=(work,)) for work in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.errors.append(error)

    def check(self, families: list[Family]) -> int:
        """Returns how many calls there were. Raises: NotLinearizable."""
        for family, calls in by_family(self.calls, families).items():
            check(calls, StreamsModel(has_ttl=family.ttl_ms is not None))
        return len(self.calls)


def is_empty(outcome: Outcome) -> bool:
    return outcome[0] == "read" and outcome[1] == b"" and not outcome[3]


# -- workers -------------------------------------------------------------------------------


def blocking(recording: Recording, store: Store, client: Client, count: int) -> Callable[[], None]:
    """``count`` operations, one after the other, by the thread that calls it."""

    def work() -> None:
        for _ in range(count):
            operation, at = client.next(), recording.clock()
            recording.note(client, operation, at, ask(store, operation))

    return work


def on_a_loop(
    recording: Recording, store: Store, clients: list[Client], count: int
) -> Callable[[], None]:
    """The same by tasks of one event loop."""

    async def work(client: Client) -> None:
        for _ in range(count):
            operation, at = client.next(), recording.clock()
            recording.note(client, operation, at, await ask_aio(store.aio, operation))
            if client.rng.random() < 0.5:
                await asyncio.sleep(0)  # refusals of the memory store never wait

    async def all_of_them() -> None:
        await asyncio.gather(*map(work, clients))

    return lambda: asyncio.run(all_of_them())


def over_http(
    recording: Recording, port: int, client: Client, count: int, *, cut: float = 0.0
) -> Callable[[], None]:
    """The same over a connection, which breaks before the answer with chance ``cut``."""

    def work() -> None:
        face = HttpFace(port)
        for _ in range(count):
            operation, at = client.next(), recording.clock()
            leaves_after = client.rng.random() * LEAVES_AFTER_MAX
            face.leaves_after = leaves_after if client.leaves(cut) else None
            try:
                recording.note(client, operation, at, face.ask(operation))
            except Disconnected:
                recording.note_unanswered(client, operation, at)
        face.client.close()

    return work
