"""Scenarios of data that comes in: a writer faster than the disk, and bodies of 64 MiB.

A refused append changes nothing, so that a stream holds exactly what was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass

from .wire import SLICE, Client


@dataclass(slots=True)
class Stored:
    """What a client knows of its own stream."""

    name: str
    size: int  # of each append
    acknowledged: int = 0
    uncertain: int = 0  # appends that got no answer: each may be there

    async def check(self, client: Client) -> str | None:
        """What is wrong with the stream, by its size; its bytes are ``reading``'s matter."""
        answer = await client.request("HEAD", self.name)
        found = int(answer.headers["stream-next-offset"].rpartition("_")[2])
        least = self.acknowledged * self.size
        if found % self.size == 0 and least <= found <= least + self.uncertain * self.size:
            return None
        return f"{self.name}: {found} bytes, and {least} acknowledged"


async def flood(
    port: int, connections: int, size: int, seconds: float
) -> tuple[Counter[str], list[Stored]]:
    """Appends of ``size`` bytes on each connection, to a stream each, as fast as answered."""
    answers: Counter[str] = Counter()
    until = time.monotonic() + seconds
    streams = [Stored(f"flood-{index}", size) for index in range(connections)]
    await asyncio.gather(*(_flood_one(port, stream, until, answers) for stream in streams))
    return answers, streams


async def _flood_one(port: int, stream: Stored, until: float, answers: Counter[str]) -> None:
    body = stream.name.encode().ljust(64, b".") * (stream.size // 64)
    async with Client(port) as client:
        assert (await client.request("PUT", stream.name)).status == 201
        while time.monotonic() < until:
            answer = await client.request("POST", stream.name, body)
            answers[answer.name] += 1
            stream.acknowledged += answer.status == 204
            if answer.status != 204:
                await asyncio.sleep(float(answer.headers.get("retry-after", 1)))


async def check_streams(port: int, streams: list[Stored]) -> list[str]:
    async with Client(port) as client:
        found = [await stream.check(client) for stream in streams]
    return [wrong for wrong in found if wrong is not None]


async def upload(
    port: int, counts: dict[str, int], size: int, seconds: float
) -> tuple[Counter[str], list[Stored]]:
    """Bodies of ``size`` bytes at once: ``counts`` of fast, slow and endless clients.

    A slow one sends 1 MiB/s and gives up after ``seconds``; an endless one sends three quarters and
    then nothing.
    """
    answers: Counter[str] = Counter()
    streams = [
        Stored(f"upload-{kind}-{index}", size)
        for kind, count in counts.items()
        for index in range(count)
    ]
    await asyncio.gather(*(_upload_one(port, stream, seconds, answers) for stream in streams))
    return answers, streams


async def _upload_one(port: int, stream: Stored, seconds: float, answers: Counter[str]) -> None:
    kind = stream.name.split("-")[1]
    async with Client(port) as client:
        assert (await client.request("PUT", stream.name)).status == 201
        client.send_head("POST", stream.name, stream.size)
        answer = asyncio.create_task(client.head())
        sending = asyncio.create_task(_send_body(client, stream.size, kind))
        stream.uncertain += 1
        done, _ = await asyncio.wait([answer], timeout=seconds)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending
        if not done:
            answer.cancel()
            answers[f"{kind}: none in time"] += 1
        elif answer.exception() is not None:
            answers[f"{kind}: connection lost"] += 1
        else:
            stream.uncertain -= 1
            stream.acknowledged += answer.result().status == 204
            answers[f"{kind}: {answer.result().name}"] += 1


async def _send_body(client: Client, size: int, kind: str) -> None:
    piece = b"x" * SLICE
    sent_max = size * 3 // 4 if kind == "endless" else size
    for _ in range(sent_max // SLICE):
        client.writer.write(piece)
        await client.writer.drain()
        if kind == "slow":
            await asyncio.sleep(SLICE / (1 << 20))
