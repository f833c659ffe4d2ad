from typing import final

from .file_engine import FileEngine

@final
class FastPath:
    """Appends of one open file store, for the thread of one event loop."""

    def __init__(self, engine: FileEngine) -> None: ...
    def try_append(self, path: bytes, content_type: bytes, body: bytes) -> tuple[int, int] | None:
        """Log an append; the LSN that its answer must wait for, and the stream's new tail.

        None: nothing was changed, ``store.aio.append`` has to decide. ``path`` is ASCII, ``body``
        has at least one byte.
        """
