"""``durastream serve``: its options, and what is wrong with them. It runs in ``serving``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from .. import __version__
from ..engine.options import MIB, FileStoreOptions
from .config_file import load_config

LOG_LEVELS = ["critical", "error", "warning", "info", "debug", "trace"]

# From weak to strong.
_SOURCES = [
    ParameterSource.DEFAULT,
    ParameterSource.DEFAULT_MAP,
    ParameterSource.ENVIRONMENT,
    ParameterSource.COMMANDLINE,
]


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """The values of all options; times in seconds."""

    host: str
    port: int
    uds: Path | None
    data_dir: Path | None  # None: in memory
    scrub_rate: float  # MiB a second
    scrub_interval: float
    long_poll_timeout: float
    sse_max_age: float
    retention_seconds: int | None
    retention_bytes: int | None
    public_url: str | None
    root_path: str
    allow_unauthenticated: bool
    log_level: str
    access_log: bool
    front: Literal["fast", "asgi"]
    limit_concurrency: int | None
    timeout_graceful_shutdown: float
    proxy_headers: bool
    forwarded_allow_ips: str | None
    ssl_keyfile: Path | None
    ssl_certfile: Path | None
    ssl_keyfile_password: str | None


def _refuse_workers(ctx: click.Context, parameter: click.Parameter, value: int) -> None:
    if value != 1:
        raise click.BadParameter(
            f"{value} is not possible: one data directory has one writing process, and that one "
            "serves tens of thousands of connections. For more, run several servers with a "
            "--data-dir and a --port each",
            ctx,
            parameter,
        )


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command(
    epilog="Each option can also come from the environment (--data-dir: "
    "DURASTREAM_SERVE_DATA_DIR) or from the [serve] table of a TOML file (data-dir = ...). "
    "Exit status: 0 stopped, 1 failed, 2 wrong usage, 6 damaged data, 130 Ctrl+C."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "-p", "--port", type=click.IntRange(0, 65535), default=4437, show_default=True,
    help="Port to listen on; 0 takes any that is free.",
)  # fmt: skip
@click.option("--uds", type=click.Path(path_type=Path), help="Listen on a UNIX socket instead.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), default=Path("data"), show_default=True,
    metavar="DIR", help="Where the streams are stored; made if missing.",
)  # fmt: skip
@click.option("--memory", is_flag=True, help="Keep streams in memory: they end with the server.")
@click.option(
    "--scrub-rate", type=click.FloatRange(min=0), default=FileStoreOptions().scrub_rate / MIB,
    show_default=True, metavar="MIB",
    help="MiB a second that the check of stored data reads; 0 switches it off.",
)  # fmt: skip
@click.option(
    "--scrub-interval", type=click.FloatRange(min=0),
    default=FileStoreOptions().scrub_interval, show_default=True, metavar="SECONDS",
    help="How often all stored data is checked; 0 switches it off.",
)  # fmt: skip
@click.option(
    "--long-poll-timeout", type=click.FloatRange(min=0), default=30.0, show_default=True,
    metavar="SECONDS", help="How long a long-poll waits for data.",
)  # fmt: skip
@click.option(
    "--sse-max-age", type=_SECONDS, default=60.0, show_default=True, metavar="SECONDS",
    help="When an event stream ends and its client reconnects.",
)  # fmt: skip
@click.option(
    "--retention-seconds", type=click.IntRange(1), metavar="SECONDS",
    help="Drop older data of streams whose creator does not say what to keep.",
)  # fmt: skip
@click.option(
    "--retention-bytes", type=click.IntRange(1), metavar="BYTES",
    help="The same, but keep at least so much of the newest data.",
)  # fmt: skip
@click.option("--public-url", metavar="URL", help="What clients see: the base of Location.")
@click.option("--root-path", default="", help="Prefix that a proxy in front strips from paths.")
@click.option(
    "--allow-unauthenticated", is_flag=True,
    help="Listen beyond this machine: whoever reaches the port can read and write.",
)  # fmt: skip
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
@click.option(
    "--front",
    type=click.Choice(["fast", "asgi"]),
    default="fast",
    show_default=True,
    help="asgi: have the application answer everything, a tenth as fast.",
)
@click.option("--access-log/--no-access-log", default=False, show_default=True)
@click.option("--limit-concurrency", type=click.IntRange(1), help="Requests at once; else 503.")
@click.option(
    "--timeout-graceful-shutdown", type=click.FloatRange(min=0), default=10.0,
    show_default=True, metavar="SECONDS", help="For answers under way when stopping.",
)  # fmt: skip
@click.option("--proxy-headers/--no-proxy-headers", default=True, show_default=True)
@click.option("--forwarded-allow-ips", help="Proxies whose X-Forwarded-* headers are believed.")
@click.option("--ssl-keyfile", type=_FILE, help="TLS key.")
@click.option("--ssl-certfile", type=_FILE, help="TLS certificate chain.")
@click.option("--ssl-keyfile-password", help="Of the TLS key.")
@click.option("--workers", type=int, default=1, hidden=True, callback=_refuse_workers,
              expose_value=False)  # fmt: skip
@click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), is_eager=True,
    expose_value=False, callback=load_config, metavar="FILE", help="TOML file with defaults.",
)  # fmt: skip
@click.version_option(__version__, prog_name="durastream")
@click.pass_context
def serve(ctx: click.Context, /, memory: bool, data_dir: Path, **options: Any) -> None:
    """Serve durable streams over HTTP.

    Every acknowledgement means: on disk. See --memory for the exception.
    """
    place = None if _is_in_memory(ctx, memory) else data_dir
    if bool(options["ssl_keyfile"]) > bool(options["ssl_certfile"]):
        raise click.UsageError("--ssl-keyfile needs --ssl-certfile")
    from .serving import run  # here, so that --help does not load a server

    ctx.exit(run(ServeSettings(data_dir=place, **options)))


def _is_in_memory(ctx: click.Context, memory: bool) -> bool:
    """``--memory``, unless ``--data-dir`` comes from a stronger source."""
    if not memory:
        return False
    sources = [ctx.get_parameter_source(name) for name in ("memory", "data_dir")]
    memory_rank, data_dir_rank = (_SOURCES.index(s) if s in _SOURCES else 0 for s in sources)
    if memory_rank == data_dir_rank:
        raise click.UsageError("--memory and --data-dir exclude each other")
    return memory_rank > data_dir_rank
