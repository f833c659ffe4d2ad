"""What a walk over LMDB's pages hands out. Nothing here reads a file."""

from __future__ import annotations

from typing import NamedTuple


class Doubt(NamedTuple):
    """Rows whose checksums are wrong, one after the other, and between which keys they stand.

    A damaged row's key may be what was damaged: then some other key between ``after`` and
    ``before`` has vanished. None: there is no whole row on that side.
    """

    after: bytes | None
    before: bytes | None
    row_count: int


class TablePages(NamedTuple):
    """A table as its pages hold it."""

    row_count: int
    total: int  # the sum of the checksums stored in the rows, modulo 2^64
    doubts: list[Doubt]  # in the order of their keys


class Pages(NamedTuple):
    """An environment whose pages are all what they must be."""

    txn_id: int  # of the last commit
    size: int  # bytes that the file must have before it is mapped
    tables: dict[str, TablePages]


class PagesDamaged(Exception):
    """A page of LMDB is not what was written, or cannot be read.

    Args:
        path: the file.
        position: bytes from its start, of the page.
        what: what is wrong.
    """

    def __init__(self, path: str, position: int, what: str) -> None:
        super().__init__(f"{path}, byte {position}: {what}")
        self.path = path
        self.position = position
        self.what = what
