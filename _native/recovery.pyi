from .log import Log, _Sink
from .wal_types import Checkpoint, Recovery

def recover(log: Log, checkpoint: Checkpoint | None, sink: _Sink) -> Recovery:
    """See ``Log.recover``."""
