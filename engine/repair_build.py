"""Write what takes the place of damaged parts: segments, rows and a log, each new and synced.

A damaged segment is written again with what of it is whole, under its own number. One more
segment holds what only the log held, and each row that is not as the segments say; then nothing
depends on the old log, and a fresh one begins behind every LSN that was ever seen. All of it
stands in the folder of the exchange until that is certain.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .._native.checksum import xxh64
from .._native.disk import Disk
from .._native.segment_writer import SegmentWriter
from .metadata import Checkpoint, Metadata, SegmentEntry, StreamChange
from .options import MIB, FileStoreOptions
from .records import Row, encode, segment_row
from .repair_exchange import Exchange
from .repair_rows import Producers
from .repair_segments import Held, SegmentFile
from .repair_states import Final
from .salvage_frames import FoundRecord
from .wal_py import FILE_HEADER, FILE_MAGIC, PAGE_SIZE, VERSION

LSN_JUMP = 1 << 24  # as recovery does it: more than what may have been cut off
_RECOVERY = 2  # the kind of a file of the log
_BATCH = 20_000  # rows of one transaction
ROWS = "meta.lmdb"


@dataclass(slots=True)
class Numbers:
    """What the store goes on with."""

    after_lsn: int  # up to where the segments that are there reach
    lsn: int  # of the repair: above all that was ever seen
    segment: int  # number of the new segment
    log_sequence: int
    next_stream_id: int

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            self.lsn, self.log_sequence, PAGE_SIZE, self.next_stream_id, self.segment + 1
        )


class Builder:
    """Writes into the folder of an exchange."""

    def __init__(self, disk: Disk, exchange: Exchange, store_id: bytes, numbers: Numbers) -> None:
        self._disk = disk
        self._exchange = exchange
        self._store_id = store_id
        self._numbers = numbers

    # -- segments ------------------------------------------------------------------------------

    def rewrite(self, file: SegmentFile) -> SegmentEntry | None:
        """A damaged segment with what of it is whole; None if that is nothing."""
        kept = [held for held in file.extents if _is_kept(held)]
        if not kept:
            return None
        writer = self._writer(file.number, file.level, file.after_lsn, file.upto_lsn)
        for held in kept:
            assert held.salvaged is not None
            size = held.used_end - held.base
            data = held.salvaged.data[:size]
            writer.add(
                held.stream_id, held.base if size else 0, [data] if size else [],
                _ends_up_to(held), held.salvaged.row or b"",
            )  # fmt: skip
        return SegmentEntry(
            file.number, file.level, file.after_lsn, file.upto_lsn, writer.finish().size
        )

    def add_segment(self, finals: list[Final]) -> SegmentEntry | None:
        """The rows that changed, and the bytes that only the log has."""
        changed = [final for final in finals if final.is_changed or final.runs]
        if not changed:
            return None
        numbers = self._numbers
        writer = self._writer(numbers.segment, 0, numbers.after_lsn, numbers.lsn)
        for final in changed:
            row = segment_row(encoded_row(final), _changed_producers(final))
            if not final.runs:
                writer.add(final.stream_id, 0, [], array("Q"), row)
            for run in final.runs:
                base = run[0].scanned.base
                writer.add(final.stream_id, base, *_run(run, base), row)
                row = b""
        return SegmentEntry(
            numbers.segment, 0, numbers.after_lsn, numbers.lsn, writer.finish().size
        )

    def copy(self, source: Path, name: str) -> None:
        """A whole segment that stood under another name."""
        handle = self._disk.open(source, os.O_RDONLY)
        try:
            with self._exchange.writing(self._exchange.new(name)) as target:
                for position in range(0, self._disk.size(handle), MIB):
                    piece = self._disk.pread(handle, MIB, position)
                    self._disk.pwrite(target, piece, position)
        finally:
            self._disk.close(handle)

    def _writer(self, number: int, level: int, after_lsn: int, upto_lsn: int) -> SegmentWriter:
        _, path = self._exchange.place(self._exchange.new(f"{number:020d}.seg"))
        return SegmentWriter(
            self._disk, os.fspath(path), store_id=self._store_id, number=number, level=level,
            after_lsn=after_lsn, upto_lsn=upto_lsn,
        )  # fmt: skip

    # -- rows ----------------------------------------------------------------------------------

    def write_rows(self, finals: list[Final], entries: list[SegmentEntry]) -> Iterator[int]:
        """LMDB anew, with every stream and segment; yields the number of rows done."""
        disk, folder = self._exchange.place(self._exchange.new(ROWS))
        map_size = FileStoreOptions().lmdb_map_size
        metadata = Metadata(folder, map_size=map_size, store_id=self._store_id)
        checkpoint = self._numbers.checkpoint
        try:
            for entry in entries:
                metadata.commit(checkpoint, [], entry)
            for first in range(0, len(finals), _BATCH):
                batch = finals[first : first + _BATCH]
                metadata.commit(checkpoint, [_change(final) for final in batch])
                yield len(batch)
            metadata.commit(checkpoint, [])
        finally:
            metadata.close()
        disk.sync_directory(folder)
        disk.sync_directory(folder.parent)

    # -- the log -------------------------------------------------------------------------------

    def write_log(self) -> str:
        """A file of the log with nothing in it, which needs no other; its name."""
        numbers = self._numbers
        first = numbers.lsn + LSN_JUMP + 1
        header = FILE_HEADER.pack(
            FILE_MAGIC, VERSION, _RECOVERY, 0, self._store_id, numbers.log_sequence,
            self._disk.random(), PAGE_SIZE, 0, 0, 0, numbers.lsn, first, numbers.lsn, PAGE_SIZE,
            first, 0,
        )  # fmt: skip
        sealed = header[:-8] + xxh64(header[:-8]).to_bytes(8, "little")
        name = f"{numbers.log_sequence:020d}.wal"
        self._exchange.write(self._exchange.new(name), sealed.ljust(PAGE_SIZE, b"\0"))
        return name


def _is_kept(held: Held) -> bool:
    has_row = held.salvaged is not None and held.salvaged.row is not None
    return has_row or held.used_end > held.base


def _ends_up_to(held: Held) -> array[int]:
    """The ends of what is kept of an extent, whose last byte counts as the end of an append."""
    assert held.salvaged is not None
    ends = array("Q", [end for end in held.salvaged.ends if end >> 1 <= held.used_end])
    if held.used_end == held.base:
        return array("Q")
    if ends and ends[-1] >> 1 == held.used_end:
        ends[-1] |= 1
    else:
        ends.append(held.used_end << 1 | 1)
    return ends


def _run(records: list[FoundRecord], base: int) -> tuple[list[bytes], array[int]]:
    """Wire bytes of records that follow each other, and the ends of their messages."""
    pieces, ends, position = [], array("Q"), base
    for record in records:
        data, sizes = record.data()
        pieces.append(data)
        for number, size in enumerate(sizes, 1):
            position += size
            ends.append(position << 1 | (number == len(sizes)))
    return pieces, ends


def encoded_row(final: Final) -> bytes:
    """The row's bytes: as a segment has them, if nothing of it changed."""
    if not final.is_changed and final.known is not None and final.known.raw is not None:
        return final.known.raw
    return encode(Row(final.state, final.lsn, final.quarantine))


def _changed_producers(final: Final) -> Producers:
    stored = final.known.stored_producers if final.known is not None else {}
    return {name: state for name, state in final.producers.items() if stored.get(name) != state}


def _change(final: Final) -> StreamChange:
    assert final.state is not None
    return StreamChange(
        final.stream_id, final.state.path, final.state, encoded_row(final), final.producers
    )
