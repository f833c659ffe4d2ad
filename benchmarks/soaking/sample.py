"""What is looked at while a soak goes on: the process, its directory, and how long answers took."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from pressure.usage import Usage

from .lane import Soil, no_latencies
from .load import Load
from .streams import live_size

LOOKS = 10  # at memory, in a window


@dataclass(frozen=True, slots=True)
class Sample:
    """One window. Sizes in bytes, latencies in seconds; memory is the most of the window.

    Attributes:
        at: seconds since the load began, at the end of the window.
        generation: starts of the server so far.
        uptime: seconds since the last of them.
        written: to files, so far: what the server gave the kernel to write, less what the clients
            received of it. Its own count of pages made dirty counts large folios whole.
        appended: acknowledged so far.
        live: what the streams hold that are there, counted once if forks share it.
        disk: blocks of the whole directory; the parts are ``log`` and ``segments``.
    """

    at: float
    generation: int
    uptime: float
    anonymous: int
    descriptors: int
    mappings: int
    written: int
    appended: int
    live: int
    disk: int
    log: int
    segments: int
    segment_count: int
    append_count: int
    append_p50: float
    append_p99: float
    read_p50: float
    read_p99: float
    late_p50: float

    @classmethod
    def of(cls, line: str) -> Self:
        return cls(**json.loads(line))


class Written:
    """Bytes that processes gave the kernel to write, one after the other."""

    def __init__(self) -> None:
        self._before = self._now = 0

    def look(self, pid: int) -> int:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "wchar":
                self._now = int(value)
        return self._before + self._now

    def ended(self) -> None:
        self._before, self._now = self._before + self._now, 0


class Sampler:
    """Call ``run`` as a task. It writes each sample as a line of JSON to ``file``."""

    def __init__(self, soil: Soil, load: Load, folder: Path, file: IO[str], window: float) -> None:
        self.samples: list[Sample] = []
        self.written = Written()
        self.pid = 0  # 0: there is no server
        self._soil, self._load, self._window = soil, load, window
        self._folder, self._file = folder, file

    async def run(self) -> None:
        began = time.monotonic()
        while True:
            peak = 0
            for _ in range(LOOKS):
                await asyncio.sleep(self._window / LOOKS)
                peak = max(peak, self._look())
            if self.pid:
                self._take(time.monotonic() - began, peak)

    def _look(self) -> int:
        if not self.pid:
            return 0
        self.written.look(self.pid)
        return Usage.of(self.pid).anonymous

    def _take(self, at: float, peak: int) -> None:
        usage, soil = Usage.of(self.pid), self._soil
        latencies = {what: sorted(values) for what, values in soil.latencies.items()}
        soil.latencies = no_latencies()
        sizes = {part: _size(self._folder / part) for part in ("wal", "segments", ".")}
        sample = Sample(
            at=round(at, 1),
            generation=soil.ledger.generation,
            uptime=round(time.monotonic() - soil.up_since, 1),
            anonymous=max(peak, usage.anonymous),
            descriptors=usage.descriptors,
            mappings=usage.mappings,
            written=self.written.look(self.pid) - self._load.received,
            appended=soil.appended,
            live=live_size(self._load.places),
            disk=sizes["."],
            log=sizes["wal"],
            segments=sizes["segments"],
            segment_count=sum(1 for _ in (self._folder / "segments").glob("*.seg")),
            append_count=len(latencies["append"]),
            append_p50=_quantile(latencies["append"], 0.5),
            append_p99=_quantile(latencies["append"], 0.99),
            read_p50=_quantile(latencies["read"], 0.5),
            read_p99=_quantile(latencies["read"], 0.99),
            late_p50=_quantile(latencies["late"], 0.5),
        )
        self.samples.append(sample)
        self._file.write(json.dumps(asdict(sample)) + "\n")
        self._file.flush()


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[int(share * (len(ordered) - 1))], 5) if ordered else 0.0


def _size(folder: Path) -> int:
    """Blocks of all files below; some may go meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
