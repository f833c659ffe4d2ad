"""Fill a small real file system under load, again and again, and see that nothing is lost.

    sudo .venv/bin/python benchmarks/full_disk.py --rounds 10

Makes an ext4 file system of ``--size`` MiB in a file and mounts it, which needs root; or give it
the directory of a small file system with ``--directory``. In each round producers write until
all of them are refused; then reads must go on and a deletion must be taken; in every second
round the server is killed and must open on the full disk. Then space is freed, every producer
goes on with the batch that was refused, and each stream must hold every acknowledged batch once.
Results in JSON go to stdout; a broken promise ends the run with status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.http_client import Disconnected, HttpClient  # noqa: E402
from support.server_process import ServerProcess  # noqa: E402

KIB, MIB = 1024, 1024 * 1024
REFUSED = (503, 507)
RECOVERY_SECONDS_MAX = 30.0
BALLAST_SIZE = 160 * MIB  # more than the reserve and a file of the log


class Broken(Exception):
    """A promise was broken."""


class Writer:
    """An idempotent producer on one stream; batches are told apart by what they repeat."""

    def __init__(self, port: int, name: str, size: int) -> None:
        self.name = name
        self._port = port
        self._size = size
        self.acknowledged = 0
        self.refusals: Counter[int] = Counter()

    def batch(self, seq: int) -> bytes:
        return f"{self.name} {seq:08d}\n".encode().ljust(self._size, b".")

    def expected(self) -> bytes:
        return b"".join(map(self.batch, range(self.acknowledged)))

    def write_until(self, is_over: threading.Event) -> None:
        """Append until ``is_over``, sending again what was refused."""
        with HttpClient(self._port) as client:
            while not is_over.is_set():
                if not self._write_one(client):
                    time.sleep(0.05)

    def _write_one(self, client: HttpClient) -> bool:
        producer = {
            "Content-Type": "application/octet-stream",
            "Producer-Id": self.name,
            "Producer-Epoch": "0",
            "Producer-Seq": str(self.acknowledged),
        }
        try:
            answer = client.request("POST", self.name, self.batch(self.acknowledged), producer)
        except Disconnected:
            return False
        if answer.status in (200, 204):
            self.acknowledged += 1
            return True
        if answer.status not in REFUSED or "Retry-After" not in answer.headers:
            raise Broken(f"{self.name}: {answer.status} {answer.body!r}")
        self.refusals[answer.status] += 1
        return False


class Round:
    """One time of filling up, and of going on."""

    def __init__(self, server: ServerProcess, number: int, writer_count: int) -> None:
        self._server = server
        sizes = [KIB, 16 * KIB, 64 * KIB, 512 * KIB]
        self.writers = [
            Writer(server.port, f"r{number}w{i}", sizes[i % len(sizes)])
            for i in range(writer_count)
        ]
        self.spare = f"r{number}spare"  # a stream to delete while the disk is full
        self._over = threading.Event()
        self._errors: list[Exception] = []

    def begin(self) -> None:
        with HttpClient(self._server.port) as client:
            for name in [self.spare, *(writer.name for writer in self.writers)]:
                answer = client.request(
                    "PUT", name, headers={"Content-Type": "application/octet-stream"}
                )
                if answer.status != 201:
                    raise Broken(f"PUT {name}: {answer.status} {answer.body!r}")
        self._threads = [
            threading.Thread(target=self._write, args=(writer,), daemon=True)
            for writer in self.writers
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, writer: Writer) -> None:
        try:
            writer.write_until(self._over)
        except Exception as error:
            self._errors.append(error)

    def wait_until_full(self) -> None:
        self._wait(lambda: all(writer.refusals[507] > 3 for writer in self.writers), 300)

    def require_reads_and_deletion(self) -> None:
        with HttpClient(self._server.port) as client:
            for writer in self.writers:
                acknowledged = writer.acknowledged
                expected = b"".join(map(writer.batch, range(acknowledged)))
                if not client.read_all(writer.name).startswith(expected):
                    raise Broken(f"{writer.name}: {acknowledged} batches were acknowledged")
            answer = client.request("DELETE", self.spare)
            if answer.status != 204:
                raise Broken(f"DELETE on the full disk: {answer.status} {answer.body!r}")

    def wait_until_going_on(self) -> float:
        """How many seconds it took until every writer had an acknowledgement again."""
        started = time.monotonic()
        before = [writer.acknowledged for writer in self.writers]
        self._wait(
            lambda: all(
                writer.acknowledged > count
                for writer, count in zip(self.writers, before, strict=True)
            ),
            RECOVERY_SECONDS_MAX,
        )
        return time.monotonic() - started

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        if self._errors:
            raise self._errors[0]
        with HttpClient(self._server.port) as client:
            for writer in self.writers:
                if client.read_all(writer.name) != writer.expected():
                    raise Broken(f"{writer.name}: not what was acknowledged, once and in order")

    def delete(self) -> None:
        with HttpClient(self._server.port) as client:
            for writer in self.writers:
                client.request("DELETE", writer.name)

    def _wait(self, is_true: object, seconds: float) -> None:
        assert callable(is_true)
        deadline = time.monotonic() + seconds
        while not is_true():
            if self._errors:
                raise self._errors[0]
            if time.monotonic() > deadline:
                raise Broken(f"not within {seconds} s:\n{self._server.output[-2000:]}")
            time.sleep(0.05)


class Ballast:
    """Files that take space away, to be removed as an operator would remove something."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ballast"

    def put(self) -> None:
        with contextlib.suppress(OSError), self._path.open("wb") as file:
            for _ in range(BALLAST_SIZE // MIB):
                file.write(bytes(MIB))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def small_file_system(size: int) -> Iterator[Path]:
    """An ext4 file system of ``size`` MiB in a file. Needs root."""
    with tempfile.TemporaryDirectory(prefix="durastream-full-") as scratch:
        image, mounted = Path(scratch, "image"), Path(scratch, "mounted")
        mounted.mkdir()
        with image.open("wb") as file:
            file.truncate(size * MIB)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
        try:
            yield mounted
        finally:
            subprocess.run(["umount", mounted], check=True)


def run(folder: Path, rounds: int, writer_count: int) -> dict[str, object]:
    ballast = Ballast(folder)
    waits: list[float] = []
    counts: Counter[str] = Counter()
    with ServerProcess(folder / "data") as server:
        for number in range(rounds):
            ballast.put()
            work = Round(server, number, writer_count)
            work.begin()
            work.wait_until_full()
            work.require_reads_and_deletion()
            if number % 2:
                server.kill()
                server.start()
                counts["kills on the full disk"] += 1
            ballast.remove()
            waits.append(round(work.wait_until_going_on(), 2))
            work.end()
            for writer in work.writers:
                counts["acknowledged batches"] += writer.acknowledged
                counts["refused with 507"] += writer.refusals[507]
                counts["refused with 503"] += writer.refusals[503]
            work.delete()
            print(f"round {number}: went on after {waits[-1]} s", file=sys.stderr, flush=True)
    return {"rounds": rounds, "seconds until going on": waits, **counts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--size", type=int, default=512, help="MiB of the file system")
    parser.add_argument("--directory", type=Path, help="of a small file system that is there")
    options = parser.parse_args()
    place = (
        contextlib.nullcontext(options.directory)
        if options.directory
        else small_file_system(options.size)
    )
    with place as folder:
        try:
            print(json.dumps(run(folder, options.rounds, options.writers), indent=1))
        except Broken as broken:
            print(broken, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
