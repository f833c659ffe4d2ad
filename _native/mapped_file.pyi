from typing import Any, final

from .disk import Disk

@final
class MappedFile:
    @property
    def path(self) -> Any: ...
    @property
    def size(self) -> int:
        """Bytes."""

    def __init__(self, disk: Disk, path: str) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
