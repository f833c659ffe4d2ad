"""Whose directory is this? FORMAT says so, and every file of the log and every segment again.

FORMAT has no checksum: where all files agree on another store, it is FORMAT that is wrong. It
only reads.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .._native.disk import Disk
from .directory import FORMAT_VERSION, Format, FormatDamaged, read_format
from .errors import OpenError, UnknownFormat
from .salvage_segment import segment_header
from .wal_py import PAGE_SIZE, WalError, read_file_header


@dataclass(frozen=True, slots=True)
class Identity:
    """The store's id; ``problem``: what is wrong with FORMAT, None if it is right."""

    store_id: bytes
    problem: str | None

    def content(self) -> bytes:
        """What FORMAT must hold."""
        return msgspec.json.encode(Format(FORMAT_VERSION, self.store_id.hex())) + b"\n"


def identify(disk: Disk, path: Path) -> Identity:
    """Find the store's id.

    Raises: UnknownFormat if nothing here is of a store, or of a newer version; OpenError if the
    files do not agree.
    """
    ids = _ids_of_files(disk, path)
    try:
        stored, problem = read_format(disk, path), None
    except FormatDamaged as error:
        stored, problem = None, str(error)
    except FileNotFoundError:
        stored, problem = None, "FORMAT is missing"
    except UnknownFormat as error:
        what = "if no newer version ever wrote it, move FORMAT elsewhere and repair again"
        raise UnknownFormat(f"{error}; {what}") from error
    if stored is not None and (stored in ids or not ids):
        return Identity(stored, None)
    if len(ids) == 1:
        (found,) = ids
        return Identity(found, problem or _names_another(stored))
    if not ids:
        raise UnknownFormat(f"{path}: {problem}, and no file tells which store this is")
    problem = problem or _names_another(stored)
    named = ", ".join(f"{store_id.hex()} ({count} files)" for store_id, count in ids.items())
    raise OpenError(
        f"{path}: {problem}, and the files in it are of several stores: {named}; move those of "
        "the others elsewhere, then repair again"
    )


def _ids_of_files(disk: Disk, path: Path) -> Counter[bytes]:
    ids: Counter[bytes] = Counter()
    for folder, suffix in (("wal", ".wal"), ("segments", ".seg")):
        if not disk.exists(path / folder):
            continue
        for name in disk.list_directory(path / folder):
            if name.endswith(suffix):
                store_id = _id_of(_first_page(disk, path / folder / name), suffix)
                ids.update([] if store_id is None else [store_id])
    return ids


def _id_of(page: bytes, suffix: str) -> bytes | None:
    if suffix == ".seg":
        header = segment_header(page)
        return None if header is None else header.store_id
    with suppress(WalError):
        if len(page) == PAGE_SIZE:
            return read_file_header(page).store_id
    return None


def _first_page(disk: Disk, path: Path) -> bytes:
    handle = disk.open(path, os.O_RDONLY)
    try:
        return disk.pread(handle, PAGE_SIZE, 0)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
    finally:
        disk.close(handle)


def _names_another(stored: bytes | None) -> str:
    return f"FORMAT names the store {stored.hex() if stored else '?'}, of which no file is"
