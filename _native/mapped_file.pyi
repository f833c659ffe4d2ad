import sys
from typing import Any, Self, final

from .disk import Disk

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
