"""``durastream backup``: copy a store, in use or not, into a folder of restore points.

It only reads the store. Progress goes to stderr on a terminal; the result, for people or as one
JSON object, to stdout.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from ..engine.backup import Backup, BackupResult
from ..engine.backup_check import BackupCheck, BackupReport
from ..engine.backup_target import RestorePoint
from .exit_status import CORRUPT, OK
from .offline import count_text, exit_status, size_text
from .progress import drive

_SHOWN_MAX = 20
_PLACE = click.Path(path_type=Path)


@click.command(
    epilog="Exit status: 0 done, 1 could not be done, 2 wrong usage, 5 another backup is at work "
    "in TARGET, 6 the store, or with --verify the backup, is damaged, 130 Ctrl+C."
)
@click.argument("places", metavar="[DIR] TARGET", type=_PLACE, nargs=-1, required=True)
@click.option("--keep", type=click.IntRange(1), help="Remove all restore points but the newest N.")
@click.option("--verify", "check", is_flag=True, help="Check every byte of all backups in TARGET.")
@click.option("--list", "listed", is_flag=True, help="List the restore points in TARGET.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="MiB a second at most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def backup(
    ctx: click.Context,
    places: tuple[Path, ...],
    keep: int | None,
    check: bool,
    listed: bool,
    rate: float | None,
    as_json: bool,
) -> None:
    """Back up the data directory DIR to the folder TARGET.

    A server may go on using DIR: everything that it acknowledged before is in the backup.
    Segments that TARGET has already are not copied again; after an interruption the same
    command goes on. Every byte copied is verified. `durastream restore` brings it back.
    """
    looks = check or listed
    if len(places) != (1 if looks else 2):
        raise click.UsageError("TARGET alone is wanted" if looks else "DIR and TARGET are wanted")
    with exit_status(ctx):
        started = time.monotonic()
        if looks:
            checking = BackupCheck(places[0], manifests_only=not check)
            drive(checking, "Checking" if check else None, rate)
            report, seconds = checking.report, time.monotonic() - started
            click.echo(
                _report_json(report, seconds) if as_json else _report(report, seconds, check)
            )
            ctx.exit(CORRUPT if report.is_damaged else OK)
        work = Backup(places[0], places[1], keep=keep)
        drive(work, "Backing up", rate)
        assert work.result is not None
        seconds = time.monotonic() - started
        click.echo(_json(work.result, seconds) if as_json else _text(work.result, seconds))
        ctx.exit(OK)


# -- a backup ------------------------------------------------------------------------------


def _json(result: BackupResult, seconds: float) -> str:
    point = result.point.plain()
    content = {**asdict(result), "point": point, "seconds": round(seconds, 3)}
    return json.dumps(content)


def _text(result: BackupResult, seconds: float) -> str:
    point = result.point
    kept = f", {result.kept_segment_count:,} there already" if result.kept_segment_count else ""
    rows = [
        ("Store", point.store_id),
        ("Point", point.id),
        (
            "Contains",
            f"{_streams(point)} as of LSN {point.checkpoint_lsn:,}, and the log "
            f"up to LSN {point.last_lsn:,}",
        ),
        ("Segments", f"{result.copied_segment_count:,} copied{kept}"),
        ("Size", f"{size_text(point.size)}, of which {size_text(result.copied_size)} is new"),
    ]
    if result.pruned:
        rows.append(("Removed", ", ".join(result.pruned)))
    return _lines(rows, click.style(f"Backed up; {seconds:.1f} s.", fg="green", bold=True))


# -- a look at a target --------------------------------------------------------------------


def _report_json(report: BackupReport, seconds: float) -> str:
    content = asdict(report)
    content["points"] = [point.plain() for point in report.points]
    return json.dumps({**content, "damaged": report.is_damaged, "seconds": round(seconds, 3)})


def _report(report: BackupReport, seconds: float, checked: bool) -> str:
    rows = [("Store", report.store_id)]
    rows += [("Point" if n == 0 else "", _point(p)) for n, p in enumerate(report.points)]
    if checked:
        files = count_text(report.file_count, "file")
        rows.append(("Read", f"{files}, {size_text(report.size)}"))
    lines: list[str] = []
    for finding in report.findings[:_SHOWN_MAX]:
        head = f"{click.style('damage', fg='red')}  {finding.file}"
        lines += ["", head, f"  {finding.what}", f"  needed by {', '.join(finding.points)}"]
    if len(report.findings) > _SHOWN_MAX:
        lines += ["", f"and {len(report.findings) - _SHOWN_MAX:,} more: see --json"]
    return _lines(rows, *lines, *([""] if lines else []), _verdict(report, seconds, checked))


def _verdict(report: BackupReport, seconds: float, checked: bool) -> str:
    if report.is_damaged:
        text = f"DAMAGED: {count_text(len(report.findings), 'finding')}; {seconds:.1f} s."
        return click.style(text, fg="red", bold=True)
    if not checked:
        return click.style(count_text(len(report.points), "restore point") + ".", bold=True)
    return click.style(f"No damage found; {seconds:.1f} s.", fg="green", bold=True)


def _point(point: RestorePoint) -> str:
    made = datetime.fromtimestamp(point.created_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"{point.id:<16}  {made} UTC  LSN {point.last_lsn:,}  {_streams(point)}  "
        f"{size_text(point.size)}"
    )


# -- shapes --------------------------------------------------------------------------------


def _streams(point: RestorePoint) -> str:
    return count_text(point.stream_count, "stream")


def _lines(rows: list[tuple[str, str]], *more: str) -> str:
    head = [f"  {click.style(f'{name:<10}', dim=True)}{value}" for name, value in rows]
    return "\n".join([*head, *(more if more and more[0] == "" else ("", *more))])
