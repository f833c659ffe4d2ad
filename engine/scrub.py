"""Scrub: read again all that is stored, slowly and again and again, to find damage early (I6).

Data that nobody reads rots unseen, until the last good backup is gone. A scrub checks every
segment byte by byte and every row, from the medium where the system lets it. Damage to a stream
puts that stream under quarantine; damage that hides whom it hit makes the store read-only. A
``step`` is short, has no clock of its own and goes through the disk seam, so that a simulator
can drive it; ``Scrubber`` is the thread that paces it. Nothing is repaired here.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from .._native.segment import Segment, SegmentDamaged
from ..protocol.errors import StreamError
from .catalog import Cold
from .entry import Entry
from .errors import ForeignProcess, ReadOnly, StoreClosed
from .file_engine import FileEngine
from .row_check import CheckFailed, RowCheck, check_beside, check_rows

logger = logging.getLogger("durastream.scrub")

_SLICE = 256 * 1024  # bytes read without a pause
_BLOCK = 64 * 1024  # what one checksum covers
_COPIES = ("row", "extent header")  # of what stands elsewhere, too: no reader is hit
_OWN_TROUBLE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # this process has too little
_FINDINGS_KEPT = 100
_FIRST_ROUND = 600.0  # seconds after opening, so that a start is not slowed down


@dataclass(frozen=True, slots=True)
class ScrubFinding:
    """Damage that a scrub met."""

    what: str
    file: str
    position: int | None = None  # bytes from the file's start
    stream_id: int | None = None
    path: str | None = None  # the stream's
    stream_position: int | None = None  # offset in the stream, where it can be told

    def __str__(self) -> str:
        where = self.file if self.position is None else f"{self.file}, byte {self.position}"
        if self.stream_id is None:
            return f"{where}: {self.what}"
        whose = f"stream {self.stream_id}"
        if self.path is not None:
            whose += f", {self.path}"
        if self.stream_position is not None:
            whose += f", from offset {self.stream_position} on"
        return f"{where}: {self.what} ({whose})"


@dataclass(slots=True)
class ScrubState:
    """How far it is. Sizes are bytes, times Unix times in ms, None for never."""

    running: bool = False
    rounds: int = 0  # finished since the store was opened
    started_ms: int | None = None
    finished_ms: int | None = None
    checked_size: int = 0  # of the round under way, or of the last one
    total_size: int = 0
    row_count: int = 0
    finding_count: int = 0  # since the store was opened, each place once
    findings: deque[ScrubFinding] = field(default_factory=lambda: deque(maxlen=_FINDINGS_KEPT))
    rows_unchecked: str | None = None  # why, if the last round could not check the rows


class Scrub:
    """The rounds over one engine, in steps."""

    def __init__(self, engine: FileEngine) -> None:
        self._engine = engine
        self.state = ScrubState()
        self.stopping = threading.Event()
        self._round: Iterator[int] | None = None
        self._known: set[tuple[str, int | None, str]] = set()

    def step(self) -> int | None:
        """Check the next slice; how many bytes were read. None at the end of a round.

        Raises: StoreClosed, ForeignProcess.
        """
        self._engine.require_usable()
        if self._round is None:
            self._begin()
            self._round = self._checks()
        try:
            size = next(self._round, None)
        except BaseException:
            self._round, self.state.running = None, False
            raise
        if size is None:
            self._round = None
            self._finish()
        else:
            self.state.checked_size += size
        return size

    def _begin(self) -> None:
        state = self.state
        state.running, state.started_ms = True, self._engine.now()
        state.checked_size = state.row_count = 0
        state.total_size = sum(segment.size for segment in self._engine.segments)

    def _finish(self) -> None:
        state = self.state
        state.running, state.finished_ms = False, self._engine.now()
        state.rounds += 1
        logger.info(
            "scrub: %d bytes of segments and %d rows checked; %d places damaged since the start",
            state.checked_size, state.row_count, state.finding_count,
        )  # fmt: skip

    def _checks(self) -> Iterator[int]:
        yield from self._check_rows()
        for number in sorted(segment.number for segment in self._engine.segments):
            yield from self._check_segment(number)

    # -- rows ----------------------------------------------------------------------------------

    def _check_rows(self) -> Iterator[int]:
        engine = self._engine
        found: RowCheck | None
        self.state.rows_unchecked = None
        try:
            if engine.has_threads:
                found = check_beside(
                    engine.metadata.directory, engine.options.lmdb_map_size, self.stopping
                )
            else:
                found = check_rows(engine.metadata)  # nothing else runs meanwhile
        except CheckFailed as failure:
            self.state.rows_unchecked = str(failure)
            logger.warning("scrub: the rows could not be checked: %s", failure)
            return
        if found is not None:
            self.state.row_count = found.count
            self._judge_rows(found)
        yield 0

    def _judge_rows(self, found: RowCheck) -> None:
        file = "meta.lmdb/data.mdb"
        for row in found.damaged:
            stream_id = None
            if row.table in ("streams", "producers"):
                stream_id = int.from_bytes(row.key[:8], "big")
            what = f"table {row.table}, row {row.key!r}: checksum mismatch; it is not used any more"
            self._report(ScrubFinding(what, file, stream_id=stream_id))
        for what in found.hidden:
            if self._report(ScrubFinding(what, file)):
                _write_no_more(self._engine, f"{what}, and it cannot be told which are missing")

    # -- segments ------------------------------------------------------------------------------

    def _is_listed(self, number: int) -> bool:
        return any(segment.number == number for segment in self._engine.segments)

    def _check_segment(self, number: int) -> Iterator[int]:
        segment = self._opened(number)
        if segment is None:
            return
        try:
            index = block = done = 0
            while index < segment.extent_count:
                if not self._is_listed(number):
                    return  # merged into others meanwhile
                index, block, size, damage = segment.check(index, block, _SLICE)
                if isinstance(damage, SegmentDamaged):
                    self._judge_damage(segment, index if block else index - 1, damage)
                elif damage is not None:
                    self._report_trouble(number, damage)
                done += size
                yield size
            yield segment.size - done  # header, index and footer, when it was opened
        finally:
            segment.close()

    def _opened(self, number: int) -> Segment | None:
        """The file as it is there now, its header and index checked."""
        engine = self._engine
        if not self._is_listed(number):
            return None
        path = os.fspath(engine.directory.segment(number))
        file = _file(number)
        try:
            return Segment(engine.disk, path, store_id=engine.directory.store_id, number=number)
        except SegmentDamaged as damage:
            finding = ScrubFinding(damage.what, file, damage.position)
        except FileNotFoundError:
            finding = ScrubFinding("the file is missing", file)
        except OSError as error:
            self._report_trouble(number, error)
            return None
        if self._is_listed(number) and self._report(finding):
            _write_no_more(engine, f"{finding}; it may have hit any stream")
        return None

    def _judge_damage(self, segment: Segment, index: int, damage: SegmentDamaged) -> None:
        """``index``: of the extent that is hit."""
        extent = segment.extent(index)
        if not self._is_listed(segment.number):
            return
        entry = self._entry(extent.stream_id)
        path = None if entry is None else entry.origin.path
        position = damage.stream_position
        finding = ScrubFinding(
            damage.what, _file(segment.number), damage.position, extent.stream_id, path, position
        )
        self._report(finding)
        if entry is None or damage.what.startswith(_COPIES) or _is_trimmed(entry, position):
            return
        if position is None:  # its offset index: what lies before the extent stays readable
            position = extent.base
        where = SegmentDamaged(
            damage.path, damage.position, damage.what, extent.stream_id, position
        )
        self._engine.quarantine(entry, where)  # again, if it could not be logged before

    def _report_trouble(self, number: int, error: OSError) -> None:
        """It may pass, so nobody is put under quarantine for it: readers get their own error."""
        if error.errno in _OWN_TROUBLE:
            logger.warning("scrub: segment %d could not be checked: %s", number, error)
        else:
            what = f"cannot be read: {error.strerror} ({error.filename})"
            self._report(ScrubFinding(what, _file(number)))

    def _entry(self, stream_id: int) -> Entry | None:
        engine = self._engine
        while True:
            try:
                entry = engine.attempt(lambda seen: engine.catalog.entry(stream_id)).result()
            except Cold as cold:
                try:
                    engine.load(cold)
                except (StoreClosed, ForeignProcess):
                    raise
                except StreamError:
                    return None
            else:
                return entry if entry.reserved is not None else None

    def _report(self, finding: ScrubFinding) -> bool:
        """Log a finding once; whether it is new."""
        place = (finding.file, finding.position, finding.what)
        if place in self._known:
            return False
        self._known.add(place)
        self.state.finding_count += 1
        self.state.findings.append(finding)
        logger.error("scrub found damage: %s", finding)
        return True


def _write_no_more(engine: FileEngine, why: str) -> None:
    """Damage may have hit any stream: nothing is changed any more, as if opened so (I6)."""
    refusal = ReadOnly(
        f"{engine.path}: {why}; open for reading only; `durastream verify` says what is hit"
    )
    with engine.lock:
        engine.read_only = True
        engine.operations.write_refusal = refusal
    logger.error("%s", refusal)


def _file(number: int) -> str:
    return f"segments/{number:020d}.seg"


def _is_trimmed(entry: Entry, position: int | None) -> bool:
    """Whether nobody can read the damaged block any more."""
    state = entry.reserved
    return state is not None and position is not None and position + _BLOCK <= state.earliest


class Scrubber:
    """The thread: a round each ``scrub_interval``, at ``scrub_rate``, slower on a slow disk."""

    def __init__(self, engine: FileEngine) -> None:
        self._options = engine.options
        self.scrub = Scrub(engine)
        self._thread = threading.Thread(target=self._run, name="durastream-scrub", daemon=True)

    def start(self) -> None:
        if self._options.scrub_rate > 0 and self._options.scrub_interval > 0:
            self._thread.start()

    def stop(self) -> None:
        self.scrub.stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        wait = self.scrub.stopping.wait
        pause = min(_FIRST_ROUND, self._options.scrub_interval)
        with suppress(StoreClosed, ForeignProcess):
            while not wait(pause):
                began = time.monotonic()
                self._run_round()
                pause = max(1.0, began + self._options.scrub_interval - time.monotonic())

    def _run_round(self) -> None:
        """Slices, with pauses at least as long: the log's syncs come first."""
        while not self.scrub.stopping.is_set():
            began = time.monotonic()
            try:
                size = self.scrub.step()
            except (StoreClosed, ForeignProcess):
                raise
            except Exception:
                logger.exception("scrub: this round ends here")
                return
            if size is None:
                return
            took = time.monotonic() - began
            self.scrub.stopping.wait(max(size / self._options.scrub_rate - took, min(took, 1.0)))
