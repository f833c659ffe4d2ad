"""Keep the bounds on segments: choose what to merge, and merge it step by step.

In production a thread runs ``Compactor.run``, paced as a flush is; a simulator calls ``step``.
What cannot be read stays where it is, is said once, and the stream hit is quarantined (I6); after
any other trouble the merge is tried again later. Nothing acknowledged ever depends on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import lmdb

from .._native.segment import Segment, SegmentDamaged
from .compaction import Compaction, InputUnusable
from .compaction_policy import Part, Run, choose, choose_to_free
from .errors import Damaged, StorageError
from .file_engine import FileEngine
from .quarantine import quarantine_stream
from .reserve import Reserve, is_disk_full

logger = logging.getLogger("durastream.compaction")

_PERIOD = 0.5  # seconds between looks, while there is nothing to do
_PAUSE_MIN, _PAUSE_MAX = 0.001, 0.05  # seconds
_RETRY_DELAY_MIN, _RETRY_DELAY_MAX = 1.0, 300.0  # seconds after trouble, doubled each time


class Space(NamedTuple):
    """What segments take on the disk. Sizes are bytes."""

    segment_count: int
    size: int  # of all segments
    dead_size: int  # of those, what nobody needs: an estimate
    pinned_size: int  # of files that were merged away and somebody still reads


class Compactor:
    """The compaction of one engine."""

    def __init__(self, engine: FileEngine, reserve: Reserve) -> None:
        self._engine = engine
        self._reserve = reserve
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="durastream-compaction", daemon=True)
        self._lock = threading.Lock()  # of whoever works at it
        self._compaction: Compaction | None = None
        self._steps: Iterator[None] = iter(())
        self._unusable: dict[int, int | None] = {}  # by segment, the stream that is hit
        self._is_in_trouble = False
        self._retry_delay = _RETRY_DELAY_MIN

    def start(self) -> None:
        self._thread.start()

    @property
    def space(self) -> Space:
        """What segments take now."""
        engine = self._engine
        with engine.lock:
            listed = list(engine.listed.values())
        return Space(
            len(listed),
            sum(entry.size for entry in listed),
            sum(entry.dead_size for entry in listed),
            engine.reaper.pinned_size,
        )

    @property
    def is_working(self) -> bool:
        """Whether a merge is under way."""
        return self._compaction is not None

    def stop(self) -> None:
        """End it, a merge half done included."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._abandon()

    def _run(self) -> None:
        pause = _PERIOD
        while not self._stop.wait(pause):
            started = time.monotonic()
            try:
                pause = _pause(time.monotonic() - started) if self.step() else _PERIOD
            except (OSError, lmdb.Error, StorageError):
                pause = self._retry_delay  # it was said
            except Exception:
                logger.exception("compaction failed; it is tried again")
                pause = _RETRY_DELAY_MAX

    def step(self) -> bool:
        """Do a little; False if there is nothing to do. Raises: OSError, lmdb.Error, Damaged."""
        with self._lock:
            if not self._may_work():
                return False
            if self._compaction is None:
                run = self._choose()
                if run is None:
                    return False
                self._begin(run)
            return self._advance()

    def settle(self, *, everything: bool = False) -> None:
        """Merge until the bounds are kept, paced; first all segments into one, if asked for.

        Raises: OSError, lmdb.Error, Damaged.
        """
        while everything and not self._begin_all():
            self._paced_step()
        while self._paced_step():
            pass

    def _paced_step(self) -> bool:
        started = time.monotonic()
        more = self.step()
        if more and self._engine.has_threads:
            time.sleep(_pause(time.monotonic() - started))
        return more

    def _begin_all(self) -> bool:
        """False as long as another merge is under way."""
        with self._lock:
            if self._compaction is not None:
                return False
            count = len(self._engine.segments)
            if count and self._may_work():
                self._begin(Run(0, count))
            return True

    def _may_work(self) -> bool:
        engine = self._engine
        engine.reaper.reap()
        if engine.read_only or engine.log.failure is not None or not engine.is_usable:
            self._abandon()
            return False
        return True

    def _begin(self, run: Run) -> None:
        """Start to merge these segments, counted from the oldest."""
        oldest_first = self._engine.segments[::-1]
        self._compaction = Compaction(self._engine, oldest_first[run.start : run.stop])
        self._steps = self._compaction.steps()

    def _advance(self) -> bool:
        try:
            next(self._steps)
        except StopIteration:
            self._compaction = None
            self._end_trouble()
        except InputUnusable as unusable:
            self._abandon()
            self._leave(unusable)
        except (OSError, lmdb.Error, SegmentDamaged, Damaged) as error:
            self._abandon()
            if not self._has_made_room(error):
                self._begin_trouble(error)
                raise
        except BaseException:
            self._abandon()
            raise
        return True

    def _abandon(self) -> None:
        if self._compaction is not None:
            self._steps = iter(())
            self._compaction.abandon()
            self._compaction = None

    # -- what to do --------------------------------------------------------------------------

    def _choose(self) -> Run | None:
        engine, options = self._engine, self._engine.options
        parts = self._parts()
        if engine.disk_is_full or self._is_in_trouble:
            freeing = choose_to_free(parts, options.reserve_size)
            if freeing is not None:
                return freeing
        return choose(parts, options.segment_count_max, options.dead_share_max)

    def _parts(self) -> list[Part]:
        return [self._part(segment) for segment in reversed(self._engine.segments)]

    def _part(self, segment: Segment) -> Part:
        entry = self._engine.listed[segment.number]
        return Part(entry.size, entry.dead_size, self._is_usable(segment.number))

    def _is_usable(self, number: int) -> bool:
        """Whether an input was not found damaged, or the stream that was hit is gone."""
        if number not in self._unusable:
            return True
        stream_id = self._unusable[number]
        if stream_id is None or self._engine.metadata.row(stream_id) is not None:
            return False
        del self._unusable[number]
        return True

    # -- trouble -----------------------------------------------------------------------------

    def _leave(self, unusable: InputUnusable) -> None:
        """An input stays as it is; the stream that is hit is closed for writes."""
        cause = unusable.cause
        stream_id = cause.stream_id if isinstance(cause, SegmentDamaged) else None
        self._unusable[unusable.number] = stream_id
        logger.error("segment %d cannot be merged and stays: %s", unusable.number, cause)
        if isinstance(cause, SegmentDamaged) and stream_id is not None:
            with suppress(StorageError):
                quarantine_stream(self._engine, stream_id, cause)

    def _has_made_room(self, error: Exception) -> bool:
        """Give up the reserve for a merge that frees space. Whether to try once more."""
        if not is_disk_full(error):
            return False
        if choose_to_free(self._parts(), self._engine.options.reserve_size) is None:
            return False
        self._is_in_trouble = True  # so that this one is chosen
        return self._reserve.lend()

    def _begin_trouble(self, error: Exception) -> None:
        if self._retry_delay == _RETRY_DELAY_MIN:
            logger.error("compaction failed and is tried again: %s", error)
        self._is_in_trouble = True
        self._reserve.take_back()
        self._retry_delay = min(2 * self._retry_delay, _RETRY_DELAY_MAX)

    def _end_trouble(self) -> None:
        if self._retry_delay > _RETRY_DELAY_MIN:
            logger.warning("compaction works again")
        self._is_in_trouble = False
        self._retry_delay = _RETRY_DELAY_MIN
        self._reserve.take_back()


def _pause(took: float) -> float:
    """As long as the step took: the log's syncs come first."""
    return max(_PAUSE_MIN, min(took, _PAUSE_MAX))
