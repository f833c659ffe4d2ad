from typing import Self, final

@final
class DueQueue:
    """Used by ``FastFront`` only, in C."""

    def __new__(cls) -> Self: ...
    def __len__(self) -> int: ...
