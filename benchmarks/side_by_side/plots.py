"""The figures drawn: SVG that is the same, byte by byte, for the same figures.

matplotlib is in the dependency group `bench`; nothing else of the project needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

from .client import Figures
from .report import OURS, RATE, Medians

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "durastream", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot  # noqa: E402

CONNECTIONS = {
    1: "one-writer",
    8: "append-c8",
    32: "append",
    128: "append-c128",
    512: "append-c512",
}
STREAMS = {1: "append", 100: "append-100", 10_000: "append-10k", 100_000: "append-100k"}
SIZES = {2 / 1024: "tail-2k", 1: "tail-1m", 64: "tail-65"}


def draw(medians: Medians, titles: dict[str, str], folder: Path) -> list[Path]:
    """All that there are figures for; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "throughput-connections": lambda axes: _lines(
            axes, medians, titles, CONNECTIONS, RATE, "connections", "durable appends/s"
        ),
        "throughput-streams": lambda axes: _lines(
            axes, medians, titles, STREAMS, RATE, "streams", "durable appends/s"
        ),
        "read-cost": lambda axes: _lines(
            axes, medians, titles, SIZES, "cpu_us", "MiB in the stream",
            "CPU µs to read its last KiB",
        ),
        "append-latency": lambda axes: _latencies(axes, medians, titles, "append"),
    }  # fmt: skip
    written = []
    for name, picture in pictures.items():
        figure, axes = pyplot.subplots(figsize=(6, 3.4), layout="constrained")
        if picture(axes):
            axes.legend(frameon=False)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            written.append(folder / f"{name}.svg")
            figure.savefig(written[-1], metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return written


def _servers(medians: Medians) -> list[str]:
    """Ours first, so that its colour is the same in every picture."""
    return sorted({server for _, server in medians}, key=lambda name: (name != OURS, name))


def _lines(
    axes: Any,
    medians: Medians,
    titles: dict[str, str],
    rows: dict[float, str],
    figure: str,
    across: str,
    up: str,
) -> bool:
    drawn = False
    for server in _servers(medians):
        found = [(at, medians.get((row, server), {}).get(figure)) for at, row in rows.items()]
        points = [(at, value) for at, value in found if value is not None]
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), marker="o", label=titles.get(server, server))
            drawn = True
    axes.set(xscale="log", xlabel=across, ylabel=up, ylim=(0, None))
    return drawn


def _latencies(axes: Any, medians: Medians, titles: dict[str, str], row: str) -> bool:
    """Nines across, so that the tail is as wide as the middle."""
    found = {server: medians.get((row, server), {}) for server in _servers(medians)}
    return percentiles(
        axes,
        ((titles.get(server, server), figures) for server, figures in found.items()),
        "latency of a durable append, ms",
    )


def percentiles(axes: Any, series: Iterable[tuple[str, Figures]], up: str) -> bool:
    drawn = False
    for title, figures in series:
        points = [
            (1 / (1 - float(quantile)), value)
            for quantile, value in figures.get("quantiles_ms", {}).items()
            if float(quantile) < 1
        ]
        if points:
            axes.plot(*zip(*points, strict=True), label=title)
            drawn = True
    ticks = {"0": 1, "50 %": 2, "90 %": 10, "99 %": 100, "99.9 %": 1000, "99.99 %": 10_000}
    axes.set(xscale="log", yscale="log", xlabel="share of requests that are quicker", ylabel=up)
    axes.set_xticks(list(ticks.values()), list(ticks))
    return drawn
