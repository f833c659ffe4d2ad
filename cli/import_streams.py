"""``durastream import``: streams from files, or from a directory of the Node server.

Progress goes to stderr on a terminal; the result, for people or as one JSON object, to stdout.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from ..engine.file_store import FileBackedStreamStore
from ..engine.transfer_format import Incoming, read_list
from ..engine.transfer_in import ImportNote, ImportResult
from ..engine.transfer_node import is_node_directory, read_node_directory
from .exit_status import CORRUPT, FAILURE, OK
from .offline import DIRECTORY, count_text, exit_status, size_text
from .progress import drive

_SHOWN_MAX = 20


@click.command(
    "import",
    epilog="Exit status: 0 all streams are there, 1 some could not be imported, 2 wrong usage, 5 a "
    "server has DIR open, 6 some are damaged in SOURCE, 130 Ctrl+C.",
)
@click.argument("source", metavar="SOURCE", type=DIRECTORY)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--node-modules",
    "installed",
    metavar="PATH",
    type=DIRECTORY,
    default=".",
    help="Where npm installed the Node server. Default: here.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def import_streams(
    ctx: click.Context, source: Path, directory: Path, installed: Path, as_json: bool
) -> None:
    """Import streams into the data directory DIR, which is made if there is none.

    SOURCE is a folder that `durastream export` wrote, or the data directory of a stopped
    @durable-streams/server, whose metadata Node reads. Nothing is overwritten: a stream that is
    there is left as it is. After an interruption the same command goes on.
    """
    with exit_status(ctx):
        started = time.monotonic()
        streams: Sequence[Incoming]
        if is_node_directory(source):
            streams = read_node_directory(source, installed)
        else:
            streams = read_list(source)
        with FileBackedStreamStore(directory) as store:
            work = store.importing(streams)
            drive(work, "Importing")
        result, seconds = work.result, time.monotonic() - started
        click.echo(_json(result, seconds) if as_json else _text(result, seconds))
        ctx.exit(CORRUPT if result.damaged else FAILURE if result.refused else OK)


def _json(result: ImportResult, seconds: float) -> str:
    return json.dumps({**asdict(result), "seconds": round(seconds, 3)})


def _text(result: ImportResult, seconds: float) -> str:
    present = f", {len(result.present):,} were there" if result.present else ""
    imported = count_text(len(result.imported), "stream")
    head = click.style("Streams   ", dim=True)
    lines = [f"  {head}{imported} imported, {size_text(result.size)}{present}"]
    lines += _notes("note", "yellow", result.notes)
    lines += _notes("not imported", "red", result.refused)
    lines += _notes("damaged", "red", result.damaged)
    failed = len(result.refused) + len(result.damaged)
    text = f"NOT IMPORTED: {count_text(failed, 'stream')}" if failed else "Imported"
    colour = "red" if failed else "green"
    return "\n".join([*lines, "", click.style(f"{text}; {seconds:.1f} s.", fg=colour, bold=True)])


def _notes(head: str, colour: str, notes: list[ImportNote]) -> list[str]:
    lines = []
    for note in notes[:_SHOWN_MAX]:
        lines += ["", f"{click.style(head, fg=colour)}  {note.path}", f"  {note.text}"]
    if len(notes) > _SHOWN_MAX:
        lines += ["", f"and {len(notes) - _SHOWN_MAX:,} more: see --json"]
    return lines
