import sys
from typing import Any, Self, final

from .disk import Disk

@final
class Reaper:
    @property
    def pinned_size(self) -> int:
        """Bytes of retired files that somebody still refers to."""

    def reap(self) -> int:
        """Give back what was let go of since the last call; how many files. Blocks."""

    def close(self) -> None:
        """The same for the last time."""

@final
class MappedFile:
    @property
    def path(self) -> Any: ...
    @property
    def size(self) -> int:
        """Bytes."""

    def __new__(cls, disk: Disk, path: str) -> Self: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
