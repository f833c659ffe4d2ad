"""Histories of a store that crashes again and again, each made of one seed and judged by an oracle.

A history is a row of generations. In each the store is opened, worked with through its real entry
points, and ends: in an orderly way, killed, or with the power off, at any call of the disk seam,
recovery's included; meanwhile calls of the disk may fail. The oracle is the store in memory. What
the store shows must be what the oracle shows before or after what was cut short: of a commit of
several operations, after any first part of it. Nothing here may depend on anything but the seed.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import lmdb
from msgspec.structs import replace as changed

from durastream.engine.errors import StorageError
from durastream.engine.memory_store import StreamStore
from durastream.engine.operations import touch_interval_ms
from durastream.engine.options import KIB
from durastream.engine.store import Store
from durastream.protocol.errors import StreamError

from .disk import PowerLoss
from .stores import (
    LIMITS,
    OPTIONS,
    PATHS,
    Clock,
    abandon,
    contents,
    copy_of,
    end_expired,
    new_disk,
    observe,
    open_store,
)
from .workload import ALONE, Operation, Workload, attempt, outcome_of

TROUBLE = (StorageError, PowerLoss, OSError, lmdb.Error)
Accesses: TypeAlias = dict[tuple[str, int], int]
OPENINGS_MAX = 8  # crashes and faults in a row while opening; then it is left in peace


class Violation(AssertionError):
    """The store broke a promise."""


class Interrupted(Exception):
    """The power is off, the process killed, or a call failed."""


class Ledger:
    """What readers were shown, by incarnation and offset: it may never be anything else."""

    def __init__(self) -> None:
        self._shown: dict[tuple[int, str], bytes] = {}

    def note(self, store: Store) -> None:
        for path in PATHS:
            found = store.get(path)
            if found is None or found.soft_deleted:
                continue
            for data, offset in contents(store, path):
                shown = self._shown.setdefault((found.incarnation, offset), data)
                if shown != data:
                    raise Violation(f"{path}: other bytes than a reader was shown before {offset}")


class Simulation:
    """One history. ``counts`` says what happened in it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.options = replace(
            OPTIONS,
            streams_cached_max=self.rng.choice([0, 2, 1000]),
            flush_size=self.rng.choice([64 * KIB, 1024 * KIB]),
            reserve_size=self.rng.choice([0, 64 * KIB]),
        )
        self.disk = new_disk(seed)
        self.metadata = folder / f"{seed}.lmdb"
        self.clock = Clock()
        self.workload = Workload(seed)
        self.candidates = [StreamStore(limits=LIMITS, clock=self.clock)]
        self.store: Any = None
        self.is_killed = False  # the next end is that of the process, not of the power
        self.unanswered: list[Operation] = []
        self.ledger = Ledger()
        self.accessed: dict[tuple[str, int], int] = {}  # the last access that is durable
        self.looked_at = 0  # when all was last read, perhaps only in part
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self.generation = 0

    @property
    def oracle(self) -> StreamStore:
        """What the store shows, as long as nothing is in doubt; else the last possibility."""
        return self.candidates[-1]

    def run(self, generations: int) -> None:
        """Raises: Violation, whatever the store did that it should not."""
        try:
            for self.generation in range(1, generations + 1):
                self.log = [f"generation {self.generation}"]
                self._live()
                self.counts["generations"] += 1
            self._open_in_peace()
            self.store._engine.metadata.verify()
            self.store.close()
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{type(error).__name__}: {error}") from error

    def _live(self) -> None:
        self._open_at_last()
        if self.rng.random() < 0.7:  # else what was planned for the opening may still come
            self._plan(0.8)
        try:
            for operation in self.unanswered:
                self._do(operation)
            self.unanswered = []
            for _ in range(self.rng.randint(3, 25)):
                self._some_step()
            self._end()
        except Interrupted:
            self._after_interruption()

    # -- what goes wrong -------------------------------------------------------------------

    def _plan(self, chance: float) -> None:
        """Have the power go off, or calls fail, some calls from now."""
        disk, rng = self.disk, self.rng
        disk.crash_at, disk.faults = None, {}
        if rng.random() < chance:
            disk.crash_at = disk.call_count + rng.randint(1, rng.choice([20, 60, 200]))
            self.is_killed = rng.random() < 0.2
        if rng.random() < chance / 2:
            for _ in range(rng.choice([1, 1, 2, 5])):
                call = disk.call_count + rng.randint(1, rng.choice([20, 60, 200]))
                disk.faults[call] = "any"

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Call the store. Raises: Interrupted, and Violation for trouble without a reason."""
        try:
            result = call()
        except TROUBLE as error:
            self.log.append(f"  {type(error).__name__}: {error}")
            if self.store is not None and self.store._engine.disk.error is not None:
                raise self.store._engine.disk.error from error  # a bug of the simulated disk
            if self.disk.crashed or self.disk.met:
                raise Interrupted from error
            raise Violation(f"trouble without a reason: {error!r}") from error
        if self.disk.crashed:
            raise Interrupted
        return result

    def _after_interruption(self) -> None:
        """Go on with the same store if it can, else let go of it."""
        if not self.disk.crashed and self._is_usable():
            self._recover_from_fault()
        else:
            self._let_go()

    def _is_usable(self) -> bool:
        engine = self.store._engine if self.store is not None else None
        return engine is not None and engine.log.failure is None and engine.is_usable

    def _recover_from_fault(self) -> None:
        """A call failed, and the log did not: once the fault is over, everything works again."""
        self.counts["faults survived while open"] += 1
        self._calm()
        self.store._maintenance._prepare_spare()
        self.store._maintenance.try_flush()
        self._prepare_again()
        engine = self.store._engine
        self._guarded(lambda: engine.wait_durable(engine.log.staged_lsn))
        self._settle()
        for _ in range(3):
            self._some_step()
        self._end()

    def _prepare_again(self) -> None:
        self.store._maintenance._prepare_spare()
        if self.store._engine.disk_is_full:
            raise Violation("the disk is no longer full, and writes are still refused")

    def _calm(self) -> None:
        self._count_faults()
        self.disk.crash_at, self.disk.faults, self.disk.met = None, {}, []

    def _let_go(self) -> None:
        """The process is gone, and perhaps the power was."""
        if self.disk.crashed:
            self.counts["kills" if self.is_killed else "power losses"] += 1
        else:
            self.counts["faults that ended the process"] += 1
            self.is_killed = self.rng.random() < 0.5
            if self.store is not None and self.rng.random() < 0.5:
                with suppress(*TROUBLE):
                    self.store.close()
        if self.store is not None:
            abandon(self.store)
            self.store = None
        self._count_faults()
        self.disk = self.disk.kill() if self.is_killed else self.disk.crash()
        self.is_killed = False
        if self.rng.random() < 0.3:
            self.clock.advance(self.rng.choice([1000, 55_000, 200_000, 990_000, 10_000_000]))

    def _count_faults(self) -> None:
        for operation, fault in self.disk.met:
            name = errno.errorcode[fault] if isinstance(fault, int) else fault
            self.counts[f"fault: {operation} {name}"] += 1

    # -- open ------------------------------------------------------------------------------

    def _open_at_last(self) -> None:
        for _ in range(OPENINGS_MAX):
            self._plan(0.7)
            try:
                self._open()
                return
            except Interrupted:
                self.counts["interrupted openings"] += 1
                self._let_go()
        self._open_in_peace()

    def _open_in_peace(self) -> None:
        self._calm()
        self._open()

    def _open(self) -> None:
        self.counts["openings"] += 1
        self.store = None
        self.store = self._guarded(
            lambda: open_store(self.disk, self.metadata, self.clock, self.options)
        )
        if self.store.read_only:
            if not self.disk.met:
                raise Violation(str(self.store._engine.operations.write_refusal))
            raise Interrupted
        self._settle()

    def _settle(self) -> None:
        """Find out which of the candidates the store shows; the others are over."""
        accesses = self._guarded(lambda: last_accesses(self.store))
        seen = self._look()
        for candidate in reversed(self.candidates):
            found = copy_of(candidate)
            if self._lift(found, accesses) and observe(found) == seen:
                self.candidates = [found]
                self._commit_accesses()
                return
        shown = [observe(copy_of(candidate)) for candidate in self.candidates]
        remembered = f"accesses {accesses}, of which were durable {self.accessed}"
        raise Violation(
            f"shown is none of {len(shown)} possibilities: {differences(seen, shown)}{remembered}"
        )

    def _look(self) -> dict[str, Any]:
        """See everything, and hold it against what was seen before."""
        self.looked_at = self.clock.now
        self.counts["looks"] += 1
        seen: dict[str, Any] = self._guarded(lambda: observe(self.store))
        self._guarded(lambda: self.ledger.note(self.store))
        return seen

    def _lift(self, oracle: StreamStore, accesses: Accesses) -> bool:
        """Take over accesses that a crash made later, or forgot before they were durable."""
        for path, stream in oracle._streams._by_path.items():
            state = stream.state
            if state.soft_deleted or state.ttl_seconds is None:
                continue
            earliest = self.accessed.get((path, state.created_at), state.created_at)
            latest = max(state.last_accessed_at, self.looked_at)
            latest += touch_interval_ms(state.ttl_seconds)
            accessed_at = accesses.get((path, state.created_at), earliest)
            if not earliest <= accessed_at <= latest:
                return False
            stream.state = changed(state, last_accessed_at=accessed_at)
        return True

    def _commit_accesses(self) -> None:
        """The committer never rests for long: what it has committed must be remembered."""
        engine = self.store._engine
        self._guarded(lambda: engine.wait_durable(engine.log.staged_lsn))
        self.accessed = last_accesses(self.oracle)

    # -- work ------------------------------------------------------------------------------

    def _some_step(self) -> None:
        kind = self.rng.random()
        if kind < 0.03:
            self.clock.advance(self.rng.choice([1000, 30_000, 59_000, 200_000, 20_000_000]))
        elif kind < 0.15:
            self._compare()
        elif kind < 0.35:
            self._do_many()
        else:
            self._do(self.workload.step(copy_of(self.oracle)))

    def _tick(self) -> None:
        self.clock.advance(1)
        ended = copy_of(self.oracle)
        end_expired(ended)
        self._guarded(lambda: end_expired(self.store))
        self.candidates = [ended]

    def _do(self, operation: Operation) -> None:
        """One operation, answered or cut short."""
        self._tick()
        self.log.append(str(operation))
        self.counts["operations"] += 1
        before = copy_of(self.oracle)
        expected = attempt(self.oracle, operation)
        self.candidates = [before, self.oracle]
        self.unanswered = [operation] if operation.is_retried else []
        found = self._guarded(lambda: attempt(self.store, operation))
        self.unanswered = []
        if found != expected:
            raise Violation(f"{operation}: {found!r} instead of {expected!r}")
        self.candidates = [self.oracle]
        if self.store._engine.log.durable_lsn >= self.store._engine.log.staged_lsn:
            self.accessed = last_accesses(self.oracle)

    def _do_many(self) -> None:
        """Operations that share commits; none is seen by anybody before."""
        self._tick()
        self.counts["commits of many"] += 1
        oracle, outcomes, answers = copy_of(self.oracle), [], []
        for _ in range(self.rng.randint(2, 8)):
            operation = self.workload.step(copy_of(oracle))
            if operation.method in ALONE:
                continue
            self.counts["operations"] += 1
            self.log.append(f"+ {operation}")
            outcomes.append((operation, attempt(oracle, operation)))
            self.candidates.append(copy_of(oracle))
            self.unanswered += [operation] if operation.is_retried else []
            answers.append(self._guarded(lambda op=operation: self._stage(op)))
        self._see_nothing_of_it()
        self.log.append("commit")
        for answer, (operation, expected) in zip(answers, outcomes, strict=True):
            found = self._guarded(lambda a=answer: self._answer(a))
            if found != expected:
                raise Violation(f"{operation}: {found!r} instead of {expected!r}")
        self.unanswered = []
        self.candidates = [self.oracle]

    def _stage(self, operation: Operation) -> Any:
        try:
            staged = operation.stage(self.store)
        except StorageError:
            raise
        except StreamError as refusal:  # before anything was decided
            return type(refusal).__name__
        if isinstance(staged._error, StorageError):  # no room for it, but perhaps for the next
            raise staged._error
        return staged

    def _answer(self, answer: Any) -> Any:
        if isinstance(answer, str):
            return answer
        self.store._engine.wait_durable(answer.lsn)
        return outcome_of(answer.result)

    def _see_nothing_of_it(self) -> None:
        """Readers see what is durable: of streams without a TTL, which reading would prolong."""
        before = self.candidates[0]
        for path in PATHS:
            found = before.get(path)
            if found is None or found.soft_deleted or found.ttl_seconds is not None:
                continue
            seen = self._guarded(lambda p=path: contents(self.store, p))
            if seen != contents(before, path):
                raise Violation(f"{path}: a reader is shown what is not durable")

    def _compare(self) -> None:
        """Nothing is in doubt: both stores show the same, accesses included."""
        self._tick()
        self.log.append("compare")
        seen = self._look()
        expected = observe(self.oracle)
        if seen != expected:
            raise Violation(f"shown is something else: {differences(seen, [expected])}")
        accesses = self._guarded(lambda: last_accesses(self.store))
        if accesses != last_accesses(self.oracle):
            raise Violation(f"accesses are others: {accesses}")
        self._commit_accesses()

    def _end(self) -> None:
        """Close it; or kill it, or lose the power, while nothing is under way."""
        if self.rng.random() < 0.4:
            self.log.append("close")
            self._guarded(self.store.close)
            self.store = None
            self.counts["orderly ends"] += 1
            self._count_faults()
            self.disk = self.disk.kill() if self.rng.random() < 0.5 else self.disk.crash()
        else:
            self.is_killed = self.rng.random() < 0.2
            self.disk.crashed = True
            self._let_go()


def last_accesses(store: Store) -> Accesses:
    """Of every stream with a TTL, known by its path and creation: when it was last used."""
    end_expired(store)
    found = [(path, store.get(path)) for path in PATHS]
    return {
        (path, stream.created_at): stream.last_accessed_at
        for path, stream in found
        if stream is not None and not stream.soft_deleted and stream.ttl_seconds is not None
    }


def differences(seen: dict[str, Any], possible: list[dict[str, Any]]) -> str:
    """What is shown at each path that differs from the last possibility."""
    lines = []
    for number, expected in enumerate(possible):
        for path in sorted(seen.keys() | expected.keys()):
            if seen.get(path) != expected.get(path):
                lines.append(f"\n  {number}: {path}")
                lines.append(f"    shown    {shorten(seen.get(path))}")
                lines.append(f"    expected {shorten(expected.get(path))}")
    return "".join(f"{line}\n" for line in lines)


def shorten(value: Any) -> str:
    text = repr(value)
    while "xxxx" in text:
        text = text.replace("xxxx", "x")
    return text if len(text) < 1500 else text[:700] + " … " + text[-700:]
