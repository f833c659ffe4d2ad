"""LMDB's data file, looked at before LMDB does: its size, and all its pages.

A mapping of a file that was cut short kills the process that reads it, and so can a flipped bit
in a page, or it lets rows vanish. So every page is walked first. Layout: LMDB 0.9's,
docs/format-metadata.md, "Pages". Rows are for ``metadata`` to read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from .._native.disk import PosixDisk
from .._native.lmdb_pages import check_pages
from .._native.lmdb_types import Pages, PagesDamaged
from .errors import Damaged

_META_MAGIC = 0xBEEFC0DE
_META_STRIDE_MAX = 65536  # LMDB's largest page
_META = struct.Struct("<16x II 16x I 92x QQ")  # magic, version, page size, last page, txn id
_UNWRITTEN_PAGES_MAX = 64
_LOOKS_MAX = 5  # at a commit, while others are made


def check_file(data_file: Path, read_only: bool) -> Pages | None:
    """Walk the pages of a file that nobody changes meanwhile; None if there are none yet.

    Some 1 GiB a second is read. Raises: Damaged; nothing is changed then.
    """
    check_size(data_file, read_only=True)
    try:
        if data_file.stat().st_size == 0:
            return None
        pages = _walk(data_file, None)
    except FileNotFoundError:
        return None
    check_size(data_file, read_only)
    return pages


def check_commit(data_file: Path, pin: Callable[[], AbstractContextManager[int]]) -> Pages:
    """Walk the pages of a commit while others are made.

    Args:
        pin: keeps the newest commit's pages as they are, and tells its transaction.

    Raises: Damaged.
    """
    for _ in range(_LOOKS_MAX - 1):  # what seems wrong may be a race: then not the second time
        with suppress(Damaged), pin() as txn_id:
            return _walk(data_file, txn_id)
    with pin() as txn_id:
        return _walk(data_file, txn_id)


def _walk(data_file: Path, txn_id: int | None) -> Pages:
    try:
        return check_pages(PosixDisk(), os.fspath(data_file), txn_id)
    except PagesDamaged as damage:
        where = f"meta.lmdb/{data_file.name}, byte {damage.position}"
        raise Damaged(f"LMDB's {damage.what}", where) from damage


def check_size(data_file: Path, read_only: bool) -> None:
    """Refuse a data file that was cut short: mapping it would kill the process.

    LMDB's newer meta page names the last page in use. LMDB does not write a last page that
    was allocated and given back within one commit, so a few pages may be missing rightly: they
    are appended as zeroes, which LMDB and the checksums can tell from rows.
    """
    try:
        size = data_file.stat().st_size
    except FileNotFoundError:
        return
    if size == 0:
        return
    with data_file.open("rb") as file:
        needed, page_size = _needed_size(file.read(2 * _META_STRIDE_MAX))
    if needed - size > _UNWRITTEN_PAGES_MAX * page_size:
        raise Damaged(f"{data_file.name} is cut short", f"byte {size} of {needed}")
    if needed > size and not read_only:
        os.truncate(data_file, needed)


def _needed_size(head: bytes) -> tuple[int, int]:
    """Bytes that the file must have, and LMDB's page size, from its two meta pages."""
    best = (-1, 0, 0)
    if len(head) >= _META.size:
        page_size = _META.unpack_from(head)[2]
        for start in (0, page_size):
            if start + _META.size <= len(head):
                magic, _, _, last_page, txn_id = _META.unpack_from(head, start)
                if magic == _META_MAGIC:
                    best = max(best, (txn_id, (last_page + 1) * page_size, page_size))
    if best[0] < 0:
        raise Damaged("no meta page of LMDB", "meta.lmdb/data.mdb, byte 0")
    return best[1], best[2]
