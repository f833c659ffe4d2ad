"""Appends as a front end has them: decided and logged in one compiled section (``FastPath``).

Nobody can look into that section. So the lock it is given looks at the log before and after: a
record that came meanwhile is the decision, which is noted before anybody else goes on.
"""

from __future__ import annotations

from typing import Any

from durastream.engine.fast_path import FastPath
from durastream.protocol.offset import format_offset
from durastream.protocol.results import AppendResult

from .oracle import state_at
from .witness import Witness
from .workload import Operation


class FrontEnd:
    """A front end of one open store, for any number of clients."""

    def __init__(self, store: Any, witness: Witness) -> None:
        self._store = store
        self._witness = witness
        self._path = FastPath(WatchedEngine(store._engine, witness))

    def append(self, operation: Operation) -> AppendResult | None:
        """Append, and wait until that is durable; None: only the store can decide it.

        Raises: StorageError, PowerLoss.
        """
        engine, data = self._store._engine, operation.arguments.get("data")
        stream = state_at(self._witness.oracle.tip, operation.path)
        is_plain = operation.method == "append" and operation.arguments.keys() <= {"data", "close"}
        if not is_plain or operation.arguments.get("close") or stream is None:
            return None
        if not data or len(data) > self._store.limits.body_size_max:
            return None
        content_type = stream.content_type.encode()
        found = self._path.try_append(operation.path.encode(), content_type, data)
        if found is None:
            return None
        lsn, tail = found
        engine.wait_durable(lsn)
        return AppendResult(format_offset(tail), True, False)


class WatchedEngine:
    """An engine as the fast path needs it, itself the lock that is held meanwhile."""

    def __init__(self, engine: Any, witness: Witness) -> None:
        self.lock = self
        self.projection = engine.projection.watched
        self._engine = engine
        self._witness = witness
        self._staged_lsn = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __enter__(self) -> None:
        self._engine.lock.acquire()
        self._staged_lsn = self._engine.log.staged_lsn

    def __exit__(self, *exception: object) -> None:
        lsn = self._engine.log.staged_lsn
        try:
            if lsn != self._staged_lsn:
                self._witness.note_append(lsn)
        finally:
            self._engine.lock.release()
