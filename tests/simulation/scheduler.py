"""One seeded scheduler for the threads of a store: exactly one runs, and it says when to change.

Each task is a real thread, so what runs is what production runs. A task may be changed for
another one at every call of the disk seam, every look into LMDB, and before and behind every
holding of a lock (``pause``), and wherever it waits for something (``wait_until``). Which one goes
on is drawn from the seed; nothing else decides it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from .disk import PowerLoss, SimulatedDisk

Result = TypeVar("Result")
Condition = Callable[[], bool]


class Stuck(AssertionError):
    """Nobody can go on, or nobody gets any further."""


class Task:
    """One thread of the simulated process. It runs only while it holds the baton."""

    def __init__(self, scheduler: Scheduler, name: str, call: Callable[[], Any]) -> None:
        self.name = name
        self.ready: Condition | None = None  # what it waits for
        self.is_done = False
        self.error: BaseException | None = None
        self._scheduler = scheduler
        self._call = call
        self._baton = threading.Lock()
        self._baton.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_ready(self) -> bool:
        return self.ready is None or self.ready()

    def resume(self) -> None:
        """Run until it is changed for another one, or ends."""
        self.ready = None
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._baton.release()
        self._scheduler.hub.acquire()
        if self.is_done:
            self._thread.join()

    def park(self, ready: Condition | None) -> None:
        self.ready = ready
        self._scheduler.hub.release()
        self._baton.acquire()

    def _run(self) -> None:
        self._scheduler.by_thread[threading.get_ident()] = self
        try:
            self._call()
        except BaseException as error:
            self.error = error
        finally:
            self.is_done = True
            del self._scheduler.by_thread[threading.get_ident()]
            self._scheduler.hub.release()


class Scheduler:
    """The tasks of one process.

    Args:
        seed: what it draws from.
        patience: how many places to change, on average, a task passes before it is changed.
    """

    def __init__(self, seed: int, patience: float = 3.0) -> None:
        self.rng = random.Random(seed)
        self.tasks: list[Task] = []
        self.by_thread: dict[int, Task] = {}
        self.hub = threading.Lock()
        self.hub.acquire()
        self.is_over = False  # the process is gone: whoever still runs ends
        self.step_count = 0
        self.errors: list[BaseException] = []  # what tasks ended with
        self._chance = 1 / patience

    @property
    def current(self) -> Task | None:
        """The task that calls; None outside of all of them."""
        return self.by_thread.get(threading.get_ident())

    def spawn(self, name: str, call: Callable[[], Any]) -> Task:
        task = Task(self, name, call)
        self.tasks.append(task)
        return task

    # -- for tasks -------------------------------------------------------------------------

    def pause(self) -> None:
        """A place where another task may go on first."""
        task = self.current
        if task is not None and not self.is_over and self.rng.random() < self._chance:
            task.park(None)

    def rest(self) -> None:
        """Let others go on, after an attempt that came to nothing. Raises: PowerLoss."""
        if self.is_over:
            raise PowerLoss("an attempt")
        task = self.current
        if task is not None:
            task.park(None)

    def wait_until(self, condition: Condition) -> None:
        """Go on once ``condition`` holds. Raises: PowerLoss, if the process ended meanwhile."""
        task = self.current
        while not condition():
            if self.is_over:
                raise PowerLoss("a wait")
            if task is None:
                raise Stuck("waited for what nobody does")
            task.park(lambda: self.is_over or condition())

    # -- for whoever drives them -----------------------------------------------------------

    @property
    def has_ready(self) -> bool:
        return any(task.is_ready for task in self.tasks)

    def step(self, among: list[Task] | None = None) -> None:
        """One task goes on, up to a place where it is changed. Raises: Stuck."""
        tasks = self.tasks if among is None else [each for each in among if not each.is_done]
        ready = [task for task in tasks if task.is_ready]
        if not ready:
            raise Stuck(f"nobody can go on: {self.describe()}")
        self.step_count += 1
        self._resume(self.rng.choice(ready))

    def end(self) -> None:
        """End the process: every task runs to its end, and is told that the power is off."""
        self.is_over = True
        while self.tasks:
            self._resume(self.tasks[0])

    def _resume(self, task: Task) -> None:
        task.resume()
        if task.is_done:
            self.tasks.remove(task)
            if task.error is not None:
                self.errors.append(task.error)

    def describe(self) -> str:
        return ", ".join(task.name for task in self.tasks) or "no task"


class ScheduledLock:
    """A lock that tasks wait for by going to sleep; whoever holds it may take it once more."""

    def __init__(self, scheduler: Scheduler, *, is_reentrant: bool = False) -> None:
        self._scheduler = scheduler
        self._is_reentrant = is_reentrant
        self._owner: Task | None = None
        self._depth = 0

    @property
    def is_held(self) -> bool:
        return self._depth > 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler, task = self._scheduler, self._scheduler.current
        if not (self._is_reentrant and self.is_held and self._owner is task):
            scheduler.pause()
            if self.is_held and not blocking:
                scheduler.rest()  # it will be tried again: not before somebody else did something
                return False
            scheduler.wait_until(lambda: not self.is_held)
        self._owner = task
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        self._scheduler.pause()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


class ScheduledCondition:
    """A condition variable over a ``ScheduledLock`` that the caller holds."""

    def __init__(self, scheduler: Scheduler, lock: ScheduledLock) -> None:
        self._scheduler = scheduler
        self._lock = lock

    def wait_for(self, condition: Condition) -> None:
        while not condition():
            self._lock.release()
            self._scheduler.wait_until(condition)
            self._lock.acquire()

    def notify_all(self) -> None:
        """Whoever waits looks by itself."""


class ScheduledWaiter:
    """A parked reader: see ``engine/waiting.py``. Its time is the disk's."""

    def __init__(self, scheduler: Scheduler, disk: SimulatedDisk) -> None:
        self.cancelled = False
        self.is_fired = False
        self._scheduler = scheduler
        self._disk = disk

    def fire(self) -> None:
        self.is_fired = True

    def wait(self, timeout: float) -> None:
        end = self._disk.clock_ns + int(timeout * 1e9)
        self._scheduler.wait_until(lambda: self.is_fired or self._disk.clock_ns >= end)
        self._disk.advance(0.001)  # nobody wakes at once
        self.is_fired = False


class ScheduledThread:
    """What the store knows of one of its threads: it waits for the end of it when it closes."""

    def __init__(self, scheduler: Scheduler, name: str, call: Callable[[], Any]) -> None:
        self.is_awaited = False
        self.task = scheduler.spawn(name, call)
        self._scheduler = scheduler

    def is_alive(self) -> bool:
        return not self.task.is_done

    def join(self) -> None:
        self.is_awaited = True
        self._scheduler.wait_until(lambda: self.task.is_done)


class ScheduledWorkers(Executor):
    """The workers of event loops: each piece of work is a task."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._working = 0
        self._is_shut = False

    def submit(
        self, call: Callable[..., Result], /, *arguments: Any, **named: Any
    ) -> Future[Result]:
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Result] = Future()
        self._working += 1

        def work() -> None:
            try:
                future.set_result(call(*arguments, **named))
            except BaseException as error:
                future.set_exception(error)
            finally:
                self._working -= 1

        self._scheduler.spawn("worker", work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._is_shut = True
        if wait:
            self._scheduler.wait_until(lambda: self._working == 0)
