from collections.abc import Callable

from .log import Log, _Sink
from .wal_types import Checkpoint, Recovery

def recover(
    log: Log,
    checkpoint: Checkpoint | None,
    sink: _Sink,
    objection: Callable[[], tuple[int, str] | None] | None,
) -> Recovery:
    """See ``Log.recover``."""
