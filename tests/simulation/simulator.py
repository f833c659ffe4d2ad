"""Histories of a store that crashes again and again, each made of one seed and judged by an oracle.

A history is a row of generations. In each the store is opened, used by many at once
(``process``), and ends: in an orderly way, killed, or with the power off, at any call of the disk
seam, recovery's included; meanwhile calls of the disk may fail. What the store shows then must
be what the oracle says it may. Nothing here may depend on anything but the seed.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import UnknownFormat
from durastream.engine.options import KIB
from durastream.engine.verify import Verification

from .clients import TROUBLE
from .oracle import Clock, Oracle, set_clock
from .process import Interrupted, Process, last_accesses_of
from .stores import LIMITS, OPTIONS, abandon, differences, new_disk, observe, open_store
from .witness import Violation
from .workload import Operation, Workload

OPENINGS_MAX = 8  # crashes and faults in a row while opening; then it is left in peace
ROOMS = [0, 5000, 40_000, 150_000]  # bytes
TIMES_OFF = [1000, 55_000, 200_000, 990_000, 10_000_000]  # ms


class Simulation:
    """One history. ``counts`` says what happened in it, ``log`` what did last."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.options = replace(
            OPTIONS,
            streams_cached_max=self.rng.choice([0, 2, 1000]),
            flush_size=self.rng.choice([64 * KIB, 1024 * KIB]),
            reserve_size=self.rng.choice([0, 64 * KIB]),
            segment_count_max=self.rng.choice([2, 4, 12]),
            dead_share_max=self.rng.choice([0.01, 0.3]),
        )
        self.disk = new_disk(seed)
        self.metadata = folder / f"{seed}.lmdb"
        self.clock = Clock()
        self.workload = Workload(seed)
        self.oracle = Oracle(LIMITS, self.clock.now)
        self.store: Any = None
        self.process: Process | None = None
        self.is_killed = False  # the next end is that of the process, not of the power
        self.unanswered: list[Operation] = []
        self.looked_at = 0  # when all was last read, perhaps only in part
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self.generation = 0

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
            self._verify(is_whole=True)
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{type(error).__name__}: {error}") from error

    def _live(self) -> None:
        self._open_at_last()
        if self.rng.random() < 0.7:  # else what was planned for the opening may still come
            self._plan(0.8)
        process = self.process = Process(
            self.store, self.disk, self.oracle, self.clock, self.workload,
            self.rng.getrandbits(64), self.counts, self.log,
        )  # fmt: skip
        unanswered, self.unanswered = self.unanswered, []
        try:
            process.retry(unanswered)
            for _ in range(self.rng.randint(1, 4)):
                if self.rng.random() < 0.1:
                    self._fill_disk()
                process.work(self.rng.randint(1, 12))
                self._rest()
            self._end()
        except Interrupted:
            self._let_go()

    def _rest(self) -> None:
        """Faults are over for now: everything works again, and shows what it should."""
        process = self.process
        assert process is not None
        self.disk.faults = {}
        if self.disk.capacity is not None and self.rng.random() < 0.5:
            return  # it stays full
        if self.disk.met:
            self.counts["faults survived while open"] += 1
            process.finish_chores()  # whatever they end with has its reason
            self._calm()
            process.recover()
        if self.rng.random() < 0.5:
            process.compare()
        self._plan_faults(0.4)

    # -- what goes wrong -------------------------------------------------------------------

    def _plan(self, chance: float) -> None:
        """Have the power go off, or calls fail, some calls from now."""
        disk, rng = self.disk, self.rng
        disk.crash_at, disk.faults = None, {}
        if rng.random() < chance:
            disk.crash_at = disk.call_count + rng.randint(1, rng.choice([20, 60, 200]))
            self.is_killed = rng.random() < 0.2
        self._plan_faults(chance / 2)

    def _plan_faults(self, chance: float) -> None:
        disk, rng = self.disk, self.rng
        if rng.random() < chance:
            for _ in range(rng.choice([1, 1, 2, 5])):
                call = disk.call_count + rng.randint(1, rng.choice([20, 60, 200]))
                disk.faults[call] = "any"

    def _fill_disk(self) -> None:
        """From now on files can grow by this and no more, until somebody makes room."""
        self.counts["full disks"] += 1
        self.disk.capacity = self.disk.used + self.rng.choice(ROOMS)
        self.log.append(f"{self.disk.room} bytes are free")

    def _calm(self) -> None:
        self._count_faults()
        self.disk.faults, self.disk.met, self.disk.capacity = {}, [], None

    def _count_faults(self) -> None:
        for operation, fault in self.disk.met:
            name = errno.errorcode[fault] if isinstance(fault, int) else fault
            self.counts[f"fault: {operation} {name}"] += 1

    # -- the end -----------------------------------------------------------------------------

    def _end(self) -> None:
        """Close it; or kill it, or lose the power, at a moment of no importance."""
        process = self.process
        assert process is not None
        if self.rng.random() < 0.5:
            process.begin(self.rng.randint(1, 5))
        if self.rng.random() < 0.6:
            self.is_killed = self.rng.random() < 0.2
            raise Interrupted
        process.close()
        self._forget_process()
        self.counts["orderly ends"] += 1
        self._count_faults()
        is_whole = not self.disk.met
        self.disk = self.disk.kill()
        if self.rng.random() < 0.3:
            self._verify(is_whole)
        if self.rng.random() < 0.5:
            self.disk = self.disk.crash()

    def _let_go(self) -> None:
        """The process is gone, and perhaps the power was."""
        if not self.disk.crashed and self.disk.met:
            self.counts["faults that ended the process"] += 1
            self.is_killed = self.rng.random() < 0.5
        self.counts["kills" if self.is_killed else "power losses"] += 1
        if self.process is not None:
            self.process.cut()
        self._forget_process()
        self._count_faults()
        self.disk = self.disk.kill() if self.is_killed else self.disk.crash()
        self.is_killed = False
        if self.rng.random() < 0.3:
            self.clock.advance(self.rng.choice(TIMES_OFF))
        if self.rng.random() < 0.1:
            self._verify(is_whole=False)

    def _forget_process(self) -> None:
        if self.process is not None:
            self.unanswered = self.process.clients.unanswered
        if self.store is not None:
            abandon(self.store)
        self.store = self.process = None

    def _verify(self, is_whole: bool) -> None:
        """`verify` finds no damage; after an orderly end, nothing at all."""
        self.counts["verifications"] += 1
        verification = Verification(Path("/data"), DelegatedDisk(self.disk), self.metadata)
        with suppress(UnknownFormat):  # a crash came before it had a name
            for _ in verification.run():
                pass
        found = verification.report.findings
        harmless = {"segment-leftover"}  # of a merge that the end cut short
        wrong = [
            str(each)
            for each in found
            if each.severity == "damage" or (is_whole and each.code not in harmless)
        ]
        if wrong:
            raise Violation(f"verify: {'; '.join(wrong)}")

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
        self.disk.crash_at = None
        self._open()

    def _open(self) -> None:
        self.counts["openings"] += 1
        self.store = self._guarded(
            lambda: open_store(self.disk, self.metadata, self.clock, self.options)
        )
        if self.store.read_only:
            if not self.disk.met:
                raise Violation(str(self.store._engine.operations.write_refusal))
            raise Interrupted
        self._guarded(self._settle)

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

    def _settle(self) -> None:
        """Find out which of the possibilities the store shows; the others are over."""
        accesses = last_accesses_of(self.store)
        self.looked_at = self.clock.now
        seen = observe(self.store)
        possible = []
        for found in self.oracle.candidates():
            set_clock(found, self.clock.now)
            is_lifted = self.oracle.lift(found, accesses, self.looked_at)
            possible.append(observe(found))
            if is_lifted and possible[-1] == seen:
                engine = self.store._engine
                engine.wait_durable(engine.log.staged_lsn)
                self.oracle.settle_on(found)
                self.counts["settled"] += 1
                return
        remembered = f"accesses {accesses}, of which were durable {self.oracle.accessed}"
        what = f"shown is none of {len(possible)} possibilities: {differences(seen, possible)}"
        raise Violation(f"{what}{remembered}")
