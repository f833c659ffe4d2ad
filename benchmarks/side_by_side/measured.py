"""A server under measurement: on a core of its own, its processor time and memory read from /proc.

All processes of its session count, with all their threads. Where there is only one core, server
and client share it, and the figures are not comparable with others.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from killing.process import CannotStart, Process
from peers import Server

from .client import ROOT, Figures

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES, CLIENT_CORES = ({CORES[0]}, {CORES[1]}) if len(CORES) > 1 else (set(CORES),) * 2
TICK = 1 / os.sysconf("SC_CLK_TCK")
START_SECONDS_MAX = 300.0
STOP_SECONDS_MAX = 60.0


class Measured(Process):
    """``server`` over a fresh directory below ``folder``; a context manager that removes it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = Path(tempfile.mkdtemp(prefix=f"bench-{server.name}-", dir=folder))
        self.data_dir = self.folder / "data"
        self.data_dir.mkdir()
        super().__init__(server, self.data_dir, self.folder / "log", 30.0)

    def start_pinned(self, path: str = "is-it-up", status: int = 404) -> float:
        """Start it; seconds until a HEAD of ``path`` is answered with ``status``.

        Raises: CannotStart.
        """
        started = time.monotonic()
        with _pinned(SERVER_CORES):
            self.start()
        while not self._answers_with(path, status):
            if self.ended or time.monotonic() - started > START_SECONDS_MAX:
                raise CannotStart(f"{self.server.title} does not answer: {self._last_words()}")
            time.sleep(0.002)
        return time.monotonic() - started

    def _answers_with(self, path: str, status: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("HEAD", ROOT + path)
            return connection.getresponse().status == status
        except (http.client.HTTPException, OSError):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        self.terminate(STOP_SECONDS_MAX)

    def processor_seconds(self) -> float:
        """Of all its processes since they started, user and system."""
        return sum(float(utime) + float(stime) for utime, stime in self._times()) * TICK

    def _times(self) -> Iterator[tuple[str, str]]:
        for pid in self._pids():
            fields = (Path("/proc") / pid / "stat").read_text().rpartition(")")[2].split()
            yield fields[11], fields[12]

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes of all its processes."""
        total = 0
        for pid in self._pids():
            for line in (Path("/proc") / pid / "status").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1]) * 1024
        return total

    def _pids(self) -> Iterator[str]:
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    stat = (folder / "stat").read_text()
                except OSError:  # it ended meanwhile
                    continue
                if int(stat.rpartition(")")[2].split()[3]) == self.pid:
                    yield folder.name

    def measure(self, work: Callable[[], Figures]) -> Figures:
        """What ``work`` returns, and the server's processor time and memory during it."""
        before, others, started = self.processor_seconds(), _machine_seconds(), time.monotonic()
        figures = work()
        seconds = time.monotonic() - started
        used = self.processor_seconds() - before
        client = figures.get("client_cpu", 0) * figures.get("seconds", seconds)
        figures["server_cpu"] = used / seconds
        figures["other_cpu"] = max(0.0, (_machine_seconds() - others - used - client) / seconds)
        count = figures.get("requests") or figures.get("delivered")
        figures["cpu_us"] = 1e6 * used / count if count else None
        figures["rss_mb"] = self.memory() / 1e6
        return figures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.ended:
            self.kill() if error else self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def pin_client() -> None:
    """This process, and so every load client that it starts; SIGTERM ends it in good order."""
    os.sched_setaffinity(0, CLIENT_CORES)
    signal.signal(signal.SIGTERM, lambda *_: exit(143))


@contextmanager
def _pinned(cores: set[int]) -> Iterator[None]:
    """What is started within inherits these."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _machine_seconds() -> float:
    """Of everything on this machine, idle time apart."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) * TICK
