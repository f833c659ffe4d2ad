"""``durastream inspect``: what a store consists of, or all it holds of one stream or place.

It changes nothing on disk. For people, or as one JSON object with everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..engine.inspection import inspect_store, inspect_stream
from ..engine.inspection_log import NotThere, inspect_frame, inspect_lsn
from ..engine.inspection_producer import inspect_producer
from ..engine.inspection_segment import inspect_segment
from .exit_status import OK
from .inspect_parts import frame_lines, producer_lines, segment_lines
from .offline import DIRECTORY, Failed, count_text, exit_status, size_text
from .shapes import labelled, table, time_text

_PRODUCERS_SHOWN = 20

Look = tuple[dict[str, Any], Iterator[str]]  # everything, and lines for people


def _frame_place(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, int] | None:
    if value is None:
        return None
    file, _, position = value.rpartition(":")
    if not file or not position.isdecimal():
        raise click.BadParameter(f"{value} is not FILE:BYTE, as in 00000000000000000001.wal:4096")
    return file, int(position)


@click.command(
    epilog="Exit status: 0 shown, 1 could not be done, 2 wrong usage, 6 what was asked for is "
    "damaged, 130 Ctrl+C."
)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.argument("stream", metavar="[PATH]", required=False)
@click.option("--producer", metavar="ID", help="With PATH: what the stream knows of a producer.")
@click.option("--segment", type=click.IntRange(1), metavar="N", help="One segment's extents.")
@click.option("--lsn", type=click.IntRange(1), metavar="N", help="The frame with this record.")
@click.option(
    "--frame", metavar="FILE:BYTE", callback=_frame_place,
    help="The frame at a byte of a file of the log, as messages name it.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with everything.")
@click.pass_context
def inspect(ctx: click.Context, /, directory: Path, as_json: bool, **asked: Any) -> None:
    """Show what the data directory DIR holds, without changing it.

    With PATH: one stream, named by its path or its number. A server may have the directory open
    and go on. Whether all is as it must be, `durastream verify` says.
    """
    _check_usage(asked)
    with exit_status(ctx):
        try:
            found, lines = _look(directory, **asked)
        except NotThere as error:
            raise Failed(str(error)) from error
        click.echo(json.dumps(found) if as_json else "\n".join(lines))
        ctx.exit(OK)


def _check_usage(asked: dict[str, Any]) -> None:
    kinds = [name for name in ("stream", "segment", "lsn", "frame") if asked[name] is not None]
    if len(kinds) > 1:
        raise click.UsageError("one of PATH, --segment, --lsn and --frame at a time")
    if asked["producer"] is not None and kinds != ["stream"]:
        raise click.UsageError("--producer needs the PATH of a stream")


def _look(
    directory: Path,
    stream: str | None,
    producer: str | None,
    segment: int | None,
    lsn: int | None,
    frame: tuple[str, int] | None,
) -> Look:
    if segment is not None:
        found = inspect_segment(directory, segment)
        return found, segment_lines(found)
    if lsn is not None:
        found = inspect_lsn(directory, lsn)
        return found, frame_lines(found)
    if frame is not None:
        found = inspect_frame(directory, *frame)
        return found, frame_lines(found)
    if stream is None:
        found = inspect_store(directory)
        return found, _store(found)
    if producer is not None:
        named = inspect_producer(directory, stream, producer)
        lines = None if named is None else producer_lines(named)
    else:
        named = inspect_stream(directory, stream)
        lines = None if named is None else _stream(named)
    if named is None or lines is None:
        raise Failed(f"{directory}: no stream {stream}; paths start with /, ids are digits")
    return named, lines


# -- the whole -----------------------------------------------------------------------------


def _store(found: dict[str, Any]) -> Iterator[str]:
    in_use = ", in use" if found["online"] else ""
    yield labelled("Store", f"{found['store_id']}, format {found['format']}{in_use}")
    checkpoint = found["checkpoint"]
    if checkpoint is not None:
        closed = "closed in order" if checkpoint["clean"] else "in use, or ended by a crash"
        yield labelled(
            "Checkpoint",
            f"LSN {checkpoint['lsn']:,}, log file {checkpoint['file_seq']}, "
            f"byte {checkpoint['position']:,}; {closed}",
        )
    if found["trouble"] is not None:
        yield labelled(
            "Trouble", click.style("{file}: {what}".format(**found["trouble"]), fg="red")
        )
    if found["rows"] is not None:
        rows = [count_text(count, name[:-1]) for name, count in found["rows"].items()]
        yield labelled("Rows", ", ".join(rows))
    if found["log"] is not None:
        yield from _log(found["log"])
    if found["segments"]:
        yield from _segments(found["segments"])


def _log(log: dict[str, Any]) -> Iterator[str]:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(log["records_by_kind"].items()))
    yield labelled(
        "Log",
        f"{count_text(log['frames'], 'frame')}, {count_text(log['records'], 'record')}"
        f"{f' ({kinds})' if kinds else ''}, {size_text(log['data_size'])} of data "
        f"behind the checkpoint; the last is LSN {log['last_lsn']:,}",
    )
    for place in (*log["damage"], *log["torn"]):
        text = f"{place['file']}, byte {place['position']}: {place.get('what', 'torn')}"
        yield labelled("", click.style(text, fg="red" if "what" in place else "yellow"))
    yield ""
    yield from table(
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
    yield from table(
        ["segment", "level", "written", "LSNs", "size", "dead", "streams", "messages", ""],
        [
            [
                str(segment["number"]),
                str(segment["level"]),
                time_text(segment.get("created_ms")),
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
    yield labelled("Stream", f"{found['path']}, id {found['stream_id']}")
    if found["removed"]:
        yield labelled("", click.style("removed by the log behind the checkpoint", fg="yellow"))
    state = found["state"] or found["row"]
    yield from _state(state)
    if found["quarantine"] is not None:
        text = "readable up to offset {position}, damaged at {where}".format(**found["quarantine"])
        yield labelled("Quarantine", click.style(text, fg="red"))
    row = "none yet: only the log has it"
    if found["row"] is not None:
        row = f"as of LSN {found['row_lsn']:,}, up to offset {found['row']['tail']:,}"
    yield labelled("Row", row)
    yield from _producers(found["producers"])
    yield from _extents(found["extents"])
    yield from _records(found["log"])


def _state(state: dict[str, Any]) -> Iterator[str]:
    yield labelled("Type", state["content_type"])
    closed = ", closed" if state["closed"] else ""
    yield labelled(
        "Bytes", f"{state['tail'] - state['base']:,}, up to offset {state['tail']:,}{closed}"
    )
    yield from _retention(state)
    if state["source_id"] is not None:
        text = f"{state['forked_from']} (stream {state['source_id']}) at offset {state['base']:,}"
        yield labelled("Fork of", text)
    if state["ref_count"] or state["soft_deleted"]:
        deleted = "; deleted, kept for them" if state["soft_deleted"] else ""
        yield labelled("Forks", f"{state['ref_count']}{deleted}")
    times = f"created {time_text(state['created_at'])}, used {time_text(state['last_accessed_at'])}"
    if state["ttl_seconds"] is not None:
        times += f", lives {state['ttl_seconds']} s"
    if state["expires_at"] is not None:
        times += f", expires {state['expires_at']}"
    yield labelled("Times", times)
    if state["last_seq"] is not None:
        yield labelled("Stream-Seq", state["last_seq"])


def _retention(state: dict[str, Any]) -> Iterator[str]:
    retention = state["retention"]
    kept = []
    if retention is not None and retention["seconds"] is not None:
        kept.append(f"the last {retention['seconds']:,} s")
    if retention is not None and retention["bytes"] is not None:
        kept.append(f"the newest {size_text(retention['bytes'])}")
    if state["earliest"] or kept:
        begins = f"begins at offset {state['earliest']:,}"
        yield labelled("Keeps", ", ".join([*kept, begins]))


def _producers(producers: list[dict[str, Any]]) -> Iterator[str]:
    for producer in producers[:_PRODUCERS_SHOWN]:
        epoch, seq = producer["epoch"], producer["last_seq"]
        yield labelled(
            "Producer",
            f"{producer['producer_id']}: epoch {epoch}, last seq {seq} "
            f"({time_text(producer['last_updated'])}); next is seq {seq + 1}, "
            f"epochs below {epoch} are fenced",
        )
    if len(producers) > _PRODUCERS_SHOWN:
        yield labelled("", f"and {len(producers) - _PRODUCERS_SHOWN:,} more: see --json")


def _extents(extents: list[dict[str, Any]]) -> Iterator[str]:
    if not extents:
        return
    yield ""
    yield from table(
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
    yield from table(
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
