"""Scenarios of data that goes out: many clients catch up, some slowly, some not at all."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b

from .wire import SLICE, Client

RECEIVE_BUFFER = 64 * 1024  # bytes, of clients that are slow on purpose


async def fill(port: int, name: str, size: int, body_size: int) -> bytes:
    """Make a stream of ``size`` bytes; the digest of its content."""
    digest = blake2b()
    async with Client(port) as client:
        assert (await client.request("PUT", name)).status == 201
        for index in range(size // body_size):
            body = (b"%015d\n" % index) * (body_size // 16)
            while (answer := await client.request("POST", name, body)).status != 204:
                await asyncio.sleep(float(answer.headers["retry-after"]))
            digest.update(body)
    return digest.digest()


@dataclass(slots=True)
class Readers:
    """How many of each kind read ``name``, and what became of them."""

    port: int
    name: str
    expected: bytes  # the digest of its content
    until: float  # monotonic: slow and stopped ones leave then

    async def run(self, fast: int, slow: int, stopped: int) -> tuple[Counter[str], list[str]]:
        answers: Counter[str] = Counter()
        wrong: list[str] = []
        work = [self._fast(answers, wrong) for _ in range(fast)]
        work += [self._slow(answers, wrong) for _ in range(slow)]
        work += [self._stopped(answers) for _ in range(stopped)]
        await asyncio.gather(*work)
        return answers, wrong

    async def _fast(self, answers: Counter[str], wrong: list[str]) -> None:
        digest, offset, is_done = blake2b(), "-1", False
        async with Client(self.port) as client:
            while not is_done:
                answer = await client.request("GET", f"{self.name}?offset={offset}")
                answers[f"fast: {answer.name}"] += 1
                if answer.status != 200:
                    await asyncio.sleep(float(answer.headers["retry-after"]))
                    continue
                digest.update(answer.body)
                offset = answer.headers["stream-next-offset"]
                is_done = "stream-up-to-date" in answer.headers
        if digest.digest() != self.expected:
            wrong.append("a reader got other bytes than were written")

    async def _slow(self, answers: Counter[str], wrong: list[str]) -> None:
        """1 MiB/s."""
        offset = "-1"
        async with Client(self.port, RECEIVE_BUFFER) as client:
            while time.monotonic() < self.until:
                client.send_head("GET", f"{self.name}?offset={offset}")
                answer = await client.head()
                answers[f"slow: {answer.name}"] += 1
                left = answer.size
                while left > 0 and time.monotonic() < self.until:
                    left -= len(await client.reader.readexactly(min(left, SLICE)))
                    await asyncio.sleep(SLICE / (1 << 20))
                offset = answer.headers["stream-next-offset"]

    async def _stopped(self, answers: Counter[str]) -> None:
        async with Client(self.port, RECEIVE_BUFFER) as client:
            client.send_head("GET", f"{self.name}?offset=-1")
            answers[f"stopped: {(await client.head()).name}"] += 1
            await asyncio.sleep(max(0.0, self.until - time.monotonic()))
