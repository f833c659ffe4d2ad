"""Many streams: what they cost at a restart, in memory and in files.

Each stream is created and gets ten small messages over HTTP, in ten rounds over all streams, so
that no two messages of a stream lie together. Then the server is killed with SIGKILL and started
again, and stopped and started again; each time the first answer is timed, and the content of a
thousand streams is compared. Rows of different sizes show what grows with the number of streams.

    .venv/bin/python benchmarks/many_streams.py --streams 1000 100000
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.http_client import HttpClient  # noqa: E402
from support.server_process import ServerProcess  # noqa: E402

MESSAGES = 10
CONNECTIONS = 32
PIPELINE_DEPTH = 16
SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Row:
    streams: int
    create_rate: float  # requests per second
    append_rate: float
    start_after_kill: float  # seconds from exec to the first answer
    start_after_stop: float
    memory_after_kill: int  # anonymous memory in bytes, once it has answered
    memory_after_stop: int
    memory_after_reads: int  # of SAMPLE streams
    files: int
    disk_size: int  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1_000, 100_000])
    print(
        "| streams | creates/s | appends/s | first answer after SIGKILL, s | after SIGTERM, s "
        "| memory after SIGKILL, MB | after SIGTERM, MB | 1,000 reads, MB | files | disk, MB |"
    )
    print("|--:" * 10 + "|")
    for streams in parser.parse_args().streams:
        with tempfile.TemporaryDirectory(prefix="durastream-many-") as folder:
            print(markdown(measure(Path(folder) / "data", streams)), flush=True)


def markdown(row: Row) -> str:
    cells = [f"{row.streams:,}", f"{row.create_rate:,.0f}", f"{row.append_rate:,.0f}"]
    cells += [f"{row.start_after_kill:.2f}", f"{row.start_after_stop:.2f}"]
    sizes = [row.memory_after_kill, row.memory_after_stop, row.memory_after_reads]
    cells += [f"{size / 1e6:.0f}" for size in sizes]
    cells += [str(row.files), f"{row.disk_size / 1e6:.0f}"]
    return f"| {' | '.join(cells)} |"


def measure(data_dir: Path, streams: int) -> Row:
    with ServerProcess(data_dir) as server:
        create_rate = uvloop.run(load(server.port, create_requests(streams), streams))
        appends = streams * MESSAGES
        append_rate = uvloop.run(load(server.port, append_requests(streams), appends))
        server.kill()
        start_after_kill, memory_after_kill = start(server)
        check(server.port, streams)
        server.stop()
        start_after_stop, memory_after_stop = start(server)
        check(server.port, streams)
        memory_after_reads = memory(server.pid)
        found = [path for path in data_dir.rglob("*") if path.is_file()]
        return Row(
            streams,
            create_rate,
            append_rate,
            start_after_kill,
            start_after_stop,
            memory_after_kill,
            memory_after_stop,
            memory_after_reads,
            files=len(found),
            disk_size=sum(path.stat().st_blocks * 512 for path in found),
        )


def start(server: ServerProcess) -> tuple[float, int]:
    """Seconds from exec to the first answer, and the memory then."""
    started = time.monotonic()
    server.start()
    with HttpClient(server.port) as client:
        assert client.request("GET", name(0), offset="-1").status == 200
    return time.monotonic() - started, memory(server.pid)


def check(port: int, streams: int) -> None:
    expected = b"".join(message(number) for number in range(MESSAGES))
    chosen = random.Random(1).sample(range(streams), min(SAMPLE, streams))
    with HttpClient(port) as client:
        for index in chosen:
            assert client.read_all(name(index)) == expected, f"{name(index)} has changed"


def memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


# -- the load ------------------------------------------------------------------------------


def name(index: int) -> str:
    return f"many/{index % 100:02}/{index}"


def message(number: int) -> bytes:
    return b"message %d, small as they are.\n" % number


def create_requests(streams: int) -> Iterator[bytes]:
    for index in range(streams):
        yield request(b"PUT", index, b"")


def append_requests(streams: int) -> Iterator[bytes]:
    for number in range(MESSAGES):
        for index in range(streams):
            yield request(b"POST", index, message(number))


def request(method: bytes, index: int, body: bytes) -> bytes:
    return b"%s /v1/stream/%s HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n" % (
        method,
        name(index).encode(),
    ) + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


async def load(port: int, requests: Iterator[bytes], count: int) -> float:
    """Send them all over a few pipelined connections; requests per second."""
    started = time.monotonic()
    connections = [Connection(requests) for _ in range(CONNECTIONS)]
    loop = asyncio.get_running_loop()
    for connection in connections:
        await loop.create_connection(lambda c=connection: c, "127.0.0.1", port)
    await asyncio.gather(*(connection.done for connection in connections))
    assert sum(connection.answered for connection in connections) == count
    return count / (time.monotonic() - started)


class Connection(asyncio.Protocol):
    """Keeps PIPELINE_DEPTH requests under way. Two requests to one stream never are."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._sent = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send(PIPELINE_DEPTH)

    def data_received(self, data: bytes) -> None:
        # An answer without a body ends with its header; one with a body is an error.
        *answers, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for answer in answers:
            if not answer.startswith((b"HTTP/1.1 201", b"HTTP/1.1 204")):
                self.done.set_exception(AssertionError(answer.decode()))
                self._transport.abort()
                return
        self.answered += len(answers)
        self._send(len(answers))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the server"))

    def _send(self, count: int) -> None:
        batch = [r for _, r in zip(range(count), self._requests, strict=False)]
        self._sent += len(batch)
        if batch:
            self._transport.write(b"".join(batch))
        elif self.answered == self._sent and not self.done.done():
            self.done.set_result(None)
            self._transport.close()


if __name__ == "__main__":
    main()
