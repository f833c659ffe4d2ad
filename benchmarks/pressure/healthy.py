"""A healthy client in a process of its own: small appends, one after the other, timed.

    python benchmarks/pressure/healthy.py PORT NAME

Appends to the stream until its standard input ends, then reads all back, and prints one object
in JSON. An append that is refused with Retry-After is counted and not repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from support.http_client import HttpClient

PERIOD = 0.05  # seconds from one append to the next
TEXT = {"Content-Type": "text/plain"}


class HealthyClient:
    """Runs this file as a process while the context lasts; then ``answers`` and latencies.

    Attributes:
        seconds: p50, p99 and the largest, of those that were acknowledged.
        lost: acknowledged messages that are not there, or twice, or in another order.
    """

    def __init__(self, port: int, name: str = "healthy") -> None:
        self._command = [sys.executable, __file__, str(port), name]
        self.answers: Counter[int] = Counter()
        self.seconds: dict[str, float] = {}
        self.lost = 0

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
            self._process.communicate()
            return
        output, _ = self._process.communicate("", timeout=120)
        assert self._process.returncode == 0, "the healthy client failed; see above"
        found = json.loads(output)
        self.answers.update({int(status): count for status, count in found["answers"].items()})
        self.seconds, self.lost = found["seconds"], found["lost"]


def main(port: int, name: str) -> None:
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    answers: Counter[int] = Counter()
    latencies: list[float] = []
    acknowledged: list[bytes] = []
    with HttpClient(port, seconds_max=60) as client:
        assert client.request("PUT", name, headers=TEXT).status == 201
        print("ready", flush=True)
        while not ended.wait(PERIOD) or not acknowledged:
            message = b"%08d\n" % sum(answers.values())
            began = time.monotonic()
            status = client.request("POST", name, message, TEXT).status
            answers[status] += 1
            if status == 204:
                latencies.append(time.monotonic() - began)
                acknowledged.append(message)
        stored = client.read_all(name).splitlines(keepends=True)
    lost = 0 if stored == acknowledged else max(1, len(set(acknowledged) - set(stored)))
    print(json.dumps({"answers": answers, "seconds": summary(latencies), "lost": lost}))


def summary(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    at = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return {name: round(ordered[index], 4) for name, index in at.items()}


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
