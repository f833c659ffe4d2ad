"""A disk in memory that forgets what was not synced: seeded, so that every run can be repeated.

Use it through ``DelegatedDisk(SimulatedDisk(seed))``. What a real disk guarantees is kept:
bytes that were synced stay, as long as their sector is not written again. Everything else a
crash may take: each unsynced write is kept, lost, torn at 512 bytes or zeroed, independently of
the others; so is each unsynced change of a name. Nothing here may be kinder than that.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

SECTOR_SIZE = 512  # bytes: what a disk writes whole or not at all

# What to do at a call instead of it: fail with this errno; transfer only half (of a write); or
# fail a sync, forget what it should have made durable, and say nothing at the next one (as the
# page cache of Linux does).
Fault: TypeAlias = int | Literal["short", "lost sync"]


class PowerLoss(OSError):
    """The power went off during a call. Whoever sees it must not believe anything any more."""

    def __init__(self, operation: str) -> None:
        super().__init__(errno.EIO, f"power loss in {operation}")


@dataclass
class Write:
    position: int
    data: bytes


@dataclass
class Resize:
    size: int


@dataclass(eq=False)
class Inode:
    durable: bytearray = field(default_factory=bytearray)
    current: bytearray = field(default_factory=bytearray)
    unsynced: list[Write | Resize] = field(default_factory=list)

    def apply(self, change: Write | Resize) -> None:
        self.unsynced.append(change)
        apply_to(self.current, change)

    def sync(self) -> None:
        # Not a copy of ``current``: that may hold what an earlier failed sync has lost.
        for change in self.unsynced:
            apply_to(self.durable, change)
        self.unsynced.clear()

    def after_crash(self, rng: random.Random) -> Inode:
        content = bytearray(self.durable)
        for change in self.unsynced:
            survive(content, change, rng)
        return Inode(bytearray(content), content)


def apply_to(content: bytearray, change: Write | Resize) -> None:
    if isinstance(change, Resize):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    end = change.position + len(change.data)
    content.extend(bytes(max(0, end - len(content))))
    content[change.position : end] = change.data


def survive(content: bytearray, change: Write | Resize, rng: random.Random) -> None:
    """Apply what a crash leaves of one change."""
    fate = rng.choice(["kept", "lost", "torn", "zeroed", "grown"])
    if isinstance(change, Resize):
        if fate in ("kept", "grown"):
            apply_to(content, change)
    elif fate == "kept":
        apply_to(content, change)
    elif fate == "grown":  # the size was journalled, the data was not written
        end = change.position + len(change.data)
        content.extend(bytes(max(0, end - len(content))))
    elif fate != "lost":
        for part in sectors(change):
            if rng.random() < 0.5:
                blank = Write(part.position, bytes(len(part.data)))
                apply_to(content, part if fate == "torn" else blank)


def sectors(write: Write) -> Iterator[Write]:
    position, end = write.position, write.position + len(write.data)
    while position < end:
        stop = min(end, position - position % SECTOR_SIZE + SECTOR_SIZE)
        yield Write(position, write.data[position - write.position : stop - write.position])
        position = stop


@dataclass
class NameChange:
    """One step of a directory: what each name in it stands for afterwards."""

    directory: str
    names: dict[str, Inode | None]


class SimulatedDisk:
    """The target of a ``DelegatedDisk``.

    Attributes:
        call_count: calls so far (those that only look at clock or chance do not count).
        crash_at: the call during which the power goes off.
        faults: what goes wrong at which call.
        trace: (operation, path) of every call.
        clock_ns: both clocks; tests move it.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.unsynced_names: list[NameChange] = []
        self.directories: set[str] = set()
        self.descriptors: dict[int, tuple[str, Inode]] = {}
        self.locked: dict[Inode, int] = {}
        self.call_count = 0
        self.crash_at: int | None = None
        self.crashed = False
        self.faults: dict[int, Fault] = {}
        self.trace: list[tuple[str, str]] = []
        self.clock_ns = 1_700_000_000_000_000_000
        self._next_fd = 1000

    # -- crashes and faults ---------------------------------------------------------------

    def _call(self, operation: str, path: str, changes: bool = False) -> Fault | None:
        """Count a call. The power may be gone, or go now, or something else goes wrong.

        A call that ``changes`` something may have done so before the power went: see ``_done``.
        """
        if self.crashed:
            raise PowerLoss(operation)
        self.call_count += 1
        self.trace.append((operation, path))
        if not changes:
            self._done()
        fault = self.faults.get(self.call_count)
        if isinstance(fault, int):
            raise OSError(fault, os.strerror(fault), path)
        return fault

    def _done(self) -> None:
        if self.call_count == self.crash_at:
            self.crashed = True
            raise PowerLoss(self.trace[-1][0])

    def crash(self, seed: int | None = None) -> SimulatedDisk:
        """The disk that comes up after the power went off now."""
        after = SimulatedDisk(self.rng.getrandbits(64) if seed is None else seed)
        after.directories = set(self.directories)
        after.clock_ns = self.clock_ns
        names = dict(self.durable_names)
        for change in self._surviving_names(after.rng):
            apply_names(names, change)
        twins = {id(inode): inode.after_crash(after.rng) for inode in names.values()}
        after.names = {name: twins[id(inode)] for name, inode in names.items()}
        after.durable_names = dict(after.names)
        return after

    def _surviving_names(self, rng: random.Random) -> list[NameChange]:
        """Each unsynced change of names may be lost, and with it what builds on it."""
        survivors: list[NameChange] = []
        lost_names: set[str] = set()
        for change in self.unsynced_names:
            if rng.random() < 0.5 or lost_names & change.names.keys():
                lost_names |= change.names.keys()
            else:
                survivors.append(change)
        return survivors

    # -- for tests ------------------------------------------------------------------------

    def files(self) -> dict[str, bytes]:
        return {name: bytes(inode.current) for name, inode in sorted(self.names.items())}

    def overwrite(self, path: str, position: int, data: bytes) -> None:
        """Damage a file, durably."""
        inode = self.names[path]
        for content in (inode.current, inode.durable):
            apply_to(content, Write(position, data))

    def advance(self, seconds: float) -> None:
        self.clock_ns += int(seconds * 1e9)

    # -- files ----------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        self._call("open", path, changes=True)
        inode = self.names.get(path)
        if inode is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self._check_directory(path)
            inode = Inode()
            self._change_names(path, {path: inode})
        elif flags & os.O_TRUNC:
            inode.apply(Resize(0))
        self._next_fd += 1
        self.descriptors[self._next_fd] = (path, inode)
        self._done()
        return self._next_fd

    def _find(self, operation: str, fd: int, changes: bool = False) -> tuple[Inode, Fault | None]:
        if fd not in self.descriptors:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        path, inode = self.descriptors[fd]
        return inode, self._call(operation, path, changes)

    def close(self, fd: int) -> None:
        inode, _ = self._find("close", fd)
        if self.locked.get(inode) == fd:
            del self.locked[inode]
        del self.descriptors[fd]

    def size(self, fd: int) -> int:
        inode, _ = self._find("size", fd)
        return len(inode.current)

    def pread(self, fd: int, size: int, position: int) -> bytes:
        inode, _ = self._find("pread", fd)
        return bytes(inode.current[position : position + size])

    def pwrite(self, fd: int, data: bytes, position: int) -> int:
        inode, fault = self._find("pwrite", fd, changes=True)
        if fault == "short":
            data = data[: max(1, len(data) // 2)]
        inode.apply(Write(position, data))
        self._done()
        return len(data)

    def sync(self, fd: int) -> None:
        inode, fault = self._find("sync", fd)
        if fault == "lost sync":
            inode.unsynced.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        inode.sync()

    def allocate(self, fd: int, position: int, size: int) -> None:
        inode, _ = self._find("allocate", fd, changes=True)
        inode.apply(Resize(max(len(inode.current), position + size)))
        self._done()

    def truncate(self, fd: int, size: int) -> None:
        inode, _ = self._find("truncate", fd, changes=True)
        inode.apply(Resize(size))
        self._done()

    def map(self, fd: int, size: int) -> bytes:
        inode, _ = self._find("map", fd)
        return bytes(inode.current[:size])

    def lock(self, fd: int) -> None:
        inode, _ = self._find("lock", fd)
        if self.locked.setdefault(inode, fd) != fd:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))

    # -- names ----------------------------------------------------------------------------

    def _check_directory(self, path: str) -> None:
        directory = os.path.dirname(path)
        if directory not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _change_names(self, path: str, names: dict[str, Inode | None]) -> None:
        change = NameChange(os.path.dirname(path), names)
        apply_names(self.names, change)
        self.unsynced_names.append(change)

    def rename(self, old: str, new: str) -> None:
        self._call("rename", new, changes=True)
        if old not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        self._check_directory(new)
        self._change_names(new, {new: self.names[old], old: None})
        self._done()

    def unlink(self, path: str) -> None:
        self._call("unlink", path, changes=True)
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._change_names(path, {path: None})
        self._done()

    def make_directory(self, path: str) -> None:
        """Directories are durable at once: the store makes them before it promises anything."""
        self._call("make_directory", path, changes=True)
        if path in self.directories:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self.directories.add(path)
        self._done()

    def sync_directory(self, path: str) -> None:
        self._call("sync_directory", path)
        rest = []
        for change in self.unsynced_names:
            if change.directory == path:
                apply_names(self.durable_names, change)
            else:
                rest.append(change)
        self.unsynced_names = rest

    def list_directory(self, path: str) -> list[str]:
        self._call("list_directory", path)
        return sorted(
            os.path.basename(name) for name in self.names if os.path.dirname(name) == path
        )

    def exists(self, path: str) -> bool:
        return path in self.names or path in self.directories

    # -- clock and chance -----------------------------------------------------------------

    def wall_ms(self) -> int:
        return self.clock_ns // 1_000_000

    def monotonic_ns(self) -> int:
        return self.clock_ns

    def random(self) -> int:
        return self.rng.getrandbits(64)


def apply_names(names: dict[str, Inode], change: NameChange) -> None:
    for name, inode in change.names.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode
