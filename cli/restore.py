"""``durastream restore``: make a data directory from a backup, in an empty or new directory.

Progress goes to stderr on a terminal; the result, for people or as one JSON object, to stdout.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from ..engine.backup_target import RestorePoint
from ..engine.restore import Restore
from .exit_status import OK
from .offline import DIRECTORY, count_text, exit_status, size_text
from .progress import drive


@click.command(
    epilog="Exit status: 0 restored, 1 could not be done, 2 wrong usage, 5 another restore or "
    "backup is at work, 6 the backup is damaged, 130 Ctrl+C."
)
@click.argument("target", metavar="TARGET", type=DIRECTORY)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--point", "point_id", metavar="ID", help="The restore point; default: the newest.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="MiB a second at most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def restore(
    ctx: click.Context,
    target: Path,
    directory: Path,
    point_id: str | None,
    rate: float | None,
    as_json: bool,
) -> None:
    """Restore a backup from the folder TARGET into DIR, an empty or new directory.

    Every byte is verified on its way. After an interruption the same command goes on; until
    it is done, no server opens DIR. `durastream backup --list TARGET` lists restore points.
    """
    with exit_status(ctx):
        started = time.monotonic()
        work = Restore(target, directory, point_id)
        drive(work, "Restoring", rate)
        assert work.point is not None
        seconds = time.monotonic() - started
        output = _json if as_json else _text
        click.echo(output(work, work.point, directory, seconds))
        ctx.exit(OK)


def _json(work: Restore, point: RestorePoint, directory: Path, seconds: float) -> str:
    return json.dumps(
        {
            "directory": str(directory),
            "store_id": point.store_id,
            "point": point.id,
            "created_at": point.created_at,
            "last_lsn": point.last_lsn,
            "file_count": len(point.files),
            "kept_file_count": work.kept_file_count,
            "size": work.total_size,
            "seconds": round(seconds, 3),
        }
    )


def _text(work: Restore, point: RestorePoint, directory: Path, seconds: float) -> str:
    made = datetime.fromtimestamp(point.created_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    kept = f", {work.kept_file_count:,} there already" if work.kept_file_count else ""
    rows = [
        ("Store", point.store_id),
        ("Point", f"{point.id}, of {made} UTC, up to LSN {point.last_lsn:,}"),
        ("Files", f"{count_text(len(point.files), 'file')}, {size_text(work.total_size)}{kept}"),
        ("Note", "what was acknowledged after that point is not in it"),
    ]
    lines = [f"  {click.style(f'{name:<10}', dim=True)}{value}" for name, value in rows]
    done = click.style(f"Restored; {seconds:.1f} s.", fg="green", bold=True)
    return "\n".join([*lines, "", f"{done} Next: durastream serve --data-dir {directory}"])
