"""Puts an open store under a scheduler: what waits, waits for it, and what it changes is a task.

Of the store nothing is replaced but what threads would be blocked in: locks, waits for the
committer, parked readers, workers. Everything else is what production runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from durastream.engine import trouble
from durastream.engine.file_engine import STALL_PATIENCE

from .disk import SimulatedDisk
from .scheduler import (
    ScheduledCondition,
    ScheduledLock,
    ScheduledWaiter,
    ScheduledWorkers,
    Scheduler,
)

Result = TypeVar("Result")

# What looks into LMDB, and may wait for a disk there.
LOOKS = (
    "find", "row", "producer", "rows", "rows_from", "rows_of", "due", "segments", "obsolete",
)  # fmt: skip


def put_under(scheduler: Scheduler, store: Any, disk: SimulatedDisk) -> None:
    """From here on the scheduler says who runs; before, and in no task, all is as it was."""
    engine = store._engine
    lock = ScheduledLock(scheduler)
    engine.lock = engine.catalog._lock = lock
    engine._unused = ScheduledCondition(scheduler, lock)
    engine._commit = lambda lsn: wait_for_committer(scheduler, engine, lsn)
    engine.new_waiter = lambda: ScheduledWaiter(scheduler, disk)
    engine.workers.shutdown()
    engine.workers = ScheduledWorkers(scheduler)
    engine.commit_lock = store._maintenance._flush_lock = ScheduledLock(scheduler)
    store._maintenance.compactor._lock = ScheduledLock(scheduler)
    store._maintenance._reserve._lock = ScheduledLock(scheduler)
    engine.disk.directory_lock = ScheduledLock(scheduler)
    store._closing = ScheduledLock(scheduler, is_reentrant=True)
    for name in LOOKS:
        setattr(engine.metadata, name, paused(scheduler, getattr(engine.metadata, name)))

    def before_call(operation: str) -> None:
        if lock.is_held and operation not in ("close", "size"):
            raise AssertionError(f"{operation} while holding the store's lock")
        scheduler.pause()

    disk.before_call = before_call


def wait_for_committer(scheduler: Scheduler, engine: Any, lsn: int) -> None:
    """As long as a thread would. Raises: StoreFailed, StoreStalled, StoreClosed."""
    log = engine.log
    end = engine.monotonic() + STALL_PATIENCE

    def is_over() -> bool:
        is_stalled = log.stall and engine.monotonic() >= end
        is_told = is_stalled or log.failure is not None or engine.is_released
        return bool(log.durable_lsn >= lsn or is_told)

    if scheduler.current is None:
        while log.commit_step() and log.durable_lsn < lsn:
            pass
    else:
        scheduler.wait_until(is_over)
    if log.durable_lsn < lsn:
        if engine.is_released:
            raise trouble.closed(engine.path)
        raise engine.failed() if log.failure is not None else engine.stalled()


def paused(scheduler: Scheduler, look: Callable[..., Result]) -> Callable[..., Result]:
    def looking(*arguments: Any) -> Result:
        scheduler.pause()
        found = look(*arguments)
        scheduler.pause()
        return found

    return looking
