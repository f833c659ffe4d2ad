"""A server as a process group: started, waited for, killed with SIGKILL at any moment."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

from peers import ROOT, Server

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
POLL_SECONDS = 0.004


class CannotStart(Exception):
    """The server ended, or does not answer, after a start."""


class Process:
    """``server`` over ``data_dir``; what it prints is appended to ``log``."""

    def __init__(self, server: Server, data_dir: Path, log: Path, long_poll_seconds: float) -> None:
        self.port = free_port()
        self._server = server
        self._data_dir = data_dir
        self._log_path = log
        self._log: IO[bytes] | None = None
        self._long_poll_seconds = long_poll_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ended(self) -> bool:
        """Whether it is not there, by its own or another's doing."""
        return self._process is None or self._process.poll() is not None

    @property
    def pid(self) -> int:
        """Of its first process, which is also its session's and its group's number."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return at once."""
        assert self._process is None, "it was not killed"
        self._log = self._log_path.open("ab")
        arguments = (self._data_dir, self.port, self._long_poll_seconds)
        self._process = subprocess.Popen(
            self._server.command(*arguments),
            env=self._server.environment(*arguments),
            cwd=self._data_dir,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Wait until it answers a request. Raises: CannotStart."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            if self.ended:
                raise CannotStart(f"it ended while it started: {self._last_words()}")
            if time.monotonic() > deadline:
                raise CannotStart(f"no answer in {START_SECONDS_MAX} s: {self._last_words()}")
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS_MAX)
        try:
            connection.request("HEAD", f"{ROOT}is-it-up")
            connection.getresponse().read()
        except (http.client.HTTPException, OSError):
            return False
        finally:
            connection.close()
        return True

    def _last_words(self) -> str:
        return self._log_path.read_bytes()[-600:].decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL to it and all it started."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._forget()

    def terminate(self, kill_after: float | None = None) -> bool:
        """SIGTERM, and SIGKILL after a while; whether it ended by itself before."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        assert self._process is not None
        assert self._log is not None
        self._process.wait()
        self._log.close()
        self._process = self._log = None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
