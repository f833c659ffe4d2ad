"""Where the bytes of each stream are, once it is known what it must hold: segments, or the log.

What is needed and nowhere puts a stream under quarantine, readable up to there. Bytes that only
the log has are noted, to be written into a segment. Values only: nothing here reads or writes a
file.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..protocol.headers import is_json
from ..protocol.state import StreamState
from .needs import Need, follow, need_of
from .repair_segments import Held, Segments
from .repair_states import Final, Loss, States
from .salvage_frames import FoundRecord
from .salvage_log import Missing, SalvagedLog

_FOR_EVER = 1 << 64


class Coverage:
    """Of all streams of a repair."""

    def __init__(self, states: States, segments: Segments, log: SalvagedLog) -> None:
        self._states = states
        self._log = log
        self._gone = [f"segments/{lost.number:020d}.seg" for lost in segments.lost if lost.number]
        self._gone += [
            f"a part of segments/{file.right_name}"
            for file in segments.files
            if file.salvaged is not None and file.salvaged.unknown
        ]

    def cover(self) -> None:
        """Find each stream's bytes in segments and log; quarantine it where they end."""
        logged, inherited = self._logged(), self._inherited()
        for final in self._states.live():
            state = final.state
            assert state is not None
            need = need_of(state, inherited)
            parts = self._states.parts.get(final.stream_id, [])
            end = self._walk(final, need, parts, logged.get(final.stream_id, {}))
            readable = need.end
            if final.quarantine is not None:
                readable = min(readable, max(need.start, final.quarantine.position))
            if end < readable:
                final.quarantine_at(end, self._why(parts, end))
            self._report(final, state)
        for final in self._states.live():
            self._report_inherited(final)

    def close_doubtful(self, missing: list[Missing]) -> int:
        """Quarantine, at their end, all streams that may have lost records; how many.

        Those are not, of which a record behind the last that is missing goes on without a hole.
        """
        upto = max(lost.last or _FOR_EVER for lost in missing)
        proven = {r.scanned.stream_id for r in self._log.records if r.scanned.lsn > upto}
        count = 0
        for final in self._states.live():
            assert final.state is not None
            takes_writes = not (final.state.closed or final.state.soft_deleted)
            if takes_writes and final.quarantine is None and final.stream_id not in proven:
                final.quarantine_at(final.state.tail, "records of unknown streams that are lost")
                count += 1
        return count

    def _inherited(self) -> dict[int, Need]:
        """What forks need of their sources: compaction left out the rest."""
        inherited: dict[int, Need] = {}
        for final in self._states.live():
            assert final.state is not None
            follow(final.state, self._state_of, inherited)
        return inherited

    def _state_of(self, stream_id: int) -> StreamState | None:
        found = self._states.streams.get(stream_id)
        return None if found is None else found.state

    def _logged(self) -> dict[int, dict[int, FoundRecord]]:
        """Records with data that are whole, by stream and position."""
        found: dict[int, dict[int, FoundRecord]] = {}
        for record in self._log.records:
            if record.scanned.data_size and not record.scanned.damaged:
                found.setdefault(record.scanned.stream_id, {})[record.scanned.base] = record
        return found

    def _walk(
        self, final: Final, need: Need, parts: list[Held], logged: dict[int, FoundRecord]
    ) -> int:
        """Where what is needed of a stream ends, or has a hole. Fills ``runs``."""
        at, index = need.start, 0
        while at < need.end:
            while index < len(parts) and parts[index].append_end <= at:
                index += 1
            part = parts[index] if index < len(parts) else None
            if part is not None and part.base <= at:
                at = part.append_end
                continue
            record = logged.get(at)
            size = 0 if record is None else record.scanned.data_size
            if record is None or (part is not None and at + size > part.base):
                break
            if final.runs and _end(final.runs[-1][-1]) == at:
                final.runs[-1].append(record)
            else:
                final.runs.append([record])
            at += size
        if at >= need.end or final.state is None:
            return at
        return _stretch(parts, at, is_json(final.state.content_type))

    def _why(self, parts: list[Held], at: int) -> str:
        for held in parts:
            damage = held.salvaged.damage if held.salvaged is not None else None
            if damage is not None and held.used_end == at:
                return f"segments/{held.file}, {damage}"
        return f"what stood in {' or '.join(self._gone)}" if self._gone else "bytes that are lost"

    def _report_inherited(self, final: Final) -> None:
        """A fork shows what it inherits, up to where a source of it lost bytes by now."""
        fork = final.state
        assert fork is not None
        state, below = fork, fork.base
        while below > fork.earliest and state.source_id in self._states.streams:
            source = self._states.streams[state.source_id]
            if source.state is None:
                return
            at = source.quarantine.position if source.quarantine is not None else below
            if at < below and not source.was_quarantined(at):
                what = f"inherited from stream {source.stream_id}, {source.state.path}"
                self._states.losses.append(Loss(final.stream_id, fork.path, at, below, what))
            state, below = source.state, min(below, source.state.base)

    def _report(self, final: Final, state: StreamState) -> None:
        """Say what is lost by this repair, not what was under quarantine before."""
        quarantine = final.quarantine
        if quarantine is None or quarantine.position >= state.tail:
            return
        if final.was_quarantined(quarantine.position):
            return
        self._states.losses.append(
            Loss(final.stream_id, state.path, quarantine.position, state.tail, quarantine.where)
        )


def _end(record: FoundRecord) -> int:
    return record.scanned.base + record.scanned.data_size


def _stretch(parts: Iterable[Held], at: int, is_json_stream: bool) -> int:
    """Serve what is whole of the append that is damaged: messages, or bytes."""
    for held in parts:
        extent = held.salvaged
        if extent is not None and held.append_end == at < held.end:
            held.used_end = extent.data_end
            if is_json_stream:
                held.used_end = int(extent.ends[-1] >> 1) if len(extent.ends) else held.base
            return held.used_end
    return at
