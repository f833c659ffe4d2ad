from os import PathLike
from typing import TypeAlias, final

Path: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]
Data: TypeAlias = bytes | bytearray | memoryview

class Disk:
    def open(self, path: Path, flags: int = ...) -> int:
        """Open with ``os.O_*`` flags (close-on-exec, mode 0644); returns the descriptor."""

    def close(self, fd: int) -> None: ...
    def size(self, fd: int) -> int:
        """Bytes in the file."""

    def pread(self, fd: int, size: int, position: int) -> bytes:
        """``size`` bytes from ``position``, fewer only at the end of the file."""

    def pwrite(self, fd: int, data: Data, position: int) -> None:
        """Write all of ``data``, going on after short writes. Nothing is durable before ``sync``."""

    def sync(self, fd: int) -> None:
        """Make the file's bytes and size durable. After an error nothing is known of them (I7)."""

    def allocate(self, fd: int, position: int, size: int) -> None:
        """Reserve space for a range, growing the file if it ends behind it; raises ENOSPC."""

    def truncate(self, fd: int, size: int) -> None: ...
    def rename(self, old: Path, new: Path) -> None:
        """Rename, replacing ``new``; durable once the directory is synced."""

    def unlink(self, path: Path) -> None: ...
    def make_directory(self, path: Path) -> None: ...
    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable: files created, renamed and unlinked in it."""

    def lock(self, fd: int) -> None:
        """Take the file's exclusive advisory lock; raises BlockingIOError if another holds it."""

    def wall_ms(self) -> int:
        """Unix time, ms."""

    def monotonic_ns(self) -> int: ...
    def random(self) -> int:
        """64 random bits."""

    def list_directory(self, path: Path) -> list[str]:
        """The names in a directory, sorted."""

    def exists(self, path: Path) -> bool: ...

@final
class PosixDisk(Disk):
    def __init__(self) -> None: ...
