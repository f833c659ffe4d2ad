"""A real `durastream serve` as its own process: what users run, started, killed and restarted.

The address is read from the banner, so that port 0 needs no guessing and the banner is used.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 20.0


class ServerProcess:
    """One server on the loopback, over ``data_dir`` or, with None, in memory.

    Args:
        arguments: more arguments for `durastream serve`.
        python: of the environment in which durastream is installed.

    A context manager: entering starts it, leaving stops it if it still runs. After the first
    start the port stays, so that clients survive a restart.
    """

    def __init__(
        self, data_dir: Path | None, *arguments: str, python: str | Path = sys.executable
    ) -> None:
        place = ["--memory"] if data_dir is None else ["--data-dir", str(data_dir)]
        self._command = [str(python), "-P", "-m", "durastream", "serve", *place, *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._file: IO[bytes] | None = None
        self._output = ""
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything the present or last process printed."""
        if self._file is not None:
            self._file.seek(0)
            self._output = self._file.read().decode()
        return self._output

    def start(self) -> None:
        """Start it and return when its banner is there."""
        assert self._process is None, "already started"
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _reap
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env={k: v for k, v in os.environ.items() if not k.startswith("DURASTREAM_")},
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (address := ADDRESS.search(self.output)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"no banner with an address:\n{self.output}")
            time.sleep(0.01)
        self.port = int(address[1])

    def stop(self) -> None:
        """SIGTERM; it must end by itself, in good order and in time."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there after SIGTERM:\n{self.output}") from None
        self._reap()
        assert status == 0, f"exit status {status}:\n{self.output}"

    def kill(self) -> None:
        """SIGKILL: the crash of a process, of which nothing gets to know."""
        assert self._process is not None, "not started"
        self._process.kill()
        self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        assert self._file is not None
        self._process.wait()
        self._process = None
        self._output = self.output
        self._file.close()
        self._file = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        if error is None:
            self.stop()
        else:
            self.kill()
