"""Judge cases in a process of its own, which damage may kill, or hang.

The parent sends one case a line and reads one outcome a line; a process that dies or falls
silent is an outcome, too, and the next case gets a new one.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .matrix import Matrix

TESTS = Path(__file__).resolve().parent.parent
SILENCE_MAX = 60.0  # seconds for one case; the slowest takes a fraction of one


class Worker:
    """A process that judges cases one after the other."""

    def __init__(self, seed: int, silence_max: float = SILENCE_MAX) -> None:
        self._seed = seed
        self._silence_max = silence_max
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, name: str, number: int) -> dict[str, Any]:
        """The outcome of a case."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{name}\t{number}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], self._silence_max)
        line = process.stdout.readline() if ready else b""
        if line:
            return dict(json.loads(line))
        what = "the process hangs" if not ready else self._death(process)
        self.close()
        return {"opened": what, "found_by": "death", "broken": [what], "what": "", "error": ""}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, "-m", "corruption.worker", str(self._seed)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
                cwd=TESTS.parent,
                start_new_session=True,  # an interrupt is the parent's to take
            )
        return self._process

    def _death(self, process: subprocess.Popen[bytes]) -> str:
        code = process.wait()
        return f"the process died of {signal.Signals(-code).name if code < 0 else code}"

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve(seed: int) -> None:
    """Answer cases from stdin until it ends."""
    logging.disable(logging.CRITICAL)  # the store reports all that it finds
    with tempfile.TemporaryDirectory(prefix="durastream-corrupt-", dir=fast_folder()) as folder:
        matrix = Matrix(seed, Path(folder))
        gc.freeze()  # the specimens stay
        for line in sys.stdin:
            name, number = line.rstrip("\n").split("\t")
            print(json.dumps(matrix.run(name, int(number))), flush=True)


def fast_folder() -> str | None:
    """Memory, if the system offers it: the damage is the subject, not the disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    serve(int(sys.argv[1]))
