"""One table of LMDB whose values carry checksums, and what it must hold in all.

LMDB has no checksums of its own, so each value ends in XXH64 of table, key and value, and each
table keeps a count and a sum of those checksums: a flipped bit can make a key vanish, and then
the sum is wrong. Where a row is damaged its key may be, too: that a neighbouring key is absent
is not believed then. What the rows mean is ``metadata``'s subject.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import lmdb
import msgspec

from .._native.checksum import xxh64
from .._native.lmdb_types import Doubt
from .errors import Damaged

CHECKSUM_SIZE = 8
_U64 = (1 << 64) - 1


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


class Table:
    """One named database of LMDB whose values carry checksums. Not thread-safe."""

    def __init__(self, env: lmdb.Environment, name: str) -> None:
        self.name = name
        self._prefix = name.encode() + b"\x00"
        self._db = env.open_db(name.encode())
        self.doubts: list[Doubt] = []  # where rows are damaged

    def get(self, txn: lmdb.Transaction, key: bytes) -> bytes | None:
        """The value, verified. Raises: Damaged."""
        stored = self._stored(txn, key)
        if stored is not None:
            return self._open(key, stored)
        if any(_lies_within(key, doubt) for doubt in self.doubts):
            raise Damaged(f"row {key!r} of table {self.name}, or one beside it", "meta.lmdb")
        return None

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
                total += trailer(stored)
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
        return stored[:-CHECKSUM_SIZE]

    def is_whole(self, key: bytes, stored: bytes) -> bool:
        """Whether the checksum at the end of ``stored`` is right."""
        value = stored[:-CHECKSUM_SIZE]
        return len(stored) >= CHECKSUM_SIZE and self._checksum(key, value) == stored[len(value) :]

    def _checksum(self, key: bytes, value: bytes) -> bytes:
        return xxh64(self._prefix + len(key).to_bytes(2, "little") + key + value).to_bytes(
            8, "little"
        )


def _lies_within(key: bytes, doubt: Doubt) -> bool:
    return (doubt.after is None or doubt.after < key) and (
        doubt.before is None or key < doubt.before
    )


def trailer(stored: bytes) -> int:
    return int.from_bytes(stored[-CHECKSUM_SIZE:], "little")


class Tally:
    """How the counts and sums of all tables change in one transaction."""

    def __init__(self, sums: dict[str, TableSum]) -> None:
        self._sums = {name: [entry.count, entry.total] for name, entry in sums.items()}

    def replace(self, table: str, old: bytes | None, new: bytes | None) -> None:
        entry = self._sums.setdefault(table, [0, 0])
        if old is not None:
            entry[0] -= 1
            entry[1] -= trailer(old)
        if new is not None:
            entry[0] += 1
            entry[1] += trailer(new)

    def sums(self) -> dict[str, TableSum]:
        return {name: TableSum(count, total & _U64) for name, (count, total) in self._sums.items()}
