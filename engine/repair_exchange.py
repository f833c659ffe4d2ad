"""Exchange parts of a data directory for others, so that a crash at any moment can be gone past.

    DIR/repair-TIME/             everything that was replaced, under the names that it had
    DIR/repair-TIME/new-*        what takes its place, until it does
    DIR/repair-TIME/plan.json    what is to be renamed; from then on it is certain to happen
    DIR/repair-TIME/report.json  it did

Nothing is ever written over or removed: files are moved, the old ones first, then the new ones.
FORMAT goes before the plan is made certain and comes last, so that no server can start and take
writes that the rest of the exchange would move aside; ``durastream repair`` does what is left
of one that was cut short. It must never decide what to exchange.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from .._native.disk import Disk, PosixDisk

FOLDER = re.compile(r"repair-\d{4}-\d\d-\d\dT\d{6}Z(-\d+)?")
_FORMAT, _ROWS = "FORMAT", "meta.lmdb"


class Plan(msgspec.Struct, frozen=True):
    """Names are below the data directory; each move is (from, to)."""

    aside: list[tuple[str, str]]
    into: list[tuple[str, str]]
    report: dict[str, Any]


class Exchange:
    """One folder ``repair-TIME``.

    Args:
        rows: LMDB's directory if ``disk`` is simulated; its folder stands for the real one.
    """

    def __init__(self, disk: Disk, path: Path, name: str, rows: Path | None = None) -> None:
        self._disk = disk
        self._path = path
        self._rows = rows
        self.name = name
        self.folder = path / name

    # -- names ---------------------------------------------------------------------------------

    def new(self, name: str) -> str:
        """The name of something new until it takes its place."""
        return f"{self.name}/new-{name}"

    def place(self, name: str) -> tuple[Disk, Path]:
        """Where a name of a plan is; rows are on the real disk, always."""
        if self._rows is not None and name.endswith(_ROWS):
            return PosixDisk(), self._rows.parent / name
        return self._disk, self._path / name

    def exists(self, name: str) -> bool:
        disk, path = self.place(name)
        return disk.exists(path)

    # -- before --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make the folder. What an attempt that was cut short built there is built anew."""
        for name in ("", "wal", "segments"):
            for folder in (self.folder / name, self._path / name):
                if not self._disk.exists(folder):
                    self._disk.make_directory(folder)
        disk, rows = self.place(self.new(_ROWS))
        if not disk.exists(rows.parent):
            disk.make_directory(rows.parent)
        if disk.exists(rows):
            for name in disk.list_directory(rows):
                disk.unlink(rows / name)
        for name in self._disk.list_directory(self.folder):
            if name.startswith("new-") and not name.endswith(_ROWS):
                self._disk.unlink(self.folder / name)
        self._disk.sync_directory(self._path)

    @contextmanager
    def writing(self, name: str) -> Iterator[int]:
        """A new file, synced at the end; gives its handle."""
        handle = self._disk.open(self._path / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            yield handle
            self._disk.sync(handle)
        finally:
            self._disk.close(handle)

    def write(self, name: str, content: bytes) -> None:
        with self.writing(name) as handle:
            self._disk.pwrite(handle, content, 0)

    def commit(self, plan: Plan) -> None:
        """From here on the exchange is certain. All that is new must be synced."""
        self._sync_folders(["", self.name])
        for old, kept in plan.aside:
            if old == _FORMAT and self.exists(old):
                self._move(old, kept)
                self._sync_moves([(old, kept)])  # now no server starts
        self._publish("plan.json", msgspec.json.encode(plan))

    def _publish(self, name: str, content: bytes) -> None:
        temporary = f"{self.name}/{name}.tmp"
        self.write(temporary, content)
        self._disk.rename(self._path / temporary, self.folder / name)
        self._disk.sync_directory(self.folder)

    # -- and after -----------------------------------------------------------------------------

    @property
    def has_plan(self) -> bool:
        return self._disk.exists(self.folder / "plan.json")

    @property
    def is_unfinished(self) -> bool:
        """Whether an exchange was begun for certain, and cut short.

        Where somebody put FORMAT back by hand, it is not gone on with: servers may have run.
        """
        if not self.has_plan or self._disk.exists(self.folder / "report.json"):
            return False
        return self.exists(_FORMAT) != self.exists(self.new(_FORMAT))

    def plan(self) -> Plan:
        handle = self._disk.open(self.folder / "plan.json", os.O_RDONLY)
        try:
            raw = self._disk.pread(handle, self._disk.size(handle), 0)
        finally:
            self._disk.close(handle)
        return msgspec.json.decode(raw, type=Plan)

    def finish(self, plan: Plan) -> None:
        """Do what was not done yet. Raises: OSError; then it can be done again."""
        for old, kept in plan.aside:
            if not self.exists(kept) and self.exists(old):
                self._move(old, kept)
        self._sync_moves(plan.aside)
        for new, name in plan.into[:-1]:
            if self.exists(new):
                self._move(new, name)
        self._sync_moves(plan.into)
        for new, name in plan.into[-1:]:  # FORMAT
            if self.exists(new):
                self._move(new, name)
        self._sync_moves(plan.into[-1:])
        self._publish("report.json", msgspec.json.format(msgspec.json.encode(plan.report)))

    def _move(self, old: str, new: str) -> None:
        disk, source = self.place(old)
        disk.rename(source, self.place(new)[1])

    def _sync_moves(self, moves: list[tuple[str, str]]) -> None:
        """New places first: a name must not be gone from both."""
        folders = [os.path.dirname(new) for _, new in moves]
        self._sync_folders([*folders, *(os.path.dirname(old) for old, _ in moves)])
        if any(name.endswith(_ROWS) for move in moves for name in move):
            for name in dict.fromkeys(os.path.dirname(n) for move in moves for n in move):
                if name in ("", self.name):
                    disk, path = self.place(f"{name}/{_ROWS}" if name else _ROWS)
                    disk.sync_directory(path.parent)

    def _sync_folders(self, names: list[str]) -> None:
        for name in dict.fromkeys(names):
            folder = self._path / name if name else self._path
            if self._disk.exists(folder):
                self._disk.sync_directory(folder)


def folders(disk: Disk, path: Path) -> list[str]:
    """The names of all repairs of a directory, the oldest first."""
    return [name for name in disk.list_directory(path) if FOLDER.fullmatch(name)]


def new_name(disk: Disk, path: Path, *, taken: list[str]) -> str:
    """A name for a repair that begins now."""
    at = datetime.fromtimestamp(disk.wall_ms() / 1000, UTC)
    name = at.strftime("repair-%Y-%m-%dT%H%M%SZ")
    number, chosen = 1, name
    while chosen in taken:
        number += 1
        chosen = f"{name}-{number}"
    return chosen
