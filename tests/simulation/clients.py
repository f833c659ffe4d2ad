"""Clients of an open store, each a task: they ask, read, or wait for more, and check what they get.

A request is judged when it is decided and again when it is answered (``witness``); bytes are judged
with every single read. Here is seen to it that nobody is refused without a reason, and that
nobody who waits is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lmdb

from durastream.engine.errors import StorageError, StoreClosed
from durastream.protocol.errors import StreamError

from .disk import PowerLoss
from .front_end import FrontEnd
from .oracle import state_at
from .scheduler import Scheduler, Task
from .witness import CALL, READER, Call, Reader, Violation, Witness
from .workload import Operation, outcome_of

TROUBLE = (StorageError, PowerLoss, OSError, lmdb.Error)


class Clients:
    """Everybody who asks something of one open store.

    Args:
        is_excused: whether there is a reason for an error to come out of the store now.

    Attributes:
        unanswered: what got no answer, and is sent again, in order.
        front_end_count: appends that a front end answered.
    """

    def __init__(
        self,
        store: Any,
        scheduler: Scheduler,
        witness: Witness,
        is_excused: Callable[[Exception], bool],
    ) -> None:
        self.unanswered: list[Operation] = []
        self.front_end_count = 0
        self._store = store
        self._front_end = FrontEnd(store, witness)
        self._scheduler = scheduler
        self._witness = witness
        self._is_excused = is_excused
        self._asking: list[Task] = []
        self._parked: list[tuple[Task, Reader]] = []

    @property
    def asking_count(self) -> int:
        """How many wait for an answer that must come."""
        self._asking = [task for task in self._asking if not task.is_done]
        return len(self._asking)

    @property
    def parked(self) -> list[Task]:
        """Who waits for news that may never come."""
        self._parked = [(task, reader) for task, reader in self._parked if not task.is_done]
        return [task for task, _ in self._parked]

    # -- what they do ----------------------------------------------------------------------

    def request(self, operation: Operation) -> None:
        call = Call(operation)
        self._ask(str(operation), lambda: self._request(call))

    def read(self, path: str, offset: str | None, size: int | None) -> None:
        """Read from an offset to the end."""
        self._ask(f"read {path} {offset}", lambda: self._read(path, offset, size))

    def wait(self, path: str, offset: str, seconds: float) -> None:
        """Wait for more than there is at an offset."""
        reader = Reader()
        name, wait = f"wait {path} {offset}", lambda: self._wait(reader, path, offset, seconds)
        self._parked.append((self._scheduler.spawn(name, wait), reader))

    def _ask(self, name: str, call: Callable[[], None]) -> None:
        self._asking.append(self._scheduler.spawn(name, call))

    def _request(self, call: Call) -> None:
        CALL.set(call)
        operation = call.operation
        try:
            found = outcome_of(lambda: self._call(operation))
        except TROUBLE as error:
            if operation.is_retried:
                self.unanswered.append(operation)
            self._require_reason(str(operation), error)
            return
        if operation.is_request:
            self._witness.check_answer(call, found)

    def _call(self, operation: Operation) -> Any:
        """Some appends come through a front end, which has its own way for what is plain."""
        found = None
        if self._scheduler.rng.random() < 0.7:
            found = self._front_end.append(operation)
        if found is None:
            return operation(self._store)
        self.front_end_count += 1
        return found

    def _read(self, path: str, offset: str | None, size: int | None) -> None:
        while True:
            try:
                result = self._store.read(path, offset, max_bytes=size)
            except TROUBLE as error:
                return self._require_reason(f"read {path}", error)
            except StreamError:
                return None  # the witness has judged whether it is there
            if result.up_to_date:
                return None
            offset = result.next_offset

    def _wait(self, reader: Reader, path: str, offset: str, seconds: float) -> None:
        READER.set(reader)
        now = self._store._engine.monotonic
        end = now() + seconds
        try:
            result = self._store.wait_for_messages(path, offset, int(seconds * 1000))
        except TROUBLE as error:
            return self._require_reason(f"wait {path}", error)
        except StreamError:
            return None
        if result.timed_out and now() < end:
            raise Violation(f"wait {path}: sent away {end - now()} s before its time")
        if not (result.timed_out or result.result.size or result.stream_closed):
            raise Violation(f"wait {path}: woken for nothing: {result}")
        return None

    def _require_reason(self, what: str, error: Exception) -> None:
        if not self._is_excused(error):
            raise Violation(f"{what}: trouble without a reason: {error!r}") from error

    # -- whom they may not forget ------------------------------------------------------------

    def check_parked(self) -> None:
        """Nothing is under way. Who still waits must be at the end of what there is."""
        for task in self.parked:
            assert not task.is_ready
        for task, reader in self._parked:
            shown = reader.shown
            if shown is None:
                raise Violation(f"{task.name}: waits without having looked")
            present = state_at(self._witness.oracle.base, shown.path)
            if present is None or present.created_at != shown.created_at or present.soft_deleted:
                raise Violation(f"{task.name}: not told that its stream has ended")
            if present.tail != shown.tail or present.closed:
                raise Violation(f"{task.name}: not told of {present}, behind {shown}")


def is_told_to_leave(error: Exception) -> bool:
    """Whether an error only says that the store is being closed."""
    return isinstance(error, StoreClosed)
