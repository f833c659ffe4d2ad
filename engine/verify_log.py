"""Verify the log: every frame behind the checkpoint, and that its records continue the rows.

Torn is not damaged: the end of an interrupted write was never acknowledged (docs/format-wal.md,
"Recovery"). It only reads; nothing is cut off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .._native.wal_scan import WalScan
from .._native.wal_types import ScannedRecord
from .._native.wal_walk import WalWalk
from .findings import Findings
from .log_states import LogStates
from .offline import Offline
from .records import QuarantineMeta, Row
from .verify_rows import Rows, verify_references

RowOf = Callable[[int], Row | None]

_KNOWN = re.compile(r"(\d{20}|spare|next|filling)\.wal|torn-.*\.bin|damaged-.*\.bin")


@dataclass(slots=True)
class LogWalk:
    """What was walked, and found on the way."""

    frame_count: int = 0
    record_count: int = 0
    data_size: int = 0  # wire bytes
    last_lsn: int = 0
    file_count: int = 0
    findings: Findings = field(default_factory=Findings)
    states: LogStates | None = None  # None: it could not be walked at all


def walk_log(store: Offline, row: RowOf, *, judge: bool) -> LogWalk:
    """Walk the log, which is bounded: no step of it takes long.

    Args:
        row: the row of a stream as of the checkpoint; see ``LogStates``.
        judge: whether rows that are not there are known not to be.
    """
    log = LogWalk()
    if not store.disk.exists(store.directory.wal):
        log.findings.add("wal-damage", "the log's directory is missing", "wal")
        return log
    try:
        scan = store.scan_log()
    except ValueError as error:
        log.findings.add("checkpoint", f"no place in the log: {error}", "meta.lmdb/data.mdb")
        return log
    log.states = LogStates(row)
    _walk(scan, log.states, log, judge=judge)
    _report_walk(scan.walk, log, in_use=store.in_use)
    for stream in log.states.streams.values():
        if stream.state is not None:
            log.findings.paths[stream.stream_id] = stream.state.path
    _verify_names(store, log.findings)
    return log


def _walk(scan: WalScan, states: LogStates, log: LogWalk, *, judge: bool) -> None:
    findings = log.findings
    for frame in scan:
        log.frame_count += 1
        file = f"wal/{os.path.basename(frame.file)}"
        for record in frame.records:
            log.record_count += 1
            log.data_size += record.data_size
            if record.damaged:
                _report_record(record, file, findings)
            for misfit in states.apply(record):
                if judge:
                    code = "wal-hole" if misfit.is_hole else "wal-contents"
                    findings.add(code, str(misfit), file, record.position, record.stream_id)


def _report_record(record: ScannedRecord, file: str, findings: Findings) -> None:
    what = f"record {record.lsn}, which was acknowledged: body checksum mismatch"
    if record.data_size:
        what += f"; offsets {record.base} to {record.base + record.data_size} are lost"
    findings.add("wal-record", what, file, record.position, record.stream_id)


def _report_walk(walk: WalWalk, log: LogWalk, *, in_use: bool) -> None:
    findings = log.findings
    log.last_lsn, log.file_count = walk.last_lsn, len(walk.chain)
    for damage in walk.damage:
        what = f"{damage.what}; LSN {damage.first_lsn}"
        what += f" to {damage.last_lsn}" if damage.last_lsn else " and all behind it"
        findings.add("wal-damage", f"{what} may be lost", _name(damage.file), damage.position)
    for damage in walk.harmless:
        findings.add("wal-empty-frame", damage.what, _name(damage.file), damage.position)
    if in_use:
        return  # the end is being written, files are being prepared
    for torn in walk.torn:
        what = f"the end of an interrupted write, {torn.size} bytes at most"
        findings.add("wal-torn", what, _name(torn.file), torn.position)
    walked = {sequence for sequence, _, _ in walk.chain}
    for sequence, file in walk.files.items():
        if file.problem is not None and sequence not in walked and not walk.damage:
            findings.add("wal-unneeded", file.problem, _name(file.path), 0)


def _name(path: str) -> str:
    name = os.path.basename(path)
    return f"wal/{name}" if name.endswith(".wal") else name


def verify_log_end(log: LogWalk, rows: Rows, findings: Findings) -> None:
    """References as the log leaves them."""
    if log.states is None:
        return
    named = log.states.streams
    latest = [state for state in rows.states() if state.stream_id not in named]
    latest += [stream.state for stream in named.values() if stream.state is not None]
    verify_references(latest, set(), "at the end of the log", "wal", findings)


def verify_quarantine(rows: Rows, findings: Findings) -> None:
    """Streams that lost bytes earlier are damage, too, if an old one."""
    for stream_id in rows.streams:
        row = rows.row(stream_id)
        if row is not None and row.quarantine is not None:
            _report_quarantine(stream_id, row.quarantine, findings)


def _report_quarantine(stream_id: int, quarantine: QuarantineMeta, findings: Findings) -> None:
    what = f"under quarantine from offset {quarantine.position} on: {quarantine.where}"
    findings.add("quarantine", what, "meta.lmdb/data.mdb", None, stream_id)


def _verify_names(store: Offline, findings: Findings) -> None:
    for name in store.disk.list_directory(store.directory.wal):
        if not _KNOWN.fullmatch(name):
            findings.add("foreign-file", "not a name of the log", f"wal/{name}")
