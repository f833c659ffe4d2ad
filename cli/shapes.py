"""How commands lay out what they print: labelled lines, tables, times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import click


def labelled(name: str, value: str) -> str:
    """A line with a dim label in front."""
    return f"  {click.style(f'{name:<12}', dim=True)}{value}"


def table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Lines of a table; its head is dim."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for number, row in enumerate([head, *rows]):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = "  " + "  ".join(cells).rstrip()
        yield click.style(line, dim=True) if number == 0 else line


def time_text(ms: int | None) -> str:
    """A Unix time in ms, as UTC to the second."""
    if ms is None:
        return "?"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
