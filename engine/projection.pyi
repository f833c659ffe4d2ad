from typing import Self, final

from .catalog import Change
from .entry import Dirty

@final
class Projection:
    """Changes on their way from the log to the readers and to the next flush."""

    visible_lsn: int
    next_stream_id: int  # behind the last stream whose creation was visible
    def __new__(cls) -> Self: ...
    @property
    def dirty(self) -> dict[int, Dirty]: ...
    @property
    def generation(self) -> int:
        """Of the set of dirty rows."""

    def push(self, change: Change) -> None:
        """Queue a change whose record was just staged."""

    def advance(self, durable_lsn: int) -> None:
        """Apply every change up to the durable watermark."""

    def apply(self, change: Change) -> None: ...
    def take_dirty(self) -> dict[int, Dirty]:
        """Everything dirty as of ``visible_lsn``; changes from now on start a new set."""

    def give_back(self, taken: dict[int, Dirty]) -> None:
        """After a failed flush: newer states win, producers are merged."""
