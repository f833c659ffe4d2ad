"""What the log tells its owner: places in it, and what recovery found.

Source: docs/format-wal.md, "Recovery". Values only; nothing here may open a file.
"""

from __future__ import annotations

from typing import NamedTuple


class Checkpoint(NamedTuple):
    """A frame boundary: every record up to ``lsn`` lies before it, every later one behind it."""

    lsn: int
    file_sequence: int
    position: int  # bytes from the start of the file


class Torn(NamedTuple):
    """The end of an interrupted write, never acknowledged: cut off and kept aside."""

    file: str
    position: int  # bytes
    size: int  # bytes kept
    kept_as: str  # path of the file that they are kept in


class Damage(NamedTuple):
    """A place where the log is not what was written."""

    file: str
    position: int  # bytes
    first_lsn: int
    last_lsn: int  # of what may be hit, as far as known; 0 if nobody can tell
    what: str

    def __str__(self) -> str:
        return f"{self.file}, byte {self.position}: {self.what}"


class Recovery(NamedTuple):
    """The outcome of one walk over the log.

    With ``damage`` nothing was changed on disk and the log accepts no records. ``harmless`` are
    damaged frames that carried no record, so that nothing is missing.
    """

    last_lsn: int
    proven_lsn: int  # everything up to it was certainly durable before
    record_count: int  # given to the sink
    torn: list[Torn]
    damage: list[Damage]
    harmless: list[Damage]


class ScannedRecord(NamedTuple):
    """A record as it lies in the log. With ``damaged`` only its header can be believed."""

    lsn: int
    kind: int
    stream_id: int
    base: int  # position in the stream of its first data byte
    data_size: int
    message_count: int
    meta: bytes  # empty if damaged
    position: int  # bytes from the start of the file
    damaged: bool


class ScannedFrame(NamedTuple):
    """A frame of the log, with those of its records that were asked for."""

    file: str
    position: int  # bytes from the start of the file
    first_lsn: int
    watermark: int
    size: int  # bytes of its records
    record_count: int
    records: list[ScannedRecord]
