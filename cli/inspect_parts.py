"""What ``durastream inspect`` prints of a segment, a frame of the log and a producer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from .offline import count_text, size_text
from .shapes import labelled, table, time_text

Plain = dict[str, Any]

_EXTENTS_SHOWN = 100
_HISTORY_SHOWN = 20


def segment_lines(found: Plain) -> Iterator[str]:
    """A segment and its extents."""
    listed = "" if found["listed"] else click.style("; no row lists it", fg="yellow")
    yield labelled("Segment", f"{found['number']}, {found['file']}{listed}")
    if found["problem"] is not None:
        yield labelled("Damaged", click.style(found["problem"], fg="red"))
        return
    yield labelled("Written", f"{time_text(found['created_ms'])}, level {found['level']}")
    yield labelled("LSNs", f"{found['after_lsn'] + 1:,}-{found['upto_lsn']:,}")
    extents = found["extents"]
    yield labelled(
        "Holds",
        f"{count_text(len(extents), 'extent')}, {count_text(found['messages'], 'message')}, "
        f"{size_text(found['data_size'])} of data; the file has {size_text(found['size'])}",
    )
    yield ""
    yield from table(
        ["stream", "offsets", "messages", "row as of LSN", "path", ""],
        [_extent_cells(extent) for extent in extents[:_EXTENTS_SHOWN]],
    )
    if len(extents) > _EXTENTS_SHOWN:
        yield f"  and {len(extents) - _EXTENTS_SHOWN:,} more: see --json"


def _extent_cells(extent: Plain) -> list[str]:
    return [
        str(extent["stream_id"]),
        f"{extent['base']}-{extent['end']}",
        f"{extent['messages']:,}",
        "-" if extent["row_lsn"] is None else str(extent["row_lsn"]),
        extent["path"] or ("removed" if extent["removed"] else "-"),
        extent["problem"] or "",
    ]


def frame_lines(found: Plain) -> Iterator[str]:
    """A frame and its records."""
    yield labelled("Frame", f"{found['file']}, byte {found['position']:,}")
    if found["file_problem"] is not None:
        yield labelled("File", click.style(found["file_problem"], fg="red"))
    if found["problem"] is not None:
        yield labelled("Problem", click.style(found["problem"], fg="red"))
    if "flags" not in found:
        return
    first, count = found["first_lsn"], found["record_count"]
    lsns = f"LSN {first:,}" if count == 1 else f"LSNs {first:,}-{first + count - 1:,}"
    kind = count_text(count, "record") + f", {lsns}" if count else found["flags"]
    yield labelled("Holds", f"{kind}, {size_text(found['size'])}")
    if found["watermark"]:
        yield labelled("Proves", f"LSN {found['watermark']:,} and all before it were durable")
    if found["successor"] is not None:
        yield labelled("Leads to", f"log file {found['successor']}")
    if "next" in found:
        yield labelled("Next frame", f"byte {found['next']:,}")
    if found["records"]:
        yield ""
        yield from table(
            ["LSN", "kind", "stream", "offset", "size", "byte", "checksums", "path"],
            [_record_cells(record) for record in found["records"]],
        )
    asked = found.get("asked_lsn", first if count == 1 else None)
    for record in found["records"]:
        if record["lsn"] == asked and record.get("meta") is not None:
            yield ""
            yield labelled("Metadata", json.dumps(record["meta"]))


def _record_cells(record: Plain) -> list[str]:
    if record["header"] != "good":
        return [str(record["lsn"]), "?", "?", "?", "?", str(record["position"]),
                f"header: {record['header']}", ""]  # fmt: skip
    return [
        str(record["lsn"]),
        record["kind"],
        str(record["stream_id"]),
        str(record["base"]),
        str(record["data_size"]),
        str(record["position"]),
        "good" if record["body"] == "good" else f"body: {record['body']}",
        record["path"] or "",
    ]


def producer_lines(found: Plain) -> Iterator[str]:
    """What is accepted next, why older epochs are fenced, and what came so far."""
    yield labelled("Stream", f"{found['path']}, id {found['stream_id']}")
    epoch, last = found["epoch"], found["last_seq"]
    if epoch is None:
        yield labelled("Producer", f"{found['producer_id']}: never seen here")
        yield labelled("Accepts", "any epoch, seq 0")
        return
    yield labelled("Producer", f"{found['producer_id']}: epoch {epoch}, last seq {last}")
    if found["closed"]:
        yield labelled("Accepts", "nothing: the stream is closed")
    else:
        yield labelled("Accepts", f"epoch {epoch}, seq {last + 1}; or a higher epoch, seq 0")
    if epoch > 0:
        since = _place(found["epoch_from"])
        yield labelled("Fenced", f"epochs below {epoch}, since epoch {epoch} came with {since}")
    for problem in found["problems"]:
        yield labelled("", click.style(problem, fg="red"))
    history = found["history"]
    yield ""
    yield from table(
        ["epoch", "seq", "at", "known from"],
        [
            [str(e["epoch"]), str(e["seq"]), time_text(e["at"]), _place(e)]
            for e in history[-_HISTORY_SHOWN:]
        ],
    )
    if len(history) > _HISTORY_SHOWN:
        yield f"  and {len(history) - _HISTORY_SHOWN:,} before: see --json"


def _place(entry: Plain) -> str:
    if "segment" in entry:
        return f"segment {entry['segment']} (LSNs {entry['first_lsn']:,}-{entry['lsn']:,})"
    return f"LSN {entry['lsn']:,} ({entry['file']}, byte {entry['position']:,})"
