from array import array

from .._native.log import Log
from ..protocol.results import Bytes
from .entry import Entry
from .projection import Projection

RECORD_KIND: int

def encoded_meta(accessed_at: int) -> bytes:
    """``AppendMeta(accessed_at)`` as it is written."""

def append_plain(
    log: Log,
    projection: Projection,
    entry: Entry,
    data: Bytes,
    message_sizes: array[int] | None,
    now_ms: int,
) -> int:
    """Log wire bytes at the tail of a plain stream; the record's LSN.

    Args:
        data: at least one byte.
        message_sizes: uint32; None: one message.

    Raises: TooLarge, LogFull, LogFailed, RecordTooLarge; nothing is changed then.
    """
