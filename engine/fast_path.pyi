from typing import final

from ..protocol.results import Bytes
from .file_engine import FileEngine

@final
class Shown:
    """A stream as readers see it, and a range of it that reaches its tail."""

    @property
    def start(self) -> int: ...
    @property
    def tail(self) -> int:
        """And the end of the range."""

    @property
    def incarnation(self) -> int: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def is_json(self) -> bool: ...
    @property
    def content_type(self) -> bytes: ...
    @property
    def buffers(self) -> list[Bytes] | None:
        """The range's bytes; None from ``try_look``."""

@final
class FastPath:
    """Appends and reads of one open file store, for the thread of one event loop."""

    def __init__(self, engine: FileEngine) -> None: ...
    def try_append(self, path: bytes, content_type: bytes, body: bytes) -> tuple[int, int] | None:
        """Log an append; the LSN that its answer must wait for, and the stream's new tail.

        None: nothing was changed, ``store.aio.append`` has to decide. ``path`` is ASCII, ``body``
        has at least one byte.
        """

    def try_read(self, path: bytes, offset: bytes = b"", size_max: int = 4194304) -> Shown | None:
        """The bytes from an offset (empty: the start) to the tail, if all are in memory.

        None: ``store.aio.read`` has to find them, or says what is wrong.
        """

    def try_look(self, path: bytes) -> Shown | None:
        """What HEAD tells; None: ``store.aio.get`` has to say it."""
