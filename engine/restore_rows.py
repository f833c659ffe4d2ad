"""Make an LMDB environment from the rows of a restore point, in one transaction.

So it has all of them or none, and an interrupted restore can tell. The rows were hashed before:
what does not decode was stored so, which is a bug, not damage. Format: docs/format-backup.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from .._native.disk import Disk
from .backup_copy import opened, read_chunks
from .backup_rows import Batch
from .metadata import Checkpoint, Metadata
from .options import FileStoreOptions

_SIZE_BYTES = 4

_decode = msgspec.msgpack.Decoder(Batch).decode


def fill_rows(disk: Disk, file: Path, directory: Path, store_id: bytes) -> bool:
    """Fill ``directory`` with the rows in ``file``; False if they are there already.

    Raises: OSError, lmdb.Error, Damaged.
    """
    metadata = Metadata(directory, map_size=FileStoreOptions().lmdb_map_size, store_id=store_id)
    try:
        if metadata.checkpoint() is not None:
            return False
        with opened(disk, file) as handle:
            batches = _batches(read_chunks(disk, handle, disk.size(handle), str(file)))
            first = next(batches)
            checkpoint = msgspec.msgpack.decode(first.rows[0][1], type=Checkpoint)
            metadata.fill(checkpoint, ((batch.table, batch.rows) for batch in batches))
        return True
    finally:
        metadata.close()


def _batches(chunks: Iterator[bytes]) -> Iterator[Batch]:
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        start = 0
        while len(buffer) - start >= _SIZE_BYTES:
            size = int.from_bytes(buffer[start : start + _SIZE_BYTES], "little")
            end = start + _SIZE_BYTES + size
            if end > len(buffer):
                break
            yield _decode(buffer[start + _SIZE_BYTES : end])
            start = end
        buffer = buffer[start:]
    if buffer:
        raise ValueError(f"{len(buffer)} bytes are left over behind the last batch of rows")
