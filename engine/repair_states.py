"""The streams as a repair leaves them: rows, then the log replayed, then what must agree.

What is missing is never papered over: a stream that lost bytes, or may have forgotten what a
producer sent, is put under quarantine, readable up to the loss. Values only: nothing here reads
or writes a file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from msgspec.structs import replace

from .._native.wal_types import ScannedRecord
from ..protocol.state import StreamState
from .log_states import LoggedStream, LogStates
from .records import Kind, QuarantineMeta, Row
from .repair_rows import Known, Producers
from .repair_segments import Held, Segments
from .salvage_frames import FoundRecord
from .salvage_log import SalvagedLog


@dataclass(slots=True)
class Final:
    """A stream as it will be."""

    stream_id: int
    state: StreamState | None  # None: removed
    lsn: int
    quarantine: QuarantineMeta | None
    producers: Producers
    known: Known | None  # as it was before the log
    runs: list[list[FoundRecord]] = field(default_factory=list)  # bytes that only the log has

    @property
    def is_changed(self) -> bool:
        """Whether the newest row that a segment holds is another one."""
        if self.known is None or self.known.raw is None:
            return self.state is not None
        row = self.known.row
        return (
            (self.state, self.quarantine) != (row.state, row.quarantine)
            or self.producers != self.known.stored_producers
            or self.known.is_newer
        )

    def quarantine_at(self, position: int, where: str) -> None:
        """Serve nothing from there on, unless that is so already."""
        if self.quarantine is None or self.quarantine.position > position:
            self.quarantine = QuarantineMeta(position, where)

    def was_quarantined(self, position: int) -> bool:
        """Whether it could not be read beyond there before this repair, either."""
        before = self.known.row.quarantine if self.known is not None else None
        return before is not None and before.position <= position


@dataclass(frozen=True, slots=True)
class Loss:
    """What a stream lost. Positions are the stream's; ``end`` None: nobody can tell."""

    stream_id: int
    path: str | None
    start: int | None  # None: no bytes
    end: int | None
    what: str


class States:
    """Every stream, step by step: ``replay``, ``agree``; then ``repair_coverage``.

    Attributes:
        parts: what segments hold of each stream, in the order of its positions.
        losses: what is lost, as far as it can be told.
        streams: the outcome.
    """

    def __init__(self, known: dict[int, Known], segments: Segments, log: SalvagedLog) -> None:
        self._known = known
        self._log = log
        self.parts = _parts(segments)
        self.losses: list[Loss] = []
        self.streams: dict[int, Final] = {}
        self._raise_tails()

    def _raise_tails(self) -> None:
        """Where the newest row is gone, the extents still tell how long the stream was."""
        for found in self._known.values():
            state = found.row.state
            if found.doubt is None or state is None:
                continue
            ends = [held.end for held in self.parts.get(found.stream_id, ())]
            tail = max([state.tail, *ends])
            quarantine = found.row.quarantine or QuarantineMeta(tail, found.doubt)
            found.row = Row(replace(state, tail=tail), found.row.lsn, quarantine)
            found.is_newer = True
            what = f"{found.doubt}: what its producers sent, and whether it was closed, is unknown"
            self.losses.append(Loss(found.stream_id, state.path, None, None, what))

    @property
    def stream_ids(self) -> set[int]:
        """Of every stream that was ever met."""
        logged = {record.scanned.stream_id for record in self._log.records}
        return {0, *logged, *self._known, *self.parts}

    # -- the log -------------------------------------------------------------------------------

    def replay(self, floor: int) -> None:
        """Apply what the log holds behind LSN ``floor``."""
        states = LogStates(self._row)
        last, strangers, damaged = floor, [], []
        for record in self._log.records:
            scanned = record.scanned
            if scanned.lsn <= floor:
                continue
            last = scanned.lsn
            is_creation = scanned.kind == Kind.CREATE and not scanned.damaged
            if not is_creation and states.stream(scanned.stream_id).state is None:
                strangers.append(scanned)
            elif scanned.damaged:
                damaged.append(scanned)
            for _ in states.apply(scanned):
                pass  # a hole became a quarantine; what else does not fit has no effect
        for stream_id in {*self._known, *states.streams}:
            self._settle(stream_id, states.streams.get(stream_id), last)
        for scanned in damaged:
            self._stretch_over(scanned)
        self._report_strangers(strangers)

    def _row(self, stream_id: int) -> Row | None:
        found = self._known.get(stream_id)
        return None if found is None else found.row

    def _settle(self, stream_id: int, logged: LoggedStream | None, last: int) -> None:
        """A stream as of the last record, whether or not the log names it."""
        known = self._known.get(stream_id)
        if logged is None:
            assert known is not None
            row = known.row
            self.streams[stream_id] = Final(
                stream_id, row.state, row.lsn, row.quarantine, known.producers, known
            )
        elif known is not None or logged.state is not None:
            producers = (known.producers if known is not None else {}) | logged.producers
            self.streams[stream_id] = Final(
                stream_id, logged.state, last, logged.quarantine, producers, known
            )
            if known is not None:
                known.is_newer = True

    def _stretch_over(self, record: ScannedRecord) -> None:
        """The offsets of a damaged record were given out: they are never given out again."""
        final = self.streams.get(record.stream_id)
        if final is None or final.state is None:
            return
        end = record.base + record.data_size
        if end > final.state.tail:
            final.state = replace(final.state, tail=end)
        if not record.data_size:
            kind = Kind(record.kind).name.lower() if record.kind in set(Kind) else "unknown"
            what = f"log record {record.lsn} ({kind}) is damaged"
            self.losses.append(Loss(final.stream_id, final.state.path, None, None, what))

    def _report_strangers(self, strangers: list[ScannedRecord]) -> None:
        spans: dict[int, tuple[int, int]] = {}
        for record in strangers:
            if record.stream_id not in self.streams:
                start, end = spans.get(record.stream_id, (record.base, record.base))
                end = max(end, record.base + record.data_size)
                spans[record.stream_id] = min(start, record.base), end
        for stream_id, parts in self.parts.items():
            if stream_id not in self.streams:
                spans[stream_id] = parts[0].base, max(held.end for held in parts)
        for stream_id, (start, end) in spans.items():
            what = "its row or its creation is lost, and with it its name"
            no_bytes = start == end
            self.losses.append(
                Loss(stream_id, None, None if no_bytes else start, None if no_bytes else end, what)
            )

    # -- what must agree -----------------------------------------------------------------------

    def agree(self) -> None:
        """One stream a path; forks have sources, and sources count their forks."""
        self._one_of_each_path()
        self._end_sources()
        live = {final.stream_id: final for final in self.live()}
        forks = Counter(
            final.state.source_id
            for final in live.values()
            if final.state is not None and final.state.source_id in live
        )
        for final in live.values():
            self._settle_fork(final, live)
        for final in live.values():
            assert final.state is not None
            count = forks[final.stream_id]
            if final.state.ref_count != count:
                final.state = replace(final.state, ref_count=count)

    def live(self) -> list[Final]:
        return [final for final in self.streams.values() if final.state is not None]

    def _one_of_each_path(self) -> None:
        """Of two streams at one path the later one is there: the end of the other is lost."""
        newest: dict[str, Final] = {}
        for final in sorted(self.live(), key=lambda final: final.stream_id):
            assert final.state is not None
            older = newest.get(final.state.path)
            if older is not None:
                older.state = None
                what = "its end is lost, but another stream has its path since"
                self.losses.append(Loss(older.stream_id, final.state.path, None, None, what))
            newest[final.state.path] = final

    def _end_sources(self) -> None:
        """A deleted stream is kept for its forks: where they are lost, it goes with them."""
        while True:
            named = {f.state.source_id for f in self.live() if f.state is not None}
            idle = [
                final
                for final in self.live()
                if final.state is not None
                and final.state.soft_deleted
                and final.stream_id not in named
            ]
            if not idle:
                return
            for final in idle:
                assert final.state is not None
                what = "deleted, and kept for forks that are lost"
                self.losses.append(Loss(final.stream_id, final.state.path, None, None, what))
                final.state = None

    def _settle_fork(self, final: Final, live: dict[int, Final]) -> None:
        """Without its source a fork has no beginning; a source was as long as its forks say."""
        state = final.state
        if state is None or state.source_id is None:
            return
        source = live.get(state.source_id)
        if source is None or source.state is None:
            what = f"its source {state.forked_from} is lost, and with it what it inherited"
            final.quarantine_at(0, what)
            final.state = replace(state, source_id=None)
        elif source.state.tail < state.base:
            end = source.state.tail
            source.quarantine_at(end, f"what its fork {state.path} inherited is lost")
            source.state = replace(source.state, tail=state.base)


def _parts(segments: Segments) -> dict[int, list[Held]]:
    parts: dict[int, list[Held]] = {}
    for file in segments.files:
        for held in file.extents:
            if held.base < held.end:
                parts.setdefault(held.stream_id, []).append(held)
    for found in parts.values():
        found.sort(key=lambda held: (held.base, held.append_end))
    return parts
