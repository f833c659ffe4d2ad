"""durastream as one of the servers that are killed: as users start it, and with a small store."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from peers import HERE, Server

try:
    from durastream import __version__
except ImportError as error:
    raise SystemExit("run this with the environment's Python: .venv/bin/python") from error


TROUBLE = re.compile(rb"^.* (?:ERROR|CRITICAL) .*$|^Traceback.*$|^.*Warning: .*$", re.MULTILINE)


@dataclass(frozen=True)
class Durastream(Server):
    """``durastream serve`` with its defaults."""

    def install(self) -> None:
        pass

    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        place = ["--port", str(port), "--data-dir", str(data_dir)]
        return [*self._run("serve"), *place, "--long-poll-timeout", str(long_poll_seconds)]

    def verify_command(self, data_dir: Path) -> list[str]:
        return [*self._run("verify"), str(data_dir)]

    def troubles(self, log: bytes) -> list[str]:
        return [line.decode() for line in TROUBLE.findall(log)]

    def _run(self, command: str) -> list[str]:
        return [sys.executable, "-P", "-m", "durastream", command]


@dataclass(frozen=True)
class SmallDurastream(Durastream):
    """The same server over a store with small files and flushes, so that kills meet them."""

    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        program = [sys.executable, "-P", str(HERE / "small_server.py")]
        return [*program, str(port), str(data_dir), str(long_poll_seconds)]


@dataclass(frozen=True)
class Forgetful(Durastream):
    """In memory: loses everything with each kill. Only to see that a run finds that."""

    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        wait = ["--long-poll-timeout", str(long_poll_seconds)]
        return [*self._run("serve"), "--memory", "--port", str(port), *wait]

    def verify_command(self, data_dir: Path) -> list[str]:
        return []


SMALL = SmallDurastream("durastream", "durastream, small flushes", __version__)
DEFAULT = Durastream("durastream-defaults", "durastream, defaults", __version__)
OURS: dict[str, Server] = {server.name: server for server in (SMALL, DEFAULT)}
FORGETFUL = Forgetful("forgetful", "durastream, in memory", __version__)
