"""Writers and readers of a server that gets killed, and what they know for sure.

Everything they note stands outside the server, so that it can be held against what the server
has after a crash: each acknowledged append once and in order, nothing that was read taken back.
"""

from __future__ import annotations

import random
import threading
import time

from support.http_client import Disconnected, HttpClient

RETRY_SECONDS = 0.01
UNAVAILABLE = 503


class Worker(threading.Thread):
    """Does ``step`` over and over until told to finish; keeps the error that ended it."""

    def __init__(self, port: int, stream: str) -> None:
        super().__init__(daemon=True)
        self.client = HttpClient(port)
        self.stream = stream
        self.error: BaseException | None = None
        self._finishing = threading.Event()

    def run(self) -> None:
        try:
            while not self._finishing.is_set():
                self.step()
        except BaseException as error:
            self.error = error
        finally:
            self.client.close()

    def step(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Let the step under way end; then raise what went wrong, if something did."""
        self._finishing.set()
        self.join(30)
        assert not self.is_alive(), f"{self} hangs"
        if self.error is not None:
            raise self.error


class ProducerWriter(Worker):
    """An idempotent producer: after a broken connection it sends the same batch again."""

    def __init__(self, port: int, stream: str, producer_id: str) -> None:
        super().__init__(port, stream)
        self.producer_id = producer_id
        self.acknowledged = 0  # batches; their seqs are 0 .. acknowledged - 1
        self.resent = 0

    def step(self) -> None:
        seq = self.acknowledged
        headers = {
            "Content-Type": "text/plain",
            "Producer-Id": self.producer_id,
            "Producer-Epoch": "0",
            "Producer-Seq": str(seq),
        }
        while True:
            try:
                body = line(self.producer_id, seq)
                answer = self.client.request("POST", self.stream, body, headers)
            except Disconnected:
                self.resent += 1
                time.sleep(RETRY_SECONDS)
                continue
            if answer.status != UNAVAILABLE:
                break
        assert answer.status in (200, 204), answer
        self.acknowledged = seq + 1


class PlainWriter(Worker):
    """Appends without a producer: what was in doubt is never sent again."""

    def __init__(self, port: int, stream: str, name: str) -> None:
        super().__init__(port, stream)
        self.writer_name = name
        self.count = 0  # tried
        self.in_doubt: set[int] = set()

    def step(self) -> None:
        number = self.count
        self.count += 1
        try:
            body = line(self.writer_name, number)
            headers = {"Content-Type": "text/plain"}
            answer = self.client.request("POST", self.stream, body, headers)
        except Disconnected:
            self.in_doubt.add(number)
            time.sleep(RETRY_SECONDS)
            return
        assert answer.status in (204, UNAVAILABLE), answer
        if answer.status == UNAVAILABLE:
            self.in_doubt.add(number)


class Follower(Worker):
    """Reads on from where it is; what it was given once must never change."""

    def __init__(self, port: int, stream: str) -> None:
        super().__init__(port, stream)
        self.offset = "-1"
        self.received = bytearray()

    def step(self) -> None:
        try:
            answer = self.client.request("GET", self.stream, offset=self.offset)
        except Disconnected:
            time.sleep(RETRY_SECONDS)
            return
        assert answer.status in (200, UNAVAILABLE), answer
        if answer.status == 200:
            self.received += answer.body
            self.offset = answer.next_offset


def line(writer: str, number: int) -> bytes:
    """The batch ``number`` of a writer: 20 bytes to 3 KB that tell where they belong."""
    padding = random.Random(f"{writer} {number}").randrange(3000)
    return f"{writer} {number} {'.' * padding}\n".encode()


def numbers_of(content: bytes, writer: str) -> list[int]:
    """The numbers of a writer's batches in the order stored; each must be whole."""
    found: list[int] = []
    for stored in content.splitlines(keepends=True):
        name, number, _ = stored.decode().split(" ")
        if name == writer:
            assert stored == line(writer, int(number)), f"not what was sent: {stored[:60]!r}"
            found.append(int(number))
    return found
