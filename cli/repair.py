"""``durastream repair``: mend what can be mended of a stopped store, and say what is lost.

It shows what it would do, asks on a terminal, and keeps all that it replaces. Progress goes to
stderr on a terminal; the result, for people or as one JSON object, to stdout.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..engine.findings import Finding
from ..engine.repair import RepairReport
from ..engine.repair_run import Outcome, repair_directory
from ..engine.repair_states import Loss
from ..engine.salvage_log import Missing
from .exit_status import CORRUPT, FAILURE, OK
from .offline import DIRECTORY, Failed, count_text, exit_status

_SHOWN_MAX = 20  # lines of one kind


@click.command(
    epilog="Exit status: 0 nothing is lost (any more to repair, or at all), 1 could not be done, 2 "
    "wrong usage, 5 a server has the directory open, 6 something is lost, or, with --dry-run, "
    "there is something to repair, 130 Ctrl+C."
)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--close-doubtful",
    is_flag=True,
    help="Where nobody can tell which streams lost records, take no more writes to any of those "
    "that may have, until they are deleted and created again.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; implies --yes.")
@click.pass_context
def repair(
    ctx: click.Context,
    directory: Path,
    dry_run: bool,
    close_doubtful: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Repair the data directory DIR: rebuild what is damaged from what is whole.

    Rows are rebuilt from segments and log, segments from their extents, the log record by
    record. Everything that is replaced is kept in DIR/repair-TIME, with a report. Streams that
    lost bytes stay readable up to the loss, and take no more writes until they are deleted and
    created again. No server may have the directory open.
    """
    ask = sys.stdin.isatty() and not (yes or as_json)

    def approve(found: list[Finding], report: RepairReport) -> bool:
        if not as_json:
            click.echo("\n".join([*_findings(found), *_plan(report)]))
        return not ask or click.confirm("Repair it?", default=False)

    with exit_status(ctx):
        started = time.monotonic()
        outcome = repair_directory(
            directory,
            may_change=not dry_run,
            close_doubtful=close_doubtful,
            watch=_watch,
            approve=approve,
        )
        seconds = time.monotonic() - started
        if as_json:
            click.echo(_json(directory, outcome, seconds))
        else:
            for line in _text(outcome, seconds, dry_run=dry_run):
                click.echo(line)
        ctx.exit(_status(outcome, dry_run=dry_run))


def _watch(label: str, total: int, steps: Iterator[int]) -> None:
    """With a progress bar if somebody can see it."""
    if not sys.stderr.isatty():
        for _ in steps:
            pass
        return
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=False) as bar:
        for size in steps:
            bar.update(size)


def _status(outcome: Outcome, *, dry_run: bool) -> int:
    if outcome.left or (outcome.report is not None and not outcome.is_done and not dry_run):
        return FAILURE
    if outcome.has_losses or (dry_run and outcome.report is not None):
        return CORRUPT
    return OK


def _json(directory: Path, outcome: Outcome, seconds: float) -> str:
    report = outcome.report
    content: dict[str, Any] = {
        "directory": str(directory),
        "repaired": outcome.is_done,
        "lost": outcome.has_losses,
        "seconds": round(seconds, 3),
        "found": [asdict(finding) for finding in outcome.found],
        "report": None if report is None else report.plain(),
        "finished": outcome.finished,
        "left": [asdict(finding) for finding in outcome.left],
    }
    return json.dumps(content)


# -- for people ----------------------------------------------------------------------------


def _text(outcome: Outcome, seconds: float, *, dry_run: bool) -> Iterator[str]:
    for finished in outcome.finished:
        yield f"Finished {finished['folder']}, which was cut short."
    report, ended = outcome.report, f"; {seconds:.1f} s."
    if report is None:
        count = outcome.quarantined_count
        kept = f", {count_text(count, 'stream')} under quarantine" if count else ""
        yield _verdict(f"Nothing to repair{kept}{ended}", good=True)
        return
    if not outcome.is_done:
        if dry_run:
            yield from _findings(outcome.found)
            yield from _plan(report)
        yield _verdict(f"Nothing was changed{ended}", good=False)
        return
    yield f"Replaced parts and report.json are in {report.folder}."
    for finding in outcome.left[:_SHOWN_MAX]:
        yield f"  {click.style('not mended', fg='red')}  {finding}"
    if outcome.left:
        raise Failed("some damage could not be mended")
    lost = "something is LOST, see above" if report.has_losses else "nothing is lost"
    yield _verdict(f"Repaired, {lost}{ended}", good=not report.has_losses)


def _verdict(text: str, *, good: bool) -> str:
    return click.style(text, fg="green" if good else "red", bold=True)


def _findings(found: list[Finding]) -> Iterator[str]:
    yield from _shortened([f"{_red(finding.code)}  {finding}" for finding in found])
    yield ""


def _plan(report: RepairReport) -> Iterator[str]:
    yield _row("Streams", f"{report.stream_count:,}")
    yield _row("Log", f"{count_text(report.record_count, 'record')} taken over")
    yield _row("Rebuilt", ", ".join(["rows", "log", *report.rebuilt]))
    for name, why in report.aside:
        yield _row("Not used", f"{name}: {why}")
    losses = [*map(_loss, report.losses), *map(_missing, report.missing)]
    yield from _shortened([f"  {_red('LOST      ')}{line}" for line in losses])
    if not losses:
        yield _row("Lost", "nothing")
    if report.closed_count:
        yield _row("Closed", f"{count_text(report.closed_count, 'stream')} that may have lost some")
    yield ""


def _row(name: str, value: str) -> str:
    return f"  {click.style(f'{name:<10}', dim=True)}{value}"


def _red(text: str) -> str:
    return click.style(text, fg="red")


def _loss(loss: Loss) -> str:
    where = "" if loss.start is None else f", offsets {loss.start} to {loss.end}"
    return f"stream {loss.stream_id}, {loss.path or 'path unknown'}{where}: {loss.what}"


def _missing(missing: Missing) -> str:
    upto = f"to {missing.last:,}" if missing.last else "and all behind it"
    return f"LSN {missing.first:,} {upto}: nobody can tell of which streams"


def _shortened(lines: list[str]) -> Iterator[str]:
    yield from lines[:_SHOWN_MAX]
    if len(lines) > _SHOWN_MAX:
        yield f"  and {len(lines) - _SHOWN_MAX:,} more: see --json"
