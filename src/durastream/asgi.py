"""``durastream.asgi:app``: the server for any ASGI host, durable in ``$DURASTREAM_DATA_DIR``.

    uvicorn durastream.asgi:app --timeout-graceful-shutdown 5

The directory (``./data`` by default) is opened when the host starts the application and
closed when it stops it. One process may have it open: give the host one worker. A host waits
for open connections before it tells an application to stop, so bound that time; ``durastream
serve`` needs no such option and also mends what its host answers by itself.
"""

from __future__ import annotations

import os

from .engine.store import Store
from .server.app import create_app


def _open() -> Store:
    from .engine.file_store import FileBackedStreamStore

    return FileBackedStreamStore(path=os.environ.get("DURASTREAM_DATA_DIR", "data"))


app = create_app(_open)
