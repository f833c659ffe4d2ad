"""Fill a store, damage it on purpose once it is stopped, and take pictures of its directory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
from msgspec.structs import replace

from durastream.engine.metadata import Identity, Metadata, id_key
from durastream.engine.metadata_table import Tally
from durastream.engine.options import MIB
from durastream.engine.records import Row, encode
from durastream.engine.store import Store
from durastream.engine.wal_py import Frame, read_frames


def populate(store: Store) -> None:
    """Two plain streams, forks of forks, deletions, deadlines, producers, JSON."""
    store.create("/good", ttl_seconds=600)
    store.create("/bad", initial_data=b"before;")
    store.create("/json", content_type="application/json", initial_data=b'[1,{"a":2}]')
    store.create("/until", expires_at="2099-01-01T00:00:00Z")
    store.append("/good", b"first;", producer_id="writer", producer_epoch=1, producer_seq=0)
    store.append("/bad", b"the bytes that will be damaged")
    store.create("/fork", forked_from="/bad", initial_data=b"own")
    store.create("/fork-of-fork", forked_from="/fork", initial_data=b"own, too")
    store.create("/gone", initial_data=b"nobody needs this")
    store.append("/until", bytes(range(256)) * 1024)  # several blocks
    store.delete("/fork")
    store.delete("/gone")
    store.append("/good", b"second;", producer_id="writer", producer_epoch=1, producer_seq=1)


def picture(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder, with the bytes of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def flip(path: Path, position: int, bits: int = 0x40) -> None:
    """Flip bits of one byte; a position below zero counts from the end."""
    raw = bytearray(path.read_bytes())
    raw[position] ^= bits
    path.write_bytes(raw)


def flip_at(path: Path, needle: bytes, shift: int = 0) -> int:
    """Flip bits of the only place that holds ``needle``; returns the position."""
    raw = path.read_bytes()
    assert raw.count(needle) == 1, f"{raw.count(needle)} places hold {needle!r}"
    position = raw.index(needle) + shift
    flip(path, position)
    return position


def log_file(folder: Path) -> Path:
    """The newest file of the log."""
    return max((folder / "wal").glob("0*.wal"))


def log_file_with(folder: Path, content: bytes) -> Path:
    """The newest file of the log that holds something: a spare that is ready may be the newest."""
    return max(p for p in (folder / "wal").glob("0*.wal") if content in p.read_bytes())


def log_frames(path: Path) -> list[Frame]:
    return read_frames(path.read_bytes())[1]


def segment_files(folder: Path) -> list[Path]:
    return sorted((folder / "segments").glob("*.seg"))


def extent_fields(path: Path, index: int) -> dict[str, int]:
    """An entry of a segment's index, and where its parts lie (docs/format-segment.md)."""
    raw = path.read_bytes()
    (start,) = struct.unpack_from("<Q", raw, len(raw) - 128 + 24)
    fields = struct.unpack_from("<QQQQQII", raw, start + 96 * index)
    stream_id, base, end, position, message_count, row_size, _ = fields
    data = position + 96
    blocks = -(-(end - base) // 65536)
    ends = data + -(-(end - base) // 8) * 8 + 8 * blocks
    row = ends + 8 * message_count + 8 * -(-8 * message_count // 65536)
    return {
        "stream_id": stream_id,
        "entry": start + 96 * index,
        "data": data,
        "ends": ends,
        "row": row,
        "row_size": row_size,
    }


@contextmanager
def rows_of(folder: Path) -> Iterator[Metadata]:
    metadata = Metadata(folder / "meta.lmdb", map_size=64 * MIB)
    try:
        yield metadata
    finally:
        metadata.close()


def write_row(folder: Path, table: str, key: bytes, value: bytes | None) -> None:
    """Change, add or remove (None) a row as a commit does, with all checksums and sums right."""
    with rows_of(folder) as metadata:
        found = getattr(metadata, f"_{table}")
        tally = Tally(metadata._sums)
        with metadata._env.begin(write=True) as txn:
            if value is None:
                found.delete(txn, key, tally)
            else:
                found.put(txn, key, value, tally)
            metadata._info.put(txn, b"sums", encode(tally.sums()), Tally({}))
            sign(metadata, txn)


def change_state(folder: Path, stream_id: int, **changes: Any) -> None:
    """Change fields of a stream's row by hand."""
    with rows_of(folder) as metadata:
        row = metadata.row(stream_id)
    assert row is not None
    assert row.state is not None
    changed = Row(replace(row.state, **changes), row.lsn, row.quarantine)
    write_row(folder, "streams", id_key(stream_id), encode(changed))


def lose_row(folder: Path, table: str, key: bytes) -> None:
    """Remove a row behind the back of the sums."""
    with rows_of(folder) as metadata, metadata._env.begin(write=True) as txn:
        assert txn.delete(key, db=getattr(metadata, f"_{table}")._db)
        sign(metadata, txn)


def sign(metadata: Metadata, txn: lmdb.Transaction) -> None:
    """Call a change one of the store's own commits."""
    identity = Identity(metadata._store_id, txn.id())
    metadata._info.put(txn, b"identity", encode(identity), Tally({}))
