"""Rows in LMDB: paths, streams, producers, deadlines, segments and the checkpoint.

Only worker threads may call this: every call can wait for the disk. LMDB has no checksums of
its own, so each value ends in XXH64 of table, key and value, and each table keeps a count and a
sum of those checksums: a flipped bit can make a key vanish, and then the sum is wrong.
Layout to the byte: docs/format-metadata.md. Nothing here decides anything about streams.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgspec

from .._native.checksum import xxh64
from ..protocol.expiry import deadline_ms
from ..protocol.state import ProducerState, StreamState
from .errors import Damaged
from .metadata_file import check_size
from .records import Row, decode_row, encode

# With a stream id in front it must fit into the 511 bytes of a key of LMDB.
_PLAIN_KEY_SIZE_MAX = 400  # longer names end in a hash; the value holds the whole name
_CHECKSUM_SIZE = 8
_BATCH = 4000  # rows handed to LMDB in one call: each call waits for the interpreter once
_U64 = (1 << 64) - 1


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """Up to where the log is contained in segments and rows."""

    lsn: int
    file_seq: int
    position: int
    next_stream_id: int
    next_segment: int
    clean: bool = False  # written by an orderly close: no access was lost


class PathRow(msgspec.Struct, frozen=True, array_like=True):
    stream_id: int
    path: str


class ProducerRow(msgspec.Struct, frozen=True, array_like=True):
    producer_id: str
    state: ProducerState


class SegmentEntry(msgspec.Struct, frozen=True, array_like=True):
    number: int
    level: int
    after_lsn: int
    upto_lsn: int
    size: int  # bytes of the file


class TableSum(msgspec.Struct, frozen=True, array_like=True):
    """Checked by ``verify``: rows of a table and the sum of their checksums modulo 2^64."""

    count: int = 0
    total: int = 0


class StoredRow(NamedTuple):
    """A row as it stands in a table, perhaps damaged."""

    key: bytes
    value: bytes
    checksum: int  # as stored
    is_whole: bool  # whether the checksum is that of table, key and value


class StreamChange(NamedTuple):
    """A stream as of the checkpoint to be written; ``state`` None removes it."""

    stream_id: int
    path: str
    state: StreamState | None
    row: bytes  # the encoded ``Row``
    producers: dict[str, ProducerState]


def name_key(name: str) -> bytes:
    """The key of a path or producer id: itself, or its beginning and a SHA-256 if long.

    A name with a lone surrogate, which is never stored, has a key that no stored name has.
    """
    raw = name.encode(errors="surrogatepass")
    if len(raw) <= _PLAIN_KEY_SIZE_MAX:
        return b"\x00" + raw
    return b"\x01" + raw[: _PLAIN_KEY_SIZE_MAX - 32] + sha256(raw).digest()


def id_key(stream_id: int) -> bytes:
    return stream_id.to_bytes(8, "big")


class Table:
    """One named database of LMDB whose values carry checksums. Not thread-safe."""

    def __init__(self, env: lmdb.Environment, name: str) -> None:
        self.name = name
        self._prefix = name.encode() + b"\x00"
        self._db = env.open_db(name.encode())

    def get(self, txn: lmdb.Transaction, key: bytes) -> bytes | None:
        """The value, verified. Raises: Damaged."""
        stored = self._stored(txn, key)
        return None if stored is None else self._open(key, stored)

    def scan(self, txn: lmdb.Transaction, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from ``start`` on, in order of their keys, verified."""
        for key, stored in self.scan_stored(txn, start):
            yield key, self._open(key, stored)

    def scan_stored(
        self, txn: lmdb.Transaction, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """``scan``, but with the checksums in the values, not verified."""
        with txn.cursor(self._db) as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for key, stored in cursor:
                    assert isinstance(key, bytes)
                    assert isinstance(stored, bytes)
                    yield key, stored

    def put(self, txn: lmdb.Transaction, key: bytes, value: bytes, tally: Tally) -> None:
        checksum = self._checksum(key, value)
        stored = value + checksum
        tally.replace(self.name, self._stored(txn, key), stored)
        txn.put(key, stored, db=self._db)

    def get_many(self, txn: lmdb.Transaction, keys: list[bytes]) -> dict[bytes, bytes]:
        """What is stored under the keys that are there, checksums included, not verified."""
        with txn.cursor(self._db) as cursor:
            return {bytes(key): bytes(stored) for key, stored in cursor.getmulti(keys)}

    def put_many(
        self, txn: lmdb.Transaction, items: list[tuple[bytes, bytes]], tally: Tally
    ) -> None:
        old = self.get_many(txn, [key for key, _ in items])
        stored = [(key, value + self._checksum(key, value)) for key, value in items]
        for key, new in stored:
            tally.replace(self.name, old.get(key), new)
        with txn.cursor(self._db) as cursor:
            cursor.putmulti(stored)

    def delete(self, txn: lmdb.Transaction, key: bytes, tally: Tally) -> None:
        stored = self._stored(txn, key)
        if stored is not None:
            tally.replace(self.name, stored, None)
            txn.delete(key, db=self._db)

    def count(self, txn: lmdb.Transaction) -> int:
        """Rows, as LMDB counts them, without reading any."""
        return int(txn.stat(self._db)["entries"])

    def verify_sum(self, txn: lmdb.Transaction, expected: TableSum) -> None:
        """Raises: Damaged if a row is damaged, or rows are missing or too many."""
        count = total = 0
        with txn.cursor(self._db) as cursor:
            for key, stored in cursor:
                assert isinstance(key, bytes)
                assert isinstance(stored, bytes)
                self._open(key, stored)
                count += 1
                total += _trailer(stored)
        if (count, total & _U64) != (expected.count, expected.total):
            raise Damaged(
                f"table {self.name}: {count} rows where {expected.count} were written",
                "meta.lmdb",
            )

    def _stored(self, txn: lmdb.Transaction, key: bytes) -> bytes | None:
        stored = txn.get(key, db=self._db)
        assert stored is None or isinstance(stored, bytes)  # no transaction here asks for views
        return stored

    def _open(self, key: bytes, stored: bytes) -> bytes:
        if not self.is_whole(key, stored):
            raise Damaged(f"row {key!r} of table {self.name}", "meta.lmdb")
        return stored[:-_CHECKSUM_SIZE]

    def is_whole(self, key: bytes, stored: bytes) -> bool:
        """Whether the checksum at the end of ``stored`` is right."""
        value = stored[:-_CHECKSUM_SIZE]
        return len(stored) >= _CHECKSUM_SIZE and self._checksum(key, value) == stored[len(value) :]

    def _checksum(self, key: bytes, value: bytes) -> bytes:
        return xxh64(self._prefix + len(key).to_bytes(2, "little") + key + value).to_bytes(
            8, "little"
        )


def _trailer(stored: bytes) -> int:
    return int.from_bytes(stored[-_CHECKSUM_SIZE:], "little")


class Tally:
    """How the counts and sums of all tables change in one transaction."""

    def __init__(self, sums: dict[str, TableSum]) -> None:
        self._sums = {name: [entry.count, entry.total] for name, entry in sums.items()}

    def replace(self, table: str, old: bytes | None, new: bytes | None) -> None:
        entry = self._sums.setdefault(table, [0, 0])
        if old is not None:
            entry[0] -= 1
            entry[1] -= _trailer(old)
        if new is not None:
            entry[0] += 1
            entry[1] += _trailer(new)

    def sums(self) -> dict[str, TableSum]:
        return {name: TableSum(count, total & _U64) for name, (count, total) in self._sums.items()}


class Metadata:
    """The one owner of DATA/meta.lmdb.

    Args:
        directory: of the environment; created if missing.
        map_size: bytes of address space.
        read_only: change no byte of it, not even LMDB's table of readers: only for who holds
            the data directory's lock.
        shared: beside a store that has it open: change that table only.
    """

    def __init__(
        self, directory: Path, *, map_size: int, read_only: bool = False, shared: bool = False
    ) -> None:
        check_size(directory / "data.mdb", read_only)
        self._env = lmdb.open(
            os.fspath(directory),
            map_size=map_size,
            max_dbs=16,
            max_readers=512,
            readonly=read_only,
            lock=shared or not read_only,
            metasync=True,
            sync=True,
            writemap=False,
        )
        try:
            self._open_tables()
        except BaseException:
            self._env.close()  # LMDB opens a directory once in a process
            raise

    def _open_tables(self) -> None:
        self._info = Table(self._env, "info")
        self._paths = Table(self._env, "paths")
        self._streams = Table(self._env, "streams")
        self._producers = Table(self._env, "producers")
        self._deadlines = Table(self._env, "deadlines")
        self._segments = Table(self._env, "segments")
        self._summed = (
            self._paths, self._streams, self._producers, self._deadlines, self._segments
        )  # fmt: skip
        with self._env.begin() as txn:
            self._sums: dict[str, TableSum] = self._load(txn, b"sums", dict[str, TableSum]) or {}

    def _reading(self) -> AbstractContextManager[lmdb.Transaction]:
        """A transaction to read in."""
        return self._env.begin()

    # -- reading ---------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint | None:
        with self._reading() as txn:
            found: Checkpoint | None = self._load(txn, b"checkpoint", Checkpoint)
            return found

    def find(self, path: str) -> Row | None:
        """The row of the stream at ``path``. Raises: Damaged."""
        with self._reading() as txn:
            value = self._paths.get(txn, name_key(path))
            if value is None:
                return None
            found = msgspec.msgpack.decode(value, type=PathRow)
            if found.path != path:
                return None
            return self._row(txn, found.stream_id)

    def row(self, stream_id: int) -> Row | None:
        with self._reading() as txn:
            return self._row(txn, stream_id)

    def producer(self, stream_id: int, producer_id: str) -> ProducerState | None:
        with self._reading() as txn:
            value = self._producers.get(txn, id_key(stream_id) + name_key(producer_id))
        if value is None:
            return None
        found = msgspec.msgpack.decode(value, type=ProducerRow)
        return found.state if found.producer_id == producer_id else None

    def rows(self) -> Iterator[Row]:
        """Every stream's row, by stream id."""
        with self._reading() as txn:
            for _, value in self._streams.scan(txn):
                yield decode_row(value)

    def due(
        self, now_ms: int, count_max: int, after: tuple[int, int] | None = None
    ) -> list[tuple[int, int]]:
        """(deadline, stream id) where the written deadline has passed, the earliest first.

        Args:
            after: the last one of the answer before, to go on behind it.
        """
        start = b"" if after is None else id_key(after[0]) + id_key(after[1]) + b"\x00"
        found: list[tuple[int, int]] = []
        with self._reading() as txn:
            for key, _ in self._deadlines.scan(txn, start):
                deadline = int.from_bytes(key[:8], "big")
                if deadline > now_ms or len(found) == count_max:
                    break
                found.append((deadline, int.from_bytes(key[8:], "big")))
        return found

    def segments(self) -> list[SegmentEntry]:
        with self._reading() as txn:
            return [
                msgspec.msgpack.decode(value, type=SegmentEntry)
                for _, value in self._segments.scan(txn)
            ]

    def scan(self, table: str, start: bytes = b"") -> Iterator[StoredRow]:
        """A table from ``start`` on as it is stored, damage included: for tools that look."""
        found: Table = getattr(self, f"_{table}")
        with self._reading() as txn:
            for key, stored in found.scan_stored(txn, start):
                value = stored[:-_CHECKSUM_SIZE]
                yield StoredRow(key, value, _trailer(stored), found.is_whole(key, stored))

    def recorded_sum(self, table: str) -> TableSum:
        """What the last commit says that the table holds."""
        return self._sums.get(table, TableSum())

    def check_counts(self) -> None:
        """Compare LMDB's own counts of rows with those last written: no row is read.

        Raises: Damaged.
        """
        with self._reading() as txn:
            for table in self._summed:
                count, expected = table.count(txn), self._sums.get(table.name, TableSum()).count
                if count != expected:
                    what = f"table {table.name}: {count} rows where {expected} were written"
                    raise Damaged(what, "meta.lmdb")

    def verify(self) -> None:
        """Check every row and the sums of all tables. Raises: Damaged."""
        with self._reading() as txn:
            for table in self._summed:
                table.verify_sum(txn, self._sums.get(table.name, TableSum()))

    def close(self) -> None:
        self._env.close()

    # -- writing ---------------------------------------------------------------------------

    def commit(
        self,
        checkpoint: Checkpoint,
        changes: list[StreamChange],
        segment: SegmentEntry | None = None,
    ) -> None:
        """Move the checkpoint, with everything that it contains, in one transaction.

        Raises: lmdb.Error; nothing is changed then.
        """
        self._env.reader_check()  # a tool killed while it looked must not keep old pages in use
        tally = Tally(self._sums)
        with self._env.begin(write=True) as txn:
            for first in range(0, len(changes), _BATCH):
                self._write_batch(txn, changes[first : first + _BATCH], tally)
            if segment is not None:
                self._segments.put(txn, id_key(segment.number), encode(segment), tally)
            sums = tally.sums()
            self._info.put(txn, b"checkpoint", encode(checkpoint), Tally({}))
            self._info.put(txn, b"sums", encode(sums), Tally({}))
        self._sums = sums

    def _write_batch(
        self, txn: lmdb.Transaction, changes: list[StreamChange], tally: Tally
    ) -> None:
        old = self._streams.get_many(txn, [id_key(change.stream_id) for change in changes])
        rows, paths, producers = [], [], []
        for change in changes:
            key, state = id_key(change.stream_id), change.state
            if state is None or deadline_ms(state) is not None:
                self._move_deadline(txn, key, self._row_before(txn, change), state, tally)
            if state is None:
                self._remove_stream(txn, change, tally)
                continue
            rows.append((key, change.row))
            if key not in old:
                bound = encode(PathRow(change.stream_id, change.path))
                paths.append((name_key(change.path), bound))
            for producer_id, producer in change.producers.items():
                row = encode(ProducerRow(producer_id, producer))
                producers.append((key + name_key(producer_id), row))
        self._streams.put_many(txn, rows, tally)
        self._paths.put_many(txn, paths, tally)
        self._producers.put_many(txn, producers, tally)

    def _row_before(self, txn: lmdb.Transaction, change: StreamChange) -> Row | None:
        """The row to be replaced. Damage in what goes anyway must not stop the store's flushes."""
        try:
            return self._row(txn, change.stream_id)
        except Damaged:
            return None  # its deadline stays in the table: the sweeper looks, and finds no cause

    def _remove_stream(self, txn: lmdb.Transaction, change: StreamChange, tally: Tally) -> None:
        key = id_key(change.stream_id)
        self._streams.delete(txn, key, tally)
        if self._bound_id(txn, change.path) in (change.stream_id, None):
            self._paths.delete(txn, name_key(change.path), tally)
        stale = []
        for producer_key, _ in self._producers.scan_stored(txn, key):
            if not producer_key.startswith(key):
                break
            stale.append(producer_key)
        for producer_key in stale:
            self._producers.delete(txn, producer_key, tally)

    def _bound_id(self, txn: lmdb.Transaction, path: str) -> int | None:
        """The stream that a path names; None if there is none, or the row is damaged."""
        try:
            bound = self._paths.get(txn, name_key(path))
        except Damaged:
            return None
        return None if bound is None else msgspec.msgpack.decode(bound, type=PathRow).stream_id

    def _move_deadline(
        self,
        txn: lmdb.Transaction,
        key: bytes,
        old: Row | None,
        new: StreamState | None,
        tally: Tally,
    ) -> None:
        before = _deadline(old.state if old is not None else None)
        after = _deadline(new)
        if before == after:
            return
        if before is not None:
            self._deadlines.delete(txn, before + key, tally)
        if after is not None:
            self._deadlines.put(txn, after + key, b"", tally)

    # -- shared ----------------------------------------------------------------------------

    def _row(self, txn: lmdb.Transaction, stream_id: int) -> Row | None:
        value = self._streams.get(txn, id_key(stream_id))
        return None if value is None else decode_row(value)

    def _load(self, txn: lmdb.Transaction, key: bytes, kind: Any) -> Any:
        value = self._info.get(txn, key)
        return None if value is None else msgspec.msgpack.decode(value, type=kind)


def _deadline(state: StreamState | None) -> bytes | None:
    if state is None or state.soft_deleted:
        return None
    deadline = deadline_ms(state)
    return None if deadline is None else id_key(max(0, deadline))
