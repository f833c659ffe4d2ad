"""From records to medians, ratios and verdicts: tables for a terminal and for docs/performance.md.

Rounds in which something else on the machine took processor time are left out where quieter ones
exist. A ratio is only ever taken between medians of one run.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from .client import Figures

OURS, FASTEST = "durastream", "rust"
QUIET = 0.05  # cores that others may take
Medians = dict[tuple[str, str], Figures]  # by row and server


@dataclass(frozen=True, slots=True)
class Bar:
    """What ``figure`` of ours must be: a limit, times that of ``row`` of ``server`` if given."""

    row: str
    figure: str
    sense: str
    limit: float
    server: str | None = FASTEST
    against: str | None = None  # another row, of the same server

    def ratio(self, medians: Medians) -> float | None:
        """Ours over the other's, or ours itself; None if one of them was not measured."""
        ours = medians.get((self.row, OURS), {}).get(self.figure)
        if self.server is None or ours is None:
            return None if ours is None else float(ours)
        other = medians.get((self.against or self.row, self.server), {}).get(self.figure)
        return float(ours) / float(other) if other else None

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.sense == "≥" else value <= self.limit

    @property
    def meaning(self) -> str:
        name = FIGURES[self.figure]
        if self.server is None:
            return name
        other = f"{self.server} {self.against}" if self.against else self.server
        return f"{name}, ours ÷ {'our ' + str(self.against) if self.server == OURS else other}"


RATE, CPU = "per_second", "cpu_us"
FIGURES = {
    RATE: "rate",
    CPU: "CPU per request",
    "p99_ms": "p99",
    "bytes_per_reader": "bytes per reader",
    "start_seconds": "seconds",
}
BARS = (
    Bar("append", RATE, "≥", 1.4),
    Bar("append", CPU, "≤", 0.75),
    Bar("append-100", RATE, "≥", 1.4),
    Bar("append-100", CPU, "≤", 0.75),
    Bar("append-10k", RATE, "≥", 1.0),
    Bar("append-100k", RATE, "≥", 1.0),
    Bar("append-100k", RATE, "≥", 0.8, OURS, "append-100"),
    Bar("one-writer", RATE, "≥", 1.0),
    Bar("read-1mib", RATE, "≥", 0.97),
    Bar("read-1mib", CPU, "≤", 1.0),
    Bar("tail-65", RATE, "≥", 1.5),
    Bar("tail-65", CPU, "≤", 0.75),
    Bar("tail-65", RATE, "≥", 0.95, OURS, "tail-2k"),
    Bar("tail-600k", RATE, "≥", 1.5),
    Bar("tail-600k", CPU, "≤", 0.75),
    Bar("tail-600k", RATE, "≥", 0.95, OURS, "tail-2k"),
    Bar("head", RATE, "≥", 0.9),
    Bar("head", CPU, "≤", 1.25),
    Bar("fan-out", RATE, "≥", 0.8),
    Bar("fan-out-paced", "p99_ms", "≤", 1.0),
    Bar("fan-out-paced", CPU, "≤", 1.0),
    Bar("idle-readers", "bytes_per_reader", "≤", 3 * 1024, None),
    Bar("start-warm", "start_seconds", "≤", 1.0, None),
    Bar("start-cold", "start_seconds", "≤", 1.0, None),
    Bar("start-killed", "start_seconds", "≤", 1.0, None),
)


def medians(records: Iterable[Figures]) -> Medians:
    groups: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    for record in records:
        if "failure" not in record:
            groups[record["row"], record["server"]].append(record)
    return {key: _median(group) for key, group in groups.items()}


def _median(records: list[Figures]) -> Figures:
    quiet = [record for record in records if record.get("other_cpu", 0) <= QUIET] or records
    result: Figures = {"rounds": len(quiet), "work": records[0]["work"]}
    result["counts"] = records[0]["counts"]
    for name, value in quiet[0].items():
        values = [record.get(name) for record in quiet]
        if isinstance(value, int | float) and all(isinstance(v, int | float) for v in values):
            result[name] = statistics.median(values)
    result["quantiles_ms"] = {
        quantile: statistics.median(record["quantiles_ms"][quantile] for record in quiet)
        for quantile in quiet[0].get("quantiles_ms", {})
    }
    if RATE in quiet[0]:
        rates = [record[RATE] for record in quiet]
        result["spread"] = [min(rates), max(rates)]
    return result


def figures_table(medians: Medians, titles: dict[str, str]) -> str:
    """Every row and server."""
    lines = [
        "| row | server | rate | p50 ms | p99 ms | CPU µs | RSS MB |",
        "|---|---|" + "--:|" * 5,
    ]
    for (row, server), figures in sorted(medians.items(), key=lambda item: _order(item[0][0])):
        cells = [row, titles.get(server, server), _rate(figures)]
        cells += [_number(figures.get(name), 3) for name in ("p50_ms", "p99_ms")]
        cells += [_number(figures.get(CPU), 2), _number(figures.get("rss_mb"), 0)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bars_table(medians: Medians) -> str:
    """What must hold, and whether it does."""
    lines = ["| row | work | what | bar | measured | |", "|---|---|---|--:|--:|---|"]
    for bar in BARS:
        value = bar.ratio(medians)
        if value is not None:
            work = medians[bar.row, OURS]["work"]
            verdict = "met" if bar.is_met(value) else "**not met**"
            limit = f"{bar.sense} {bar.limit:g}"
            measured = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
            lines.append(
                f"| {bar.row} | {work} | {bar.meaning} | {limit} | {measured} | {verdict} |"
            )
    return "\n".join(lines)


def failures(records: Iterable[Figures]) -> list[str]:
    return [
        f"{record['server']}, {record['row']}, round {record['round'] + 1}: {record['failure']}"
        for record in records
        if "failure" in record
    ]


def _order(row: str) -> int:
    known = [bar.row for bar in BARS]
    return known.index(row) if row in known else len(known)


def _rate(figures: Figures) -> str:
    if "start_seconds" in figures:
        return f"{figures['start_seconds']:.3f} s"
    if "bytes_per_reader" in figures:
        return f"{figures['bytes_per_reader'] / 1024:.2f} KiB each"
    megabytes = f" ({figures['mb_per_s']:,.0f} MB/s)" if "mb_per_s" in figures else ""
    return f"{figures[RATE]:,.0f}{megabytes}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
