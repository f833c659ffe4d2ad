"""Where the appends and messages of a fork's source end, asked for without holding the lock.

A step may not read segments, so a question that was not asked before raises ``Cold``: the
answer is found without the lock, kept, and the step runs again. Answers stay true: boundaries
of a stream never change, and a source that goes away meanwhile is refused by the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._native.errors import TailMoved
from .._native.segment import SegmentDamaged
from ..protocol.errors import StreamError
from .catalog import Cold
from .errors import Damaged, StorageError
from .file_engine import FileEngine
from .ranges import RangeReader

Answer = TypeVar("Answer")


class AskedBoundaries:
    """``protocol.fork.Boundaries`` of the stream at ``path``, for one request."""

    def __init__(self, engine: FileEngine, path: str) -> None:
        self._engine = engine
        self._path = path
        self._stream_id: int | None = None
        self._boundaries: dict[int, bool] = {}
        self._message_ends: dict[tuple[int, int], int | None] = {}

    def of(self, stream_id: int) -> AskedBoundaries:
        """For this incarnation; what was answered of another one is forgotten."""
        if stream_id != self._stream_id:
            self._stream_id = stream_id
            self._boundaries.clear()
            self._message_ends.clear()
        return self

    def is_boundary(self, position: int) -> bool:
        return self._known(self._boundaries, position, lambda r: r.is_boundary(position), False)

    def message_end(self, start: int, count: int) -> int | None:
        return self._known(
            self._message_ends, (start, count), lambda r: r.message_end(start, count), None
        )

    def _known(
        self,
        answers: dict[Question, Answer],
        question: Question,
        ask: Callable[[RangeReader], Answer],
        missing: Answer,
    ) -> Answer:
        if question not in answers:

            def load() -> None:
                answers[question] = self._ask(ask, missing)

            raise Cold(load)
        return answers[question]

    def _ask(self, ask: Callable[[RangeReader], Answer], missing: Answer) -> Answer:
        while True:
            try:
                view = self._engine.reserved_view(self._path)
                if view.state.stream_id != self._stream_id:
                    return missing  # re-created meanwhile: the step asks again
                return ask(RangeReader(view, may_wait=True))
            except TailMoved:
                continue
            except SegmentDamaged as damage:
                where = f"{damage.path}, byte {damage.position}"
                raise Damaged(self._path, where) from damage
            except StorageError:
                raise
            except StreamError:
                return missing  # gone meanwhile: the step finds out


Question = TypeVar("Question", int, tuple[int, int])
