"""A durastream server whose store flushes, rolls its log and forgets rows all the time.

For runs that kill it: `durastream serve` would flush every 16 MiB, so that hardly any kill met a
flush. Made of the public API, as a program that embeds durastream would do it.

    python benchmarks/small_server.py PORT DATA_DIR LONG_POLL_SECONDS
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from durastream import DurableStreamServer, FileBackedStreamStore, FileStoreOptions, Limits

KIB, MIB = 1024, 1024 * 1024
LIMITS = Limits(body_size_max=1 * MIB)
OPTIONS = FileStoreOptions(
    wal_file_size=2 * MIB,
    wal_size_max=8 * MIB,
    slab_size=128 * KIB,
    flush_size=256 * KIB,
    flush_age=1.0,
    streams_cached_max=32,
    sweep_interval=0.2,
    lmdb_map_size=1024 * MIB,
    reserve_size=1 * MIB,
)


async def serve(port: int, data_dir: Path, long_poll_seconds: float) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = FileBackedStreamStore(data_dir, limits=LIMITS, options=OPTIONS)
    try:
        server = DurableStreamServer(port, store=store, long_poll_timeout=long_poll_seconds)
        async with server:
            await stop.wait()
    finally:
        store.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
