"""Rounds, interleaved: in each, every server in turn does the same rows over fresh data.

Rows with very many streams are filled once for each server, which then wait for their turns,
idle; starting is measured on what that left behind. A server that fails a row is left out of that
one row and named.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from killing.process import CannotStart
from peers import Server

from .client import Figures, fill, post, put
from .measured import Measured
from .rows import FRESH_ROWS, START_ROWS, TEXT, Load, Row, append_many_row, fill_many, many_path

FAILURES = (RuntimeError, OSError, HTTPException, CannotStart, ValueError, ZeroDivisionError)
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass
class Run:
    """What is measured, and what came of it.

    Attributes:
        many: numbers of streams of the rows with very many, ascending.
        wanted: names of rows; all if empty.
        records: of each row, server and round.
    """

    servers: list[Server]
    rounds: int
    load: Load
    many: list[int]
    wanted: set[str]
    folder: Path
    records: list[Figures] = field(default_factory=list)
    save: Callable[[], None] = lambda: None

    def run(self) -> None:
        rows = [row for row in FRESH_ROWS if self._wants(row.name)]
        for number in range(self.rounds if rows else 0):
            for server in self.servers:
                self._fresh(server, rows, number)
        many = [row for row in map(append_many_row, self.many) if self._wants(row.name)]
        starts = [name for name in START_ROWS if self._wants(name)]
        if many or (starts and self.many):
            self._with_many(many, starts)

    def _wants(self, name: str) -> bool:
        return not self.wanted or name in self.wanted

    def _fresh(self, server: Server, rows: Iterable[Row], number: int) -> None:
        with Measured(server, self.folder) as process:
            process.start_pinned()
            for row in rows:
                self._record(row, process, number)
                if process.ended:
                    return

    def _record(self, row: Row, process: Measured, number: int) -> None:
        record: Figures = {"row": row.name, "work": row.work, "counts": row.counts}
        record |= {"round": number, "server": process.server.name}
        try:
            record |= row.run(process, self.load)
            if not record.get("delivered", 1) or record.get("refused"):
                record["failure"] = f"refused: {record.get('first_refusal')}"
        except FAILURES as error:
            record["failure"] = f"{type(error).__name__}: {error}"
        self.records.append(record)
        said = record.get("failure") or _brief(record)
        print(f"{number + 1}  {process.server.name:12} {row.name:14} {said}", file=sys.stderr)
        self.save()

    # -- very many streams -----------------------------------------------------------------

    def _with_many(self, rows: list[Row], starts: list[str]) -> None:
        with ExitStack() as stack:
            processes = []
            for server in self.servers:
                process = stack.enter_context(Measured(server, self.folder))
                process.start_pinned()
                processes.append(process)
            filled = 0
            for count in self.many:
                processes = [p for p in processes if self._fill(p, range(filled, count))]
                filled = count
                for number in range(self.rounds):
                    for row in (row for row in rows if row == _row_of(rows, count)):
                        for process in processes:
                            self._record(row, process, number)
            for process in processes:
                self._starts(process, filled, starts)

    def _fill(self, process: Measured, numbers: range) -> bool:
        started = time.monotonic()
        try:
            fill_many(process, numbers)
        except FAILURES as error:
            print(f"{process.server.title} is left out: {error}", file=sys.stderr)
            return False
        print(
            f"   {process.server.name:12} {len(numbers)} more streams in "
            f"{time.monotonic() - started:.1f} s, {process.memory() / 1e6:.0f} MB",
            file=sys.stderr,
        )
        return True

    def _starts(self, process: Measured, count: int, names: list[str]) -> None:
        for name in names:
            if name == "start-cold" and not _may_drop_caches():
                print("start-cold is left out: dropping the page cache needs root", file=sys.stderr)
                continue
            row = _start_row(name, count)
            for number in range(self.rounds):
                self._record(row, process, number)


def _row_of(rows: list[Row], count: int) -> Row | None:
    name = append_many_row(count).name
    return next((row for row in rows if row.name == name), None)


def _start_row(name: str, count: int) -> Row:
    """From exec to the answer about the last stream."""

    def run(process: Measured, load: Load) -> Figures:
        ENDINGS[name](process)
        seconds = process.start_pinned(many_path(count - 1), 200)
        return {"start_seconds": seconds, "rss_mb": process.memory() / 1e6}

    return Row(name, START_ROWS[name].format(count=count), run, "")


def _stop_and_forget(process: Measured) -> None:
    process.stop()
    subprocess.run(["sync"], check=True)
    DROP_CACHES.write_text("3")


def _kill(process: Measured) -> None:
    """After some writes that were acknowledged and may still be in its log only."""
    fill(process.port, [put("after-kill", TEXT)] + [post("after-kill", TEXT, b"k" * 100)] * 50, 1)
    process.kill()


ENDINGS = {"start-warm": Measured.stop, "start-cold": _stop_and_forget, "start-killed": _kill}


def _may_drop_caches() -> bool:
    try:
        with DROP_CACHES.open("w"):
            return True
    except OSError:
        return False


def _brief(record: Figures) -> str:
    if "start_seconds" in record:
        return f"{record['start_seconds']:.3f} s"
    if "bytes_per_reader" in record:
        return f"{record['bytes_per_reader'] / 1024:.2f} KiB a reader"
    text = (
        f"{record['per_second']:,.0f}/s, p50 {record['p50_ms']:.3f} p99 {record['p99_ms']:.3f} ms"
    )
    text += f", {record['cpu_us']:.2f} µs" if record["cpu_us"] else ""
    other = record["other_cpu"]
    return text + (f" (others took {other:.2f} cores)" if other > 0.05 else "")
