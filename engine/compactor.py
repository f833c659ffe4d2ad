"""Keep the bounds on segments: choose what to merge, and merge it step by step.

In production a thread runs it, at leisure, since the log's syncs wait for its own; it makes haste
when segments gather. While a large merge is under way, others of newer segments go first, so that
the number of segments stays bounded: what runs is a stack. A simulator calls ``step``.
What cannot be read stays where it is, is said once, and the stream hit is quarantined (I6); after
any other trouble the merge is tried again later. Nothing acknowledged ever depends on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import lmdb

from .._native.segment import Segment, SegmentDamaged
from .compaction import Compaction, InputUnusable
from .compaction_policy import Part, choose, choose_to_free
from .errors import Damaged, StorageError
from .file_engine import FileEngine
from .quarantine import quarantine_stream
from .reserve import Reserve, is_disk_full

logger = logging.getLogger("durastream.compaction")

_PERIOD = 0.5  # seconds between looks, while there is nothing to do
_PAUSE_MIN, _PAUSE_MAX = 0.001, 0.1  # seconds
_LEISURE, _HASTE = 8.0, 2.0  # pauses, in times of the step before
_DEPTH_MAX = 4  # merges under way
_RETRY_DELAY_MIN, _RETRY_DELAY_MAX = 1.0, 300.0  # seconds after trouble, doubled each time


class Space(NamedTuple):
    """What segments take on the disk. Sizes are bytes."""

    segment_count: int
    size: int  # of all segments
    dead_size: int  # of those, what nobody needs: an estimate
    pinned_size: int  # of files that were merged away and somebody still reads


class Merging(NamedTuple):
    """A merge under way."""

    compaction: Compaction
    steps: Iterator[None]
    numbers: frozenset[int]  # of its inputs


class Compactor:
    """The compaction of one engine."""

    def __init__(self, engine: FileEngine, reserve: Reserve) -> None:
        self._engine = engine
        self._reserve = reserve
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="durastream-compaction", daemon=True)
        self._lock = threading.Lock()  # of whoever works at it
        self._running: list[Merging] = []  # the last one goes on
        self._reserved: set[int] = set()
        self._excess = 0  # segments more than are allowed, as of the last look
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
        return bool(self._running)

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
                more = self.step()
                pause = self._pause(time.monotonic() - started) if more else _PERIOD
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
            inputs = self._choose()
            if inputs:
                self._begin(inputs)
            return self._advance() if self._running else False

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
            time.sleep(self._pause(time.monotonic() - started))
        return more

    def _pause(self, took: float) -> float:
        """Seconds to leave the disk to the log after a step."""
        options, times = self._engine.options, _LEISURE
        if self._excess > 2 or len(self._running) > 1 or self._is_in_trouble:
            times = _HASTE if self._excess <= options.segment_count_max else 0.0
        return max(_PAUSE_MIN, min(times * took, _PAUSE_MAX))

    def _begin_all(self) -> bool:
        """False as long as another merge is under way."""
        with self._lock:
            if self._running:
                return False
            if self._engine.segments and self._may_work():
                self._begin(self._engine.segments[::-1])
            return True

    def _may_work(self) -> bool:
        engine = self._engine
        engine.reaper.reap()
        if engine.read_only or engine.log.failure is not None or not engine.is_usable:
            self._abandon()
            return False
        return True

    def _begin(self, inputs: Sequence[Segment]) -> None:
        """Start to merge these neighbours, the oldest first."""
        compaction = Compaction(self._engine, inputs, self._reserved)
        numbers = frozenset(segment.number for segment in inputs)
        self._running.append(Merging(compaction, compaction.steps(), numbers))

    def _advance(self) -> bool:
        try:
            next(self._running[-1].steps)
        except StopIteration:
            self._running.pop()
            self._end_trouble()
        except InputUnusable as unusable:
            self._abandon_last()
            self._leave(unusable)
        except (OSError, lmdb.Error, SegmentDamaged, Damaged) as error:
            self._abandon_last()
            if not self._has_made_room(error):
                self._begin_trouble(error)
                raise
        except BaseException:
            self._abandon_last()
            raise
        return True

    def _abandon(self) -> None:
        while self._running:
            self._abandon_last()

    def _abandon_last(self) -> None:
        self._running.pop().compaction.abandon()
        self._reserve.take_back()

    # -- what to do --------------------------------------------------------------------------

    def _choose(self) -> list[Segment]:
        """Neighbours to merge now, beside what is under way; none if that is enough."""
        engine, options = self._engine, self._engine.options
        groups = self._groups()
        parts = [self._part(group) for group in groups]
        self._excess = len(parts) - options.segment_count_max
        run = None
        if not self._running and (engine.disk_is_full or self._is_in_trouble):
            run = choose_to_free(parts, options.reserve_size)
        if run is None and len(self._running) < _DEPTH_MAX:
            dead_share_max = 1.0 if self._running else options.dead_share_max
            run = choose(parts, options.segment_count_max, dead_share_max)
        return [] if run is None else [group[0] for group in groups[run.start : run.stop]]

    def _groups(self) -> list[list[Segment]]:
        """All segments, the oldest first; what is being merged into one counts as one."""
        groups: list[list[Segment]] = []
        merged = {number: merging for merging in self._running for number in merging.numbers}
        last = None
        for segment in reversed(self._engine.segments):
            merging = merged.get(segment.number)
            if merging is not None and merging is last:
                groups[-1].append(segment)
            else:
                groups.append([segment])
            last = merging
        return groups

    def _part(self, group: list[Segment]) -> Part:
        listed = self._engine.listed
        entries = [listed[segment.number] for segment in group]
        busy = any(
            entry.number in merging.numbers for merging in self._running for entry in entries
        )
        return Part(
            sum(entry.size for entry in entries),
            sum(entry.dead_size for entry in entries),
            not busy and self._is_usable(entries[0].number),
        )

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
        parts = [self._part(group) for group in self._groups()]
        if choose_to_free(parts, self._engine.options.reserve_size) is None:
            return False
        self._is_in_trouble = True  # so that this one is chosen
        return self._reserve.lend()

    def _begin_trouble(self, error: Exception) -> None:
        if self._retry_delay == _RETRY_DELAY_MIN:
            logger.error("compaction failed and is tried again: %s", error)
        self._is_in_trouble = True
        self._retry_delay = min(2 * self._retry_delay, _RETRY_DELAY_MAX)

    def _end_trouble(self) -> None:
        if self._retry_delay > _RETRY_DELAY_MIN:
            logger.warning("compaction works again")
        self._is_in_trouble = False
        self._retry_delay = _RETRY_DELAY_MIN
        self._reserve.take_back()
