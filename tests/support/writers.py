"""Writers of a server that is not killed, and what they know to be acknowledged."""

from __future__ import annotations

import random
import threading

from support.http_client import HttpClient


class Writer(threading.Thread):
    """Appends batch after batch until told to finish: 20 bytes to 3 KB that tell where they belong.

    Args:
        is_producer: send them as an idempotent producer of this name, epoch 0.
    """

    def __init__(self, port: int, stream: str, name: str, *, is_producer: bool) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.name = name
        self.acknowledged = 0  # batches; their numbers are 0 .. acknowledged - 1
        self._port = port
        self._is_producer = is_producer
        self._finishing = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            with HttpClient(self._port) as client:
                while not self._finishing.is_set():
                    self._append(client)
        except BaseException as error:
            self._error = error

    def _append(self, client: HttpClient) -> None:
        number = self.acknowledged
        headers = {"Content-Type": "text/plain"}
        if self._is_producer:
            tuples = {"Producer-Id": self.name, "Producer-Epoch": "0", "Producer-Seq": str(number)}
            headers.update(tuples)
        answer = client.request("POST", self.stream, batch(self.name, number), headers)
        assert answer.status in (200, 204), answer
        self.acknowledged = number + 1

    def finish(self) -> None:
        """Let the append under way end; then raise what went wrong, if something did."""
        self._finishing.set()
        self.join(30)
        assert not self.is_alive(), f"{self} hangs"
        if self._error is not None:
            raise self._error


def batch(name: str, number: int) -> bytes:
    padding = random.Random(f"{name} {number}").randrange(3000)
    return f"{name} {number} {'.' * padding}\n".encode()


def numbers_of(content: bytes, name: str) -> list[int]:
    """The numbers of a writer's batches in the order stored; each must be whole."""
    found: list[int] = []
    for stored in content.splitlines(keepends=True):
        stored_name, number, _ = stored.decode().split(" ")
        if stored_name == name:
            assert stored == batch(name, int(number)), f"not what was sent: {stored[:60]!r}"
            found.append(int(number))
    return found
