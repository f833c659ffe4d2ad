"""``durastream inspect``: what a stopped store consists of, or all it holds of one stream.

It changes nothing on disk. For people, or as one JSON object with everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ..engine.inspection import inspect_store, inspect_stream
from .exit_status import OK
from .offline import DIRECTORY, Failed, count_text, exit_status, size_text

_PRODUCERS_SHOWN = 20


@click.command(
    epilog="Exit status: 0 shown, 1 could not be done, 2 wrong usage, 5 a server has the "
    "directory open, 6 what was asked for is damaged, 130 Ctrl+C."
)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.argument("stream", metavar="[PATH]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with everything.")
@click.pass_context
def inspect(ctx: click.Context, directory: Path, stream: str | None, as_json: bool) -> None:
    """Show what the data directory DIR holds, without changing it.

    With PATH: one stream, named by its path or its number. No server may have the directory
    open. Whether all is as it must be, `durastream verify` says.
    """
    with exit_status(ctx):
        if stream is None:
            found = inspect_store(directory)
            lines = _store(found)
        else:
            named = inspect_stream(directory, stream)
            if named is None:
                raise Failed(f"{directory}: no stream {stream}; paths start with /, ids are digits")
            found, lines = named, _stream(named)
        click.echo(json.dumps(found) if as_json else "\n".join(lines))
        ctx.exit(OK)


# -- the whole -----------------------------------------------------------------------------


def _store(found: dict[str, Any]) -> Iterator[str]:
    yield _row("Store", f"{found['store_id']}, format {found['format']}")
    checkpoint = found["checkpoint"]
    if checkpoint is not None:
        closed = "closed in order" if checkpoint["clean"] else "in use, or ended by a crash"
        yield _row(
            "Checkpoint",
            f"LSN {checkpoint['lsn']:,}, log file {checkpoint['file_seq']}, "
            f"byte {checkpoint['position']:,}; {closed}",
        )
    if found["trouble"] is not None:
        yield _row("Trouble", click.style("{file}: {what}".format(**found["trouble"]), fg="red"))
    if found["rows"] is not None:
        rows = [count_text(count, table[:-1]) for table, count in found["rows"].items()]
        yield _row("Rows", ", ".join(rows))
    if found["log"] is not None:
        yield from _log(found["log"])
    if found["segments"]:
        yield from _segments(found["segments"])


def _log(log: dict[str, Any]) -> Iterator[str]:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(log["records_by_kind"].items()))
    yield _row(
        "Log",
        f"{count_text(log['frames'], 'frame')}, {count_text(log['records'], 'record')}"
        f"{f' ({kinds})' if kinds else ''}, {size_text(log['data_size'])} of data "
        f"behind the checkpoint; the last is LSN {log['last_lsn']:,}",
    )
    for place in (*log["damage"], *log["torn"]):
        text = f"{place['file']}, byte {place['position']}: {place.get('what', 'torn')}"
        yield _row("", click.style(text, fg="red" if "what" in place else "yellow"))
    yield ""
    yield from _table(
        ["log file", "kind", "first LSN", "size", "used", ""],
        [
            [
                file["file"],
                file["kind"] or "?",
                f"{file['first_lsn']:,}",
                size_text(file["size"]),
                "-" if file["used"] is None else size_text(file["used"]),
                file["problem"] or "",
            ]
            for file in log["files"]
        ],
    )


def _segments(segments: list[dict[str, Any]]) -> Iterator[str]:
    yield ""
    yield from _table(
        ["segment", "level", "written", "LSNs", "size", "dead", "streams", "messages", ""],
        [
            [
                str(segment["number"]),
                str(segment["level"]),
                _time(segment.get("created_ms")),
                f"{segment['after_lsn'] + 1:,}-{segment['upto_lsn']:,}",
                size_text(segment["size"]),
                size_text(segment["dead_size"]),
                f"{segment['extents']:,}" if "extents" in segment else "?",
                f"{segment['messages']:,}" if "messages" in segment else "?",
                segment["problem"] or "",
            ]
            for segment in segments
        ],
    )


# -- one stream ----------------------------------------------------------------------------


def _stream(found: dict[str, Any]) -> Iterator[str]:
    yield _row("Stream", f"{found['path']}, id {found['stream_id']}")
    if found["removed"]:
        yield _row("", click.style("removed by the log behind the checkpoint", fg="yellow"))
    state = found["state"] or found["row"]
    yield from _state(state)
    if found["quarantine"] is not None:
        text = "readable up to offset {position}, damaged at {where}".format(**found["quarantine"])
        yield _row("Quarantine", click.style(text, fg="red"))
    row = "none yet: only the log has it"
    if found["row"] is not None:
        row = f"as of LSN {found['row_lsn']:,}, up to offset {found['row']['tail']:,}"
    yield _row("Row", row)
    yield from _producers(found["producers"])
    yield from _extents(found["extents"])
    yield from _records(found["log"])


def _state(state: dict[str, Any]) -> Iterator[str]:
    yield _row("Type", state["content_type"])
    closed = ", closed" if state["closed"] else ""
    yield _row(
        "Bytes", f"{state['tail'] - state['base']:,}, up to offset {state['tail']:,}{closed}"
    )
    yield from _retention(state)
    if state["source_id"] is not None:
        text = f"{state['forked_from']} (stream {state['source_id']}) at offset {state['base']:,}"
        yield _row("Fork of", text)
    if state["ref_count"] or state["soft_deleted"]:
        deleted = "; deleted, kept for them" if state["soft_deleted"] else ""
        yield _row("Forks", f"{state['ref_count']}{deleted}")
    times = f"created {_time(state['created_at'])}, used {_time(state['last_accessed_at'])}"
    if state["ttl_seconds"] is not None:
        times += f", lives {state['ttl_seconds']} s"
    if state["expires_at"] is not None:
        times += f", expires {state['expires_at']}"
    yield _row("Times", times)
    if state["last_seq"] is not None:
        yield _row("Stream-Seq", state["last_seq"])


def _retention(state: dict[str, Any]) -> Iterator[str]:
    retention = state["retention"]
    kept = []
    if retention is not None and retention["seconds"] is not None:
        kept.append(f"the last {retention['seconds']:,} s")
    if retention is not None and retention["bytes"] is not None:
        kept.append(f"the newest {size_text(retention['bytes'])}")
    if state["earliest"] or kept:
        begins = f"begins at offset {state['earliest']:,}"
        yield _row("Keeps", ", ".join([*kept, begins]))


def _producers(producers: list[dict[str, Any]]) -> Iterator[str]:
    for producer in producers[:_PRODUCERS_SHOWN]:
        epoch, seq = producer["epoch"], producer["last_seq"]
        yield _row(
            "Producer",
            f"{producer['producer_id']}: epoch {epoch}, last seq {seq} "
            f"({_time(producer['last_updated'])}); next is seq {seq + 1}, "
            f"epochs below {epoch} are fenced",
        )
    if len(producers) > _PRODUCERS_SHOWN:
        yield _row("", f"and {len(producers) - _PRODUCERS_SHOWN:,} more: see --json")


def _extents(extents: list[dict[str, Any]]) -> Iterator[str]:
    if not extents:
        return
    yield ""
    yield from _table(
        ["segment", "offsets", "messages", ""],
        [
            [
                extent["segment"],
                f"{extent['base']}-{extent['end']}" if "base" in extent else "?",
                str(extent.get("messages", "?")),
                extent.get("problem", ""),
            ]
            for extent in extents
        ],
    )


def _records(log: dict[str, Any]) -> Iterator[str]:
    if not log["records"]:
        return
    yield ""
    yield (
        f"  {count_text(log['records'], 'record')} in the log, {size_text(log['data_size'])} of "
        "data; the last:"
    )
    yield from _table(
        ["LSN", "kind", "offset", "size", "log file", "byte", ""],
        [
            [
                str(record["lsn"]),
                record["kind"],
                str(record["base"]),
                str(record["data_size"]),
                record["file"],
                str(record["position"]),
                "damaged" if record["damaged"] else "",
            ]
            for record in log["last"]
        ],
    )


# -- shapes --------------------------------------------------------------------------------


def _row(name: str, value: str) -> str:
    return f"  {click.style(f'{name:<12}', dim=True)}{value}"


def _table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for number, row in enumerate([head, *rows]):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = "  " + "  ".join(cells).rstrip()
        yield click.style(line, dim=True) if number == 0 else line


def _time(ms: int | None) -> str:
    if ms is None:
        return "?"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
