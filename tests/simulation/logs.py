"""Small logs on a simulated disk, and what a test wants to know of them."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import Disk
from durastream._native.log import Log
from durastream._native.tail import Tail
from durastream._native.wal_types import Checkpoint, Recovery

from .disk import SimulatedDisk

PAGE = 4096
STORE_ID = bytes(range(16))
DIRECTORY = "wal"
FILE_SIZE = 16 * PAGE
FRAME = struct.Struct("<IHHQQQIIQQQ")
FRAME_FIELDS = (
    *("magic", "version", "flags", "incarnation", "first_lsn", "watermark", "size"),
    *("record_count", "successor_sequence", "successor_incarnation", "checksum"),
)


def new_disk(seed: int = 0) -> SimulatedDisk:
    target = SimulatedDisk(seed)
    target.make_directory(DIRECTORY)
    return target


def small_log(disk: Disk, directory: str = DIRECTORY, **changes: float) -> Log:
    options: dict[str, float] = {
        "file_size": FILE_SIZE,
        "wal_size_max": 1 << 30,
        "slab_size": 2 * PAGE,
        "backlog_size_max": 1 << 30,
        "idle_watermark_delay": 0.02,
    }
    return Log(disk, directory, STORE_ID, **(options | changes))


@dataclass
class Replay:
    """A sink that keeps what it is given, and the tails that it was put into."""

    records: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    damaged: list[tuple[int, int]] = field(default_factory=list)  # (lsn, stream id)
    tails: dict[int, Tail] = field(default_factory=dict)

    def __call__(
        self, lsn: int, kind: int, flags: int, stream_id: int, base: int, meta: bytes,
        data_size: int, damaged: bool,
    ) -> Tail | None:  # fmt: skip
        if damaged:
            self.damaged.append((lsn, stream_id))
            return None
        self.records.append((lsn, kind, stream_id, meta))
        if any(stream_id == hit for _, hit in self.damaged):
            return None  # what follows would not join on
        return self.tails.setdefault(stream_id, Tail(base)) if data_size else None

    @property
    def lsns(self) -> list[int]:
        return [lsn for lsn, *_ in self.records]

    def data(self, stream_id: int) -> bytes:
        tail = self.tails[stream_id]
        return b"".join(tail.read(tail.start, tail.end))


def open_log(
    target: SimulatedDisk, checkpoint: Checkpoint | None = None, **changes: float
) -> tuple[Log, Recovery, Replay]:
    log, replay = small_log(DelegatedDisk(target), **changes), Replay()
    return log, log.recover(checkpoint, replay), replay


class Writer:
    """Appends to streams of one log, as the engine does."""

    def __init__(self, log: Log, tails: dict[int, Tail] | None = None) -> None:
        self.log = log
        self.tails = tails if tails is not None else {}

    def append(self, stream_id: int, data: bytes, sizes: array[int] | None = None) -> int:
        tail = self.tails.setdefault(stream_id, Tail(0))
        return self.log.stage(1, stream_id, tail.end, b"m%d" % stream_id, data, sizes, tail)

    def commit(self, stream_id: int, data: bytes) -> int:
        lsn = self.append(stream_id, data)
        self.log.commit_step()
        return lsn


def wal_path(sequence: int) -> str:
    return f"{DIRECTORY}/{sequence:020d}.wal"


def frame_at(target: SimulatedDisk, sequence: int, position: int) -> dict[str, int]:
    raw = target.files()[wal_path(sequence)][position : position + FRAME.size]
    return dict(zip(FRAME_FIELDS, FRAME.unpack(raw), strict=True))


def flip(target: SimulatedDisk, sequence: int, position: int, bit: int = 1) -> None:
    path = wal_path(sequence)
    byte = target.files()[path][position]
    target.overwrite(path, position, bytes([byte ^ bit]))
