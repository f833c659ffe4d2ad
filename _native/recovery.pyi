from .log import Log, Sink
from .wal_types import Checkpoint, Recovery

def recover(log: Log, checkpoint: Checkpoint | None, sink: Sink) -> Recovery:
    """See ``Log.recover``."""
