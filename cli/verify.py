"""``durastream verify``: look at every byte of a store and say what is wrong with it.

It changes nothing on disk. Progress goes to stderr on a terminal; the result, for people or as
one JSON object, to stdout.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from ..engine.findings import Finding
from ..engine.options import MIB
from ..engine.verify import Report, Verification
from .descriptors import allow_descriptors
from .exit_status import CORRUPT, OK
from .offline import DIRECTORY, count_text, exit_status, size_text

_SHOWN_MAX = 20  # findings of one code; a lost segment can concern every stream
_COLOURS = {"damage": "red", "notice": "yellow"}


@click.command(
    epilog="Exit status: 0 no damage, 1 could not be done, 2 wrong usage, 5 a server has the "
    "directory open (--offline), 6 damage was found, 130 Ctrl+C."
)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--offline", is_flag=True, help="Refuse a directory that a server has open.")
@click.option(
    "--rate", type=click.FloatRange(min=0), default=0, metavar="MIB",
    help="MiB of segments a second to read at most; 0, the default, is no limit.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def verify(ctx: click.Context, directory: Path, offline: bool, rate: float, as_json: bool) -> None:
    """Check everything in the data directory DIR, without changing it.

    Every checksum of the log, the segments and the rows; and each against the others: whether
    all bytes of every stream are there once, whether forks, paths and deadlines agree.

    A server may have the directory open and go on. Then the very end of its log, which is being
    written, is not judged.
    """
    allow_descriptors()
    with exit_status(ctx):
        started = time.monotonic()
        report = _run(Verification(directory, in_use=not offline, rate=int(rate * MIB)))
        seconds = time.monotonic() - started
        click.echo(_json(report, seconds) if as_json else _text(report, seconds))
        ctx.exit(CORRUPT if report.is_damaged else OK)


def _run(verification: Verification) -> Report:
    """With a progress bar if somebody can see it."""
    if not sys.stderr.isatty():
        for _ in verification.run():
            pass
        return verification.report
    with click.progressbar(
        length=verification.total_size, label="Verifying", file=sys.stderr, show_pos=False
    ) as bar:
        for size in verification.run():
            bar.update(size)
    return verification.report


def _json(report: Report, seconds: float) -> str:
    content = asdict(report)
    findings = content.pop("findings")
    is_damaged = report.is_damaged
    return json.dumps(
        {**content, "damaged": is_damaged, "seconds": round(seconds, 3), "findings": findings}
    )


def _text(report: Report, seconds: float) -> str:
    rows = [
        ("Store", f"{report.store_id or 'unknown'}{', in use' if report.online else ''}"),
        ("Streams", f"{report.stream_count:,} as of the checkpoint"),
        ("Segments", f"{report.segment_count:,}, {size_text(report.segment_size)}"),
        (
            "Log",
            f"{count_text(report.log_file_count, 'file')}, "
            f"{count_text(report.log_record_count, 'record')} behind the checkpoint, "
            f"the last is LSN {report.last_lsn:,}",
        ),
    ]
    lines = [f"  {click.style(f'{name:<10}', dim=True)}{value}" for name, value in rows]
    lines += [f"  {click.style('Unchecked ', dim=True)}{what}" for what in report.unchecked]
    shown: Counter[str] = Counter()
    for finding in report.findings:
        shown[finding.code] += 1
        if shown[finding.code] <= _SHOWN_MAX:
            lines += ["", *_finding(finding)]
    for code, count in shown.items():
        if count > _SHOWN_MAX:
            lines += ["", f"and {count - _SHOWN_MAX:,} more of {code}: see --json"]
    return "\n".join([*lines, "", _verdict(report, seconds)])


def _finding(finding: Finding) -> list[str]:
    where = finding.file
    if finding.position is not None:
        where += f", byte {finding.position}"
    head = click.style(f"{finding.severity} {finding.code}", fg=_COLOURS[finding.severity])
    lines = [f"{head}  {where}", f"  {finding.what}"]
    if finding.stream_id is not None:
        lines.append(f"  stream {finding.stream_id}: {finding.path or 'path unknown'}")
    return [*lines, f"  {click.style('do', dim=True)}: {finding.advice}"]


def _verdict(report: Report, seconds: float) -> str:
    damage = sum(finding.severity == "damage" for finding in report.findings)
    notices = len(report.findings) - damage
    text = "No damage found" if not damage else f"DAMAGED: {count_text(damage, 'finding')}"
    if notices:
        text += f", {count_text(notices, 'notice')}"
    return click.style(f"{text}; {seconds:.1f} s.", fg="red" if damage else "green", bold=True)
