"""Plots of a soak, as SVG that is the same, byte by byte, for the same samples.

matplotlib is in the dependency group `bench`; only the drawing needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from .sample import Sample

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "durastream", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot  # noqa: E402

MIB = 1024 * 1024
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#d9730d", "#3a8f5c", "#9a9a9a"
Lines = dict[str, tuple[str, str, float]]  # label: attribute, colour, unit

MEMORY: Lines = {"anonymous memory, most in 10 s": ("anonymous", BLUE, MIB)}
COUNTS: Lines = {
    "memory mappings": ("mappings", BLUE, 1),
    "descriptors": ("descriptors", ORANGE, 1),
    "segments": ("segment_count", GREEN, 1),
}
SPACE: Lines = {
    "all of the directory": ("disk", BLUE, MIB),
    "log": ("log", GREY, MIB),
    "segments": ("segments", GREEN, MIB),
    "live data": ("live", ORANGE, MIB),
}
APPENDS: Lines = {"p99": ("append_p99", ORANGE, 1e-3), "p50": ("append_p50", BLUE, 1e-3)}
READS: Lines = {"p99": ("read_p99", ORANGE, 1e-3), "p50": ("read_p50", BLUE, 1e-3)}


def draw(samples: Sequence[Sample], kills: Sequence[float], folder: Path) -> list[Path]:
    """What was written: three files. ``kills`` are seconds since the load began."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, list[tuple[str, Lines, bool]]] = {
        "soak-process": [("MiB", MEMORY, False), ("count", COUNTS, False)],
        "soak-disk": [("MiB", SPACE, False)],
        "soak-latency": [("append, ms", APPENDS, True), ("read, ms", READS, True)],
    }
    written = []
    for name, panels in pictures.items():
        figure, found = pyplot.subplots(
            len(panels), 1, figsize=(7, 1.2 + 2.1 * len(panels)), sharex=True,
            layout="constrained", squeeze=False,
        )  # fmt: skip
        for axes, (label, lines, is_log) in zip(found[:, 0], panels, strict=True):
            _panel(axes, samples, kills, label, lines, is_log)
        found[-1, 0].set_xlabel("minutes; dashed: SIGKILL and restart")
        written.append(folder / f"{name}.svg")
        figure.savefig(written[-1], metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return written


def _panel(
    axes: Any, samples: Sequence[Sample], kills: Sequence[float], up: str, lines: Lines, log: bool
) -> None:
    for at in kills:
        axes.axvline(at / 60, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    minutes = [sample.at / 60 for sample in samples]
    for label, (name, colour, unit) in lines.items():
        values = [getattr(sample, name) / unit for sample in samples]
        axes.plot(minutes, values, color=colour, linewidth=1.4, label=label)
    axes.set(ylabel=up, xlim=(0, max(minutes)))
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    else:
        axes.set_ylim(0, None)
    axes.legend(frameon=False, loc="upper left", ncols=len(lines), bbox_to_anchor=(0, 1.22))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
