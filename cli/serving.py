"""Run a server for ``durastream serve``: open, listen, announce, wait for a signal, close.

Whatever goes wrong on the way is one line on stderr and an exit status, no traceback.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..engine.errors import Damaged, DirectoryInUse, StorageError
from ..engine.options import MIB, FileStoreOptions, Limits
from ..engine.store import Store
from ..server.app import create_app
from ..server.lifecycle import new_event_loop
from ..server.serving import ServeOptions, Serving
from ..server.sockets import (
    AddressError,
    NotLoopback,
    base_url,
    listen_tcp,
    listen_unix,
    remove_unix,
)
from .banner import Banner, curl_commands, print_banner
from .descriptors import allow_descriptors
from .exit_status import CORRUPT, FAILURE, IN_USE, INTERRUPTED, OK, USAGE

if TYPE_CHECKING:
    from .serve import ServeSettings

TRACE = 5  # uvicorn's level below debug

# A thread that flushes beside a busy event loop, or the loop beside the flush, waits so long at
# most for the interpreter: with Python's 5 ms a flush of many rows took several times as long.
SWITCH_INTERVAL = 0.0005  # seconds


def run(settings: ServeSettings) -> int:
    """Serve until SIGINT or SIGTERM; the exit status."""
    _configure_logging(settings)
    sys.setswitchinterval(SWITCH_INTERVAL)
    allow_descriptors()
    listeners: list[socket.socket] = []
    try:
        listeners = _listen(settings)
        store = _open(settings)
    except NotLoopback as error:
        return _fail(f"{error}, and this server asks nobody who they are. If something in front "
                     "of it does, add --allow-unauthenticated", USAGE, listeners)  # fmt: skip
    except Damaged as error:
        what = "`durastream verify` says what is hit, `durastream repair` mends what can be mended"
        return _fail(f"{error}. {what}", CORRUPT, listeners)
    except DirectoryInUse as error:
        return _fail(str(error), IN_USE, listeners)
    except (AddressError, StorageError, OSError) as error:
        return _fail(str(error), FAILURE, listeners)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, listeners)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(_serve(settings, store, listeners))
    except (ValueError, OSError) as error:  # an option without meaning, TLS files
        return _fail(str(error), USAGE, listeners)
    finally:
        store.close()
        if settings.uds is not None:
            remove_unix(settings.uds)


async def _serve(settings: ServeSettings, store: Store, listeners: list[socket.socket]) -> int:
    app = create_app(
        store,
        long_poll_timeout=settings.long_poll_timeout,
        sse_max_age=settings.sse_max_age,
        public_url=settings.public_url,
    )
    serving = Serving(app, _options(settings))
    status = OK

    def stop(signal_number: int) -> None:
        nonlocal status
        if serving.should_exit:
            serving.force_exit = True  # asked twice: do not wait for answers under way
        status = INTERRUPTED if signal_number == signal.SIGINT else OK
        serving.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    task = asyncio.create_task(serving.run_on(listeners))
    while not serving.started and not task.done():
        await asyncio.sleep(0)
    if not task.done():
        print_banner(_banner(settings, listeners, app.config.root))
    await task
    return status


def _listen(settings: ServeSettings) -> list[socket.socket]:
    if settings.uds is not None:
        return [listen_unix(settings.uds)]
    return listen_tcp(
        settings.host, settings.port, loopback_only=not settings.allow_unauthenticated
    )


def _open(settings: ServeSettings) -> Store:
    limits = Limits(
        retention_seconds=settings.retention_seconds, retention_bytes=settings.retention_bytes
    )
    if settings.data_dir is None:
        from ..engine.memory_store import StreamStore

        return StreamStore(limits=limits)
    from ..engine.file_store import FileBackedStreamStore

    options = FileStoreOptions(
        scrub_rate=int(settings.scrub_rate * MIB), scrub_interval=settings.scrub_interval
    )
    return FileBackedStreamStore(path=settings.data_dir, limits=limits, options=options)


def _options(settings: ServeSettings) -> ServeOptions:
    tls: dict[str, Any] = {}
    if settings.ssl_certfile is not None:
        tls = {
            "ssl_certfile": settings.ssl_certfile,
            "ssl_keyfile": settings.ssl_keyfile,
            "ssl_keyfile_password": settings.ssl_keyfile_password,
        }
    return ServeOptions(
        shutdown_timeout=settings.timeout_graceful_shutdown,
        limit_concurrency=settings.limit_concurrency,
        proxy_headers=settings.proxy_headers,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        root_path=settings.root_path,
        access_log=settings.access_log,
        front=settings.front,
        tls=tls,
    )


def _banner(settings: ServeSettings, listeners: list[socket.socket], root: str) -> Banner:
    uds = settings.uds
    base = "http://localhost" if uds else base_url(listeners[0], tls=bool(settings.ssl_certfile))
    is_durable = settings.data_dir is not None
    notes = []
    if settings.allow_unauthenticated:
        notes.append("whoever reaches this port can read and write every stream")
    return Banner(
        version=__version__,
        streams=f"{base}{root}" + (f"  on {uds}" if uds else ""),
        data=str(settings.data_dir.resolve()) if settings.data_dir else "in memory",
        engine="compiled" if is_durable else "memory, pure Python",
        durability=(
            "every acknowledgement is on disk (write-ahead log, synced)"
            if is_durable
            else "none: the streams end with this process"
        ),
        curl=curl_commands(base, root, str(uds) if uds else None),
        notes=notes,
    )


def _configure_logging(settings: ServeSettings) -> None:
    level = TRACE if settings.log_level == "trace" else settings.log_level.upper()
    logging.addLevelName(TRACE, "TRACE")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("durastream").setLevel(level)
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    # At "info" uvicorn tells of its own life, which the banner does better.
    quiet = settings.log_level == "info"
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING if quiet else level)


def _fail(message: str, status: int, listeners: list[socket.socket]) -> int:
    for listener in listeners:
        listener.close()
    click.echo(f"durastream: {message}", err=True)
    return status
