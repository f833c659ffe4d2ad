"""Close a stream that was found damaged by somebody who only knows its id (I6)."""

from __future__ import annotations

from .._native.segment import SegmentDamaged
from .catalog import Cold
from .errors import Damaged
from .file_engine import FileEngine


def quarantine_stream(engine: FileEngine, stream_id: int, damage: SegmentDamaged) -> Damaged | None:
    """Quarantine a stream as a reader would that meets the damage; None if it is gone.

    Blocks. Raises: StoreClosed, Damaged if its row is damaged, too.
    """
    while True:
        try:
            with engine.lock:
                entry = engine.catalog.entry(stream_id)
            return engine.quarantine(entry, damage)
        except Cold as cold:
            try:
                with engine.using_files():
                    cold.load()
            except LookupError:
                return None
