"""A disk in memory that forgets what was not synced: seeded, so that every run can be repeated.

Use it through ``DelegatedDisk(SimulatedDisk(seed))``. What a real disk guarantees is kept; of
everything else a crash leaves what it likes: of bytes see ``content``; of names made, moved and
removed any subset, unless their directory was synced; a directory that is lost takes along what
is in it. A rename is one change, as all file systems with a journal have it.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .content import Inode, Resize, Write, apply_to

# What to do at a call instead of it: fail with this errno; transfer only half (of a write);
# fail a sync, forget what it should have made durable, and say nothing at the next one (as the
# page cache of Linux does; a directory is remembered when it changes once more, since then its
# page is written as a whole); or any fault that fits the call.
Fault: TypeAlias = int | Literal["short", "lost sync", "any"]

NO_ROOM = [errno.ENOSPC, errno.EDQUOT]
FITTING: dict[str, list[Fault]] = {
    "open": [errno.EIO, errno.EMFILE, errno.ENFILE, *NO_ROOM],
    "pread": [errno.EIO],
    "pwrite": [errno.EIO, *NO_ROOM, "short", "short"],
    "sync": [errno.EIO, errno.ENOSPC, "lost sync", "lost sync"],
    "allocate": [errno.EIO, *NO_ROOM],
    "truncate": [errno.EIO],
    "map": [errno.ENOMEM],
    "rename": [errno.EIO, *NO_ROOM],
    "unlink": [errno.EIO],
    "make_directory": [errno.EIO, *NO_ROOM],
    "sync_directory": [errno.EIO, "lost sync"],
    "list_directory": [errno.EIO, errno.EMFILE],
    "lmdb commit": [errno.EIO, *NO_ROOM],
}


class PowerLoss(OSError):
    """The power went off during a call. Whoever sees it must not believe anything any more."""

    def __init__(self, operation: str) -> None:
        super().__init__(errno.EIO, f"power loss in {operation}")


@dataclass(eq=False)
class NameChange:
    """One step of a directory: what each name in it stands for afterwards."""

    directory: str
    names: dict[str, Inode | None]
    made: frozenset[str] = frozenset()  # directories
    is_forgotten: bool = False  # by a sync that failed


class SimulatedDisk:
    """The target of a ``DelegatedDisk``.

    Attributes:
        call_count: calls so far (those that only look at clock or chance do not count).
        crash_at: the call during which the power goes off.
        faults: what goes wrong at which call.
        met: (operation, fault) of every fault that came about.
        trace: (operation, path) of every call.
        clock_ns: both clocks; tests move it.
        capacity: bytes that all files may have together; None: any number.
        before_call: called before every call: another task may go on there.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.unsynced_names: list[NameChange] = []
        self.directories: set[str] = set()
        self.durable_directories: set[str] = set()
        self.roots: set[str] = set()
        self.parents: set[str] = set()  # directories that are not the store's own
        self.descriptors: dict[int, tuple[str, Inode]] = {}
        self.locked: dict[Inode, int] = {}
        self.call_count = 0
        self.crash_at: int | None = None
        self.crashed = False
        self.faults: dict[int, Fault] = {}
        self.met: list[tuple[str, Fault]] = []
        self.trace: list[tuple[str, str]] = []
        self.clock_ns = 1_700_000_000_000_000_000
        self.capacity: int | None = None
        self.before_call: Callable[[str], None] | None = None
        self._next_fd = 1000

    # -- calls and faults -----------------------------------------------------------------

    def _call(self, operation: str, path: str, changes: bool = False) -> Fault | None:
        """Count a call. The power may be gone, or go now, or something else goes wrong.

        A call that ``changes`` something may have done so before the power went: see ``_done``.
        """
        if self.before_call is not None:
            self.before_call(operation)
        if self.crashed:
            raise PowerLoss(operation)
        self.call_count += 1
        self.trace.append((operation, path))
        if not changes:
            self._done()
        fault = self.faults.get(self.call_count)
        if fault == "any":
            fault = self.rng.choice(FITTING.get(operation, [None]))
        if fault == "lost sync" and path in self.parents:
            fault = errno.EIO  # nobody could change it once more
        if fault is not None:
            self.met.append((operation, fault))
        if isinstance(fault, int):
            raise OSError(fault, os.strerror(fault), path)
        return fault

    def _done(self) -> None:
        if self.call_count == self.crash_at:
            self.crashed = True
            raise PowerLoss(self.trace[-1][0])

    # -- space ----------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """Bytes of all files that have a name, or are still open."""
        inodes = [*self.names.values(), *(inode for _, inode in self.descriptors.values())]
        return sum(len(inode.current) for inode in {id(each): each for each in inodes}.values())

    @property
    def room(self) -> float:
        """Bytes by which files may grow."""
        return float("inf") if self.capacity is None else max(0, self.capacity - self.used)

    def require_room(self, operation: str, path: str, growth: int) -> None:
        """Raises: OSError, ENOSPC."""
        if self.capacity is not None and growth > self.room:
            self.met.append((operation, errno.ENOSPC))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    # -- crashes --------------------------------------------------------------------------

    def crash(self, seed: int | None = None) -> SimulatedDisk:
        """The disk that comes up after the power went off now."""
        after = SimulatedDisk(self.rng.getrandbits(64) if seed is None else seed)
        after.clock_ns, after.capacity = self.clock_ns, self.capacity
        directories, names = set(self.durable_directories), dict(self.durable_names)
        for change in self.unsynced_names:
            if after.rng.random() < 0.5:
                apply_names(names, change)
                directories |= change.made
        after.directories = {path for path in directories if self._is_reachable(path, directories)}
        after.durable_directories, after.roots = set(after.directories), self.roots
        after.parents = self.parents
        names = {p: inode for p, inode in names.items() if os.path.dirname(p) in after.directories}
        twins = {id(inode): inode.after_crash(after.rng) for inode in names.values()}
        after.names = {name: twins[id(inode)] for name, inode in names.items()}
        after.durable_names = dict(after.names)
        return after

    def kill(self) -> SimulatedDisk:
        """The same disk for the next process: the page cache stays, descriptors and locks go."""
        after = SimulatedDisk(self.rng.getrandbits(64))
        after.clock_ns, after.capacity = self.clock_ns, self.capacity
        after.directories, after.roots = self.directories, self.roots
        after.parents = self.parents
        after.durable_directories = self.durable_directories
        after.names, after.durable_names = self.names, self.durable_names
        after.unsynced_names = self.unsynced_names
        self.crashed = True  # for whoever still holds a descriptor
        return after

    def _is_reachable(self, path: str, directories: set[str]) -> bool:
        """Whether a directory and all above it are there."""
        if path not in directories or path in self.roots:
            return path in directories
        return self._is_reachable(os.path.dirname(path), directories)

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
            self.require_room("open", path, 1)
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
        if (growth := position + len(data) - len(inode.current)) > 0 and growth > self.room:
            data = data[: len(inode.current) + int(self.room) - position]
            if not data:
                self.require_room("pwrite", self.descriptors[fd][0], growth)
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
        growth = position + size - len(inode.current)
        self.require_room("allocate", self.descriptors[fd][0], growth)
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
        """Make a directory; one whose parent is not of this disk is its root, and durable."""
        self._call("make_directory", path, changes=True)
        if path in self.directories:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        parent = os.path.dirname(path)
        if parent in self.directories:
            self.unsynced_names.append(NameChange(parent, {}, frozenset([path])))
        else:
            self.roots.add(path)
            self.durable_directories.add(path)
        self.directories.add(path)
        self._done()

    def sync_directory(self, path: str) -> None:
        fault = self._call("sync_directory", path)
        pending = [change for change in self.unsynced_names if change.directory == path]
        if fault == "lost sync":
            for change in pending:
                change.is_forgotten = True
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        if all(change.is_forgotten for change in pending):
            return
        for change in pending:
            apply_names(self.durable_names, change)
            self.durable_directories |= change.made
        self.unsynced_names[:] = [each for each in self.unsynced_names if each not in pending]

    def list_directory(self, path: str) -> list[str]:
        self._call("list_directory", path)
        names = [*self.names, *self.directories]
        return sorted(
            os.path.basename(name) for name in names if name != path == os.path.dirname(name)
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
