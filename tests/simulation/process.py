"""One life of a store: clients, readers, committer and housekeeping at once, until it ends.

The scheduler changes between them wherever threads could be changed; the witness holds what
they decide, answer and show against the oracle. What happens beside the clients' requests is in
``CHORES``: a new kind of background work belongs there, and nothing else has to be said of it.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from durastream.engine.errors import StoreBusy

from .clients import TROUBLE, Clients, is_told_to_leave
from .disk import SimulatedDisk
from .oracle import Clock, Oracle, last_accesses
from .scheduled import put_under
from .scheduler import Condition, ScheduledThread, Scheduler, Stuck, Task
from .stores import differences, end_expired, observe
from .witness import Violation, Witness
from .workload import PATHS, Operation, Workload, offsets_of, state_of

# By thread: what it does beside all that clients do. Others go on between any two calls of each.
CHORES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "maintenance": {
        "flush": lambda store: store._maintenance.try_flush(),
        "sweep": lambda store: store._maintenance.sweep(),
        "evict": lambda store: store._maintenance._evict(),
        "spare": lambda store: store._maintenance._prepare_spare(),
        "step": lambda store: store._maintenance.step(),
    },
    "compaction": {
        "step": lambda store: store._maintenance.compactor.step(),
        "settle": lambda store: store._maintenance.compactor.settle(),
        "merge all": lambda store: store._maintenance.compactor.settle(everything=True),
    },
    "scrub": {
        "slice": lambda store: store.scrub.step(),
        "round": lambda store: list(iter(store.scrub.step, None)),
    },
}

STALL_RETRY_DELAY = 0.05  # seconds, as the committer has it
STEPS_MAX = 50_000  # in a row without anything new: more is a loop without progress
THREADS = ["maintenance", "maintenance", "maintenance", "compaction", "compaction", "scrub"]
READ_SIZES = [None, None, 1, 1000, 30_000]  # bytes
WAITS = [0, 1, 30, 3600]  # seconds
MOVES = [1, 1000, 30_000, 59_000, 200_000, 20_000_000]  # ms


class Interrupted(Exception):
    """The power is off, the process killed, or the log has failed."""


class Process:
    """An open store and everybody who uses it. ``log`` says what happened last."""

    def __init__(
        self,
        store: Any,
        disk: SimulatedDisk,
        oracle: Oracle,
        clock: Clock,
        workload: Workload,
        seed: int,
        counts: Counter[str],
        log: list[str],
    ) -> None:
        self.store = store
        self.disk = disk
        self.oracle = oracle
        self.rng = random.Random(seed)
        self.scheduler = Scheduler(seed, patience=self.rng.choice([1.2, 3, 10]))
        self._clock = clock
        self._workload = workload
        self._counts = counts
        self._log = log
        self._chores: dict[str, deque[str]] = {name: deque() for name in CHORES}
        self._proves = False
        self._saw_faults = False
        self._is_closing = False  # whoever asks may be told so
        put_under(self.scheduler, store, disk)
        self.witness = Witness(store, oracle, clock)
        self.clients = Clients(store, self.scheduler, self.witness, self._is_excused)
        self._committer = ScheduledThread(self.scheduler, "committer", self._commit)
        store._engine._committer = self._committer
        maintenance = store._maintenance
        maintenance._thread = self._chore_thread("maintenance", maintenance._stop)
        compactor = maintenance.compactor
        compactor._thread = self._chore_thread("compaction", compactor._stop)
        scrubber = store._scrubber
        scrubber._thread = self._chore_thread("scrub", scrubber.scrub.stopping)

    # -- the store's own threads -----------------------------------------------------------

    def _commit(self) -> None:
        """As ``Log.run`` does, until all is durable and proven if the store is closing."""
        log = self.store._engine.log
        while log.failure is None:
            self.scheduler.wait_until(self._is_commit_due)
            is_stalled = log.stall != 0  # then the last frame's proof may be what is tried again
            proves, self._proves = self._proves or self._committer.is_awaited or is_stalled, False
            if log.commit_step(idle=proves):
                continue
            if self._committer.is_awaited:
                return
            if log.stall:
                self.disk.advance(STALL_RETRY_DELAY)
            self.scheduler.rest()

    def _is_commit_due(self) -> bool:
        log = self.store._engine.log
        is_wanted = self._proves or self._committer.is_awaited or log.failure is not None
        return is_wanted or log.stall != 0 or log.staged_lsn > log.durable_lsn

    def _chore_thread(self, name: str, stop: Any) -> ScheduledThread:
        return ScheduledThread(self.scheduler, name, lambda: self._keep_house(name, stop))

    def _keep_house(self, name: str, stop: Any) -> None:
        chores = self._chores[name]
        while True:
            self.scheduler.wait_until(lambda: bool(chores) or stop.is_set())
            if stop.is_set():
                return
            try:
                CHORES[name][chores[0]](self.store)
            except TROUBLE as error:
                if not self._is_excused(error):
                    what = f"{chores[0]}: trouble without a reason"
                    raise Violation(f"{what}: {error!r}") from error
            chores.popleft()

    def _is_excused(self, error: Exception) -> bool:
        if isinstance(error, StoreBusy):
            self._counts["too busy"] += 1
            return True
        if self._is_closing and is_told_to_leave(error):
            return True
        return self.scheduler.is_over or self.disk.crashed or bool(self.disk.met)

    # -- work ------------------------------------------------------------------------------

    def work(self, count: int) -> None:
        """Have ``count`` things asked for, many at a time. Raises: Interrupted, Violation."""
        width = self.rng.choice([1, 2, 4, 8])
        while count or self.clients.asking_count:
            self._check()
            chance = self.rng.random()
            if count and self.clients.asking_count < width and chance < 0.3:
                count -= 1
                self._begin()
            elif chance < 0.32:
                self._begin_chore()
            elif chance < 0.33:
                self._proves = True
            elif chance < 0.335:
                self._move_time()
            elif self.scheduler.has_ready or not count:
                self.scheduler.step()
        self._check()

    def retry(self, operations: list[Operation]) -> None:
        """What got no answer is sent again, by each producer in its order."""
        for operation in operations:
            self._ask(operation)
            self.drive(lambda: not self.clients.asking_count)

    def _begin(self) -> None:
        self.witness.now()
        kind, rng = self.rng.random(), self.rng
        if kind < 0.75:
            operation = self._workload.step(self.oracle.tip)
            if not (operation.is_request or operation.method in ("flush", "sweep")):
                return self._begin_chore()  # not for clients
            self._ask(operation)
            if operation.is_retried and rng.random() < 0.1:
                self._ask(operation)  # a duplicate races it
            return None
        path = rng.choice(PATHS)
        state = state_of(self.oracle.base, path)
        offset = "now" if state is None else rng.choice(offsets_of(self.oracle.base, path))
        self._counts["reads"] += 1
        if kind < 0.9:
            self.clients.read(path, offset, rng.choice(READ_SIZES))
        else:
            offset = rng.choice([offset, "now"])
            self.clients.wait(path, offset, rng.choice(WAITS))
        self._log.append(f"{self.clients.asking_count} in flight: {self.scheduler.tasks[-1].name}")
        return None

    def _ask(self, operation: Operation) -> None:
        self._counts["operations"] += 1
        self._log.append(f"{self.clients.asking_count} in flight: {operation}")
        self.clients.request(operation)

    def _begin_chore(self) -> None:
        thread = self.rng.choice(THREADS)
        if not self._chores[thread]:
            name = self.rng.choice(list(CHORES[thread]))
            self._log.append(f"{self.clients.asking_count} in flight: * {thread}: {name}")
            self._counts[f"{thread}: {name}"] += 1
            self._chores[thread].append(name)

    def _move_time(self) -> None:
        ms = self.rng.choice(MOVES)
        self._clock.advance(ms)
        self.disk.advance(ms / 1000)

    def begin(self, count: int) -> None:
        """Have things asked for that nobody waits for."""
        for _ in range(count):
            self._begin()
            for _ in range(self.rng.randint(0, 10)):
                if self.scheduler.has_ready:
                    self.scheduler.step()
                self._check()

    def finish_chores(self) -> None:
        self.drive(lambda: not any(self._chores.values()))

    def recover(self) -> None:
        """Faults are over. Raises: Violation, if writes are still refused afterwards."""
        self._saw_faults = True
        for thread, name in [("compaction", "settle"), ("maintenance", "flush")]:
            self._chores[thread].append(name)
            self.finish_chores()
        self._chores["maintenance"].extend(["step", "step"])
        self.finish_chores()
        if self.store._engine.disk_is_full:
            raise Violation("the disk is no longer full, and writes are still refused")

    def drive(self, until: Condition, among: list[Task] | None = None) -> None:
        """Let everybody go on until something holds. Raises: Interrupted, Violation."""
        for _ in range(STEPS_MAX):
            self._check()
            if until():
                return
            self.scheduler.step(among)
        raise Stuck(f"no end: {self.scheduler.describe()}")

    def _check(self) -> None:
        if self.witness.violation is not None:
            raise self.witness.violation
        engine = self.store._engine
        if engine.disk.error is not None:
            raise engine.disk.error  # a bug of the simulated disk, or a call where none may be
        for error in self.scheduler.errors:
            if not isinstance(error, TROUBLE) or not self._is_excused(error):
                raise error
        if self.disk.crashed:
            raise Interrupted
        if engine.log.failure is not None and not self._is_closing:
            self._is_closing = True
            self.drive(lambda: not self.clients.asking_count)  # everybody is told
            raise Interrupted

    # -- looking -----------------------------------------------------------------------------

    def compare(self) -> None:
        """Nothing is asked for at present: both stores show the same, accesses included."""
        self._log.append("compare")
        findings = self.store.scrub.state.findings
        if findings and not self._saw_faults:
            raise Violation(f"scrub: {findings[0]}")
        self._counts["comparisons"] += 1
        self._do(self._wait_for_all)
        self.witness.now()
        seen, accesses = self._do(lambda: (observe(self.store), last_accesses_of(self.store)))
        oracle = self.oracle
        if oracle.pending:
            raise Violation(f"all is durable, and not all is visible: {oracle.pending}")
        expected = observe(oracle.base)
        if seen != expected:
            raise Violation(f"shown is something else: {differences(seen, [expected])}")
        if accesses != last_accesses(oracle.base):
            raise Violation(f"accesses are others: {accesses}, not {last_accesses(oracle.base)}")
        parked = self.clients.parked
        self.drive(
            lambda: not any(task.is_ready for task in self.clients.parked),
            [*parked, self._committer.task],
        )
        self.clients.check_parked()

    def _wait_for_all(self) -> None:
        engine = self.store._engine
        end_expired(self.store)
        engine.wait_durable(engine.log.staged_lsn)

    def _do(self, call: Callable[[], Any]) -> Any:
        """Something done by nobody in particular, while all but the committer stand still."""
        found: list[Any] = []
        task = self.scheduler.spawn("observer", lambda: found.append(call()))
        self.drive(lambda: task.is_done, [task, self._committer.task])
        return found[0] if found else None

    # -- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close the store, whoever still wants something. Raises: Interrupted, Violation."""
        self._log.append("close")
        self._is_closing = True
        closer = self.scheduler.spawn("close", self.store.close)
        self.drive(lambda: closer.is_done)
        self.drive(lambda: not self.clients.asking_count and not self.clients.parked)
        log = self.store._engine.log
        if self.oracle.pending and log.failure is None and not log.stall:
            raise Violation(f"closed before all was durable: {self.oracle.pending}")
        self._stop()

    def cut(self) -> None:
        """End it in the midst of everything."""
        self.disk.crashed = True
        self._stop()

    def _stop(self) -> None:
        self._counts["appends by a front end"] += self.clients.front_end_count
        self.witness.is_watching = False
        self.scheduler.end()
        self.disk.before_call = None


def last_accesses_of(store: Any) -> dict[tuple[str, int], int]:
    """Of every stream with a TTL, known by its path and creation: when it was last used."""
    end_expired(store)
    found = [(path, store.get(path)) for path in PATHS]
    return {
        (path, stream.created_at): stream.last_accessed_at
        for path, stream in found
        if stream is not None and not stream.soft_deleted and stream.ttl_seconds is not None
    }
