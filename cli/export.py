"""``durastream export``: streams as files, from a data directory or from any server.

Progress goes to stderr on a terminal; the result, for people or as one JSON object, to stdout.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click

from ..engine.errors import StorageError
from ..engine.transfer_format import StreamLine
from ..protocol.errors import StreamError
from .exit_status import OK
from .export_source import open_source
from .export_url import UrlExport
from .offline import Failed, count_text, exit_status, size_text
from .progress import Work, drive


class ExportWork(Work, Protocol):
    """What both kinds of export are."""

    lines: list[StreamLine]


@click.command(
    epilog="Exit status: 0 exported, 1 could not be done, 2 wrong usage, 6 stored data is damaged, "
    "130 Ctrl+C."
)
@click.argument("source", metavar="DIR|URL")
@click.argument("streams", metavar="[STREAM]...", nargs=-1)
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--all", "is_all", is_flag=True, help="Export all streams; only from a directory.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def export(
    ctx: click.Context,
    source: str,
    streams: tuple[str, ...],
    folder: Path,
    is_all: bool,
    as_json: bool,
) -> None:
    """Write streams as files to FOLDER, which is empty or new.

    From a data directory, with everything: offsets, message ends, producers, times. If a server
    has it open, a copy is made first. Or from the URL of a server, say
    http://127.0.0.1:4437/v1/stream/, with what it tells. A STREAM is a path: /v1/stream/orders,
    or with a URL what is behind it. `durastream import` reads FOLDER.
    """
    if is_all == bool(streams):
        raise click.UsageError("streams are wanted, or --all")
    if is_all and _is_url(source):
        raise click.UsageError("a server does not tell what streams it has: name them")
    with exit_status(ctx):
        started = time.monotonic()
        try:
            with _open(source, folder, None if is_all else streams) as work:
                drive(work, "Exporting")
        except StorageError:
            raise
        except StreamError as error:
            raise Failed(str(error)) from error
        seconds = time.monotonic() - started
        click.echo(_json(work, folder, seconds) if as_json else _text(work, folder, seconds))
        ctx.exit(OK)


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


@contextmanager
def _open(source: str, folder: Path, streams: Sequence[str] | None) -> Iterator[ExportWork]:
    if _is_url(source):
        yield UrlExport(source, streams or (), folder)
        return
    scratch = folder.with_name(f"{folder.name}.copy")
    with open_source(Path(source), scratch) as store:
        yield store.exporting(folder, streams)


def _json(work: ExportWork, folder: Path, seconds: float) -> str:
    return json.dumps(
        {
            "folder": str(folder),
            "stream_count": len(work.lines),
            "size": sum(line.size for line in work.lines),
            "message_count": sum(line.message_count for line in work.lines),
            "seconds": round(seconds, 3),
        }
    )


def _text(work: ExportWork, folder: Path, seconds: float) -> str:
    size = size_text(sum(line.size for line in work.lines))
    messages = count_text(sum(line.message_count for line in work.lines), "message")
    streams = count_text(len(work.lines), "stream")
    done = click.style(f"Exported; {seconds:.1f} s.", fg="green", bold=True)
    return f"  {click.style('Streams   ', dim=True)}{streams}, {messages}, {size}\n\n{done}"
