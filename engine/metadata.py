"""Rows in LMDB: paths, streams, producers, deadlines, segments and the checkpoint.

Only worker threads may call this: every call can wait for the disk. LMDB has no checksums of
its own, so each value ends in XXH64 of table, key and value, and each table keeps a count and a
sum of those checksums: a flipped bit can make a key vanish, and then the sum is wrong.
Layout to the byte: docs/format-metadata.md. Nothing here decides anything about streams.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgspec

from .._native.lmdb_types import Pages
from ..protocol.retention import has_events, listed_event_ms
from ..protocol.state import ProducerState, StreamState
from .errors import Damaged
from .metadata_file import check_commit, check_file, check_size
from .metadata_table import CHECKSUM_SIZE, StoredRow, Table, TableSum, Tally, trailer
from .records import Row, decode_row, encode

# With a stream id in front it must fit into the 511 bytes of a key of LMDB.
_PLAIN_KEY_SIZE_MAX = 400  # longer names end in a hash; the value holds the whole name
_TABLES = ("info", "paths", "streams", "producers", "deadlines", "segments")
_BATCH = 4000  # rows handed to LMDB in one call: each call waits for the interpreter once


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """Up to where the log is contained in segments and rows."""

    lsn: int
    file_seq: int
    position: int
    next_stream_id: int
    next_segment: int
    clean: bool = False  # written by an orderly close: no access was lost


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Which store, and which of its commits, the environment is as of."""

    store_id: bytes = b""  # 16 bytes
    txn_id: int = 0  # LMDB's number of the commit that wrote this


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
    dead_size: int = 0  # of those, what nobody needs any more: an estimate, for compaction


class SegmentEdit(NamedTuple):
    """How the table of segments changes."""

    put: Sequence[SegmentEntry] = ()
    removed: Sequence[int] = ()  # numbers
    obsolete: Sequence[int] | None = None  # see ``Metadata.obsolete``; None: as before


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


class Metadata:
    """The one owner of DATA/meta.lmdb.

    Args:
        directory: of the environment; created if missing.
        map_size: bytes of address space.
        read_only: change no byte of it, not even LMDB's table of readers: only for who holds
            the data directory's lock.
        shared: beside a store that has it open: change that table only.
        store_id: 16 bytes, of the store that it must belong to; empty if that is not known.

    Raises: Damaged if a page of LMDB is, or the file is another one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        map_size: int,
        read_only: bool = False,
        shared: bool = False,
        store_id: bytes = b"",
    ) -> None:
        self.directory = directory
        self._pages: Pages | None = None
        if shared:
            check_size(directory / "data.mdb", read_only=True)
        else:
            self._pages = check_file(directory / "data.mdb", read_only)
        self._store_id = store_id
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
            if shared:
                self._pages = check_commit(directory / "data.mdb", self._newest)
            self._require_own_tables()
            self._open_tables()
        except BaseException:
            self._env.close()  # LMDB opens a directory once in a process
            raise

    @contextmanager
    def _newest(self) -> Iterator[int]:
        """Keep the pages of the newest commit from being used again; its transaction."""
        with self._env.begin() as txn:
            yield txn.id()

    def _require_own_tables(self) -> None:
        """Opening a table makes it if there is none: one whose name is damaged must be told first.

        Raises: Damaged.
        """
        for name in self._pages.tables if self._pages is not None else ():
            if name not in _TABLES:
                raise Damaged(f"table {name!r} is none of the store's", "meta.lmdb")

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
        for table in (self._info, *self._summed):
            if self._pages is not None and table.name in self._pages.tables:
                table.doubts = self._pages.tables[table.name].doubts
        self._load_sums()

    def _load_sums(self) -> None:
        with self._reading() as txn:
            self._sums: dict[str, TableSum] = self._load(txn, b"sums", dict[str, TableSum]) or {}
            self._check_identity(self._load(txn, b"identity", Identity), txn.id())

    def _check_identity(self, found: Identity | None, txn_id: int) -> None:
        """A file of another store, or a damaged meta page that led to an older commit."""
        if found is None:
            return  # new, or written before there was one
        if self._store_id and found.store_id and self._store_id != found.store_id:
            raise Damaged(f"LMDB's file belongs to store {found.store_id.hex()}", "meta.lmdb")
        if txn_id != found.txn_id:
            what = f"LMDB's meta page names commit {txn_id}, its rows are of {found.txn_id}"
            raise Damaged(what, "meta.lmdb")
        self._store_id = self._store_id or found.store_id

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
            row = self._row(txn, found.stream_id)
        if row is None or row.state is None:
            raise Damaged(f"the row of stream {found.stream_id}, {path}, is missing", "meta.lmdb")
        return row

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
        """(deadline, stream id) where a row says that the deadline has passed, earliest first.

        Args:
            after: the last one of the answer before, to go on behind it.
        """
        start = b"" if after is None else id_key(after[0]) + id_key(after[1]) + b"\x00"
        found: list[tuple[int, int]] = []
        with self._reading() as txn:
            for key, _ in self._deadlines.scan_stored(txn, start):  # a damaged one costs a look
                deadline = int.from_bytes(key[:8], "big")
                if deadline > now_ms or len(found) == count_max:
                    break
                found.append((deadline, int.from_bytes(key[8:], "big")))
        return found

    def rows_from(self, stream_id: int, count_max: int) -> dict[int, Row]:
        """Some rows in the order of their stream ids, from this one on. Raises: Damaged."""
        with self._reading() as txn:
            found = islice(self._streams.scan(txn, id_key(stream_id)), count_max)
            return {int.from_bytes(key, "big"): decode_row(value) for key, value in found}

    def rows_of(self, stream_ids: list[int]) -> tuple[dict[int, Row], set[int]]:
        """The rows of these streams, as far as there are any; and whose row is damaged."""
        rows, damaged = dict[int, Row](), set[int]()
        with self._reading() as txn:
            found = self._streams.get_many(txn, [id_key(stream_id) for stream_id in stream_ids])
        for key, stored in found.items():
            stream_id = int.from_bytes(key, "big")
            if self._streams.is_whole(key, stored):
                rows[stream_id] = decode_row(stored[:-CHECKSUM_SIZE])
            else:
                damaged.add(stream_id)
        return rows, damaged

    def segments(self) -> list[SegmentEntry]:
        """The oldest first: by LSN, for a compaction's number is newer than what it holds."""
        with self._reading() as txn:
            found = [
                msgspec.msgpack.decode(value, type=SegmentEntry)
                for _, value in self._segments.scan(txn)
            ]
        return sorted(found, key=lambda entry: (entry.upto_lsn, entry.number))

    def obsolete(self) -> list[int]:
        """Numbers of segments that are not, or no longer, part of the store.

        Their files may still be there: a compaction was cut short before its commit, or behind it.
        """
        with self._reading() as txn:
            return self._load(txn, b"obsolete", list[int]) or []

    def scan(self, table: str, start: bytes = b"") -> Iterator[StoredRow]:
        """A table from ``start`` on as it is stored, damage included: for tools that look."""
        found: Table = getattr(self, f"_{table}")
        with self._reading() as txn:
            for key, stored in found.scan_stored(txn, start):
                value = stored[:-CHECKSUM_SIZE]
                yield StoredRow(key, value, trailer(stored), found.is_whole(key, stored))

    def recorded_sum(self, table: str) -> TableSum:
        """What the last commit says that the table holds."""
        return self._sums.get(table, TableSum())

    def check_tables(self) -> None:
        """Compare what the tables hold with what the last commit says that they do.

        Raises: Damaged if rows vanished, or are others, so that nobody can tell which.
        """
        with self._reading() as txn:
            counts = {table.name: table.count(txn) for table in self._summed}
        for name, count in counts.items():
            expected = self._sums.get(name, TableSum())
            if count != expected.count:
                what = f"table {name}: {count} rows where {expected.count} were written"
                raise Damaged(what, "meta.lmdb")
            found = self._pages.tables.get(name) if self._pages is not None else None
            if found is not None and found.total != expected.total:
                if not found.doubts:
                    raise Damaged(f"table {name}: other rows than were written", "meta.lmdb")
                # A damaged row's checksum is what is damaged: from now on it counts as it is.
                self._sums[name] = TableSum(count, found.total)

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
        edit: SegmentEdit | None = None,
    ) -> None:
        """Move the checkpoint, with everything that it contains, in one transaction.

        Args:
            segment: that of a flush.
            edit: what else changes about segments.

        Raises: lmdb.Error; nothing is changed then.
        """
        self._env.reader_check()  # a tool killed while it looked must not keep old pages in use
        tally = Tally(self._sums)
        with self._env.begin(write=True) as txn:
            for first in range(0, len(changes), _BATCH):
                self._write_batch(txn, changes[first : first + _BATCH], tally)
            if segment is not None:
                self._segments.put(txn, id_key(segment.number), encode(segment), tally)
            if edit is not None:
                self._edit_segments(txn, edit, tally)
            sums = self._seal(txn, checkpoint, tally)
        self._sums = sums

    def _edit_segments(self, txn: lmdb.Transaction, edit: SegmentEdit, tally: Tally) -> None:
        for number in edit.removed:
            self._segments.delete(txn, id_key(number), tally)
        for entry in edit.put:
            self._segments.put(txn, id_key(entry.number), encode(entry), tally)
        if edit.obsolete is not None:
            self._info.put(txn, b"obsolete", encode(list(edit.obsolete)), Tally({}))

    def fill(
        self, checkpoint: Checkpoint, batches: Iterable[tuple[str, list[tuple[bytes, bytes]]]]
    ) -> None:
        """Write all rows of another environment into this empty one, in one transaction.

        Args:
            batches: (table, its next rows in the order of their keys, without checksums).

        Raises: lmdb.Error, and what ``batches`` raises; nothing is changed then.
        """
        tables, tally = {table.name: table for table in self._summed}, Tally({})
        with self._env.begin(write=True) as txn:
            for name, rows in batches:
                tables[name].put_many(txn, rows, tally)
            sums = self._seal(txn, checkpoint, tally)
        self._sums = sums

    def _seal(
        self, txn: lmdb.Transaction, checkpoint: Checkpoint, tally: Tally
    ) -> dict[str, TableSum]:
        """Say what the tables hold with this commit; returns the new sums."""
        sums = tally.sums()
        identity = Identity(self._store_id, txn.id())
        self._info.put(txn, b"checkpoint", encode(checkpoint), Tally({}))
        self._info.put(txn, b"sums", encode(sums), Tally({}))
        self._info.put(txn, b"identity", encode(identity), Tally({}))
        return sums

    def _write_batch(
        self, txn: lmdb.Transaction, changes: list[StreamChange], tally: Tally
    ) -> None:
        old = self._streams.get_many(txn, [id_key(change.stream_id) for change in changes])
        rows, paths, producers = [], [], []
        for change in changes:
            key, state = id_key(change.stream_id), change.state
            if state is None or has_events(state):
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
    deadline = None if state is None else listed_event_ms(state)
    return None if deadline is None else id_key(max(0, deadline))
