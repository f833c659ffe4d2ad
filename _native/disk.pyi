from contextlib import AbstractContextManager
from os import PathLike
from typing import Self, TypeAlias, final

from typing_extensions import disjoint_base

_Path: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]
_Data: TypeAlias = bytes | bytearray | memoryview

@disjoint_base
class Disk:
    def open(self, path: _Path, flags: int = ...) -> int:
        """Open with ``os.O_*`` flags (close-on-exec, mode 0644); returns the descriptor."""

    def close(self, fd: int) -> None: ...
    def size(self, fd: int) -> int:
        """Bytes in the file."""

    def pread(self, fd: int, size: int, position: int) -> bytes:
        """``size`` bytes from ``position``, fewer only at the end of the file."""

    def pwrite(self, fd: int, data: _Data, position: int) -> None:
        """Write all of ``data``, however many calls it takes; durable only after ``sync``."""

    def sync(self, fd: int) -> None:
        """Make the file's bytes and size durable. After an error nothing is known of them (I7)."""

    def allocate(self, fd: int, position: int, size: int) -> None:
        """Reserve space for a range, growing the file if it ends behind it; raises ENOSPC."""

    def truncate(self, fd: int, size: int) -> None: ...
    def rename(self, old: _Path, new: _Path) -> None:
        """Rename, replacing ``new``; durable once the directory is synced."""

    def unlink(self, path: _Path) -> None: ...
    def make_directory(self, path: _Path) -> None: ...
    directory_lock: AbstractContextManager[object]
    """Held while a directory is synced; a simulator has its own."""

    @property
    def directory_failures(self) -> int:
        """How many syncs of directories failed so far."""

    def sync_directory(self, path: _Path, since: int | None = None) -> None:
        """Make the names in a directory durable: files created, renamed and unlinked in it.

        Args:
            since: ``directory_failures`` from before the change. A sync that fails may make the
                system forget what others changed, and theirs then succeeds all the same: given
                this, it fails, too.
        """

    def lock(self, fd: int) -> None:
        """Take the file's exclusive advisory lock; raises BlockingIOError if another holds it."""

    def wall_ms(self) -> int:
        """Unix time, ms."""

    def monotonic_ns(self) -> int: ...
    def random(self) -> int:
        """64 random bits."""

    def list_directory(self, path: _Path) -> list[str]:
        """The names in a directory, sorted."""

    def exists(self, path: _Path) -> bool: ...

@final
class PosixDisk(Disk):
    def __new__(cls) -> Self: ...
