from typing import Self, final

from .disk import Disk
from .wal_types import Checkpoint, ScannedFrame
from .wal_walk import WalWalk

@final
class WalScan:
    """Iterates over the frames whose records lie behind ``checkpoint`` (None: all).

    ``walk`` tells what is wrong with the log, complete once the iteration has ended.

    Raises: OSError; ValueError for a checkpoint that is none.
    """

    def __new__(
        cls, disk: Disk, directory: str, store_id: bytes, checkpoint: Checkpoint | None
    ) -> Self: ...
    @property
    def walk(self) -> WalWalk: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> ScannedFrame: ...
