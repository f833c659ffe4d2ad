import sys
from typing import Self, final

@final
class SlabMemory:
    """How much the slabs of one log take together, those that only readers hold included."""

    def __new__(cls) -> Self: ...
    @property
    def size(self) -> int:
        """Bytes."""

@final
class Slab:
    """``capacity`` bytes; readable through the buffer protocol as far as used.

    ``counted`` counts them for as long as somebody holds the slab.

    Raises: ValueError if ``capacity`` is 0, MemoryError.
    """

    def __new__(cls, capacity: int, counted: SlabMemory | None = None) -> Self: ...
    def __len__(self) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

    @property
    def capacity(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def first_lsn(self) -> int: ...
    @property
    def last_lsn(self) -> int: ...
