"""Each scenario against a running server: put it under pressure, and look at its memory."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop

from . import many
from .healthy import HealthyClient
from .live import LiveReader, connect
from .outcome import Outcome
from .reading import Readers, fill
from .usage import MIB, Usage, Watch
from .wire import Client
from .writing import check_streams, flood, upload

DESCRIPTORS_BESIDE = 40  # of segments that come and go, and the connections of the load
SETTLE = 1.0  # seconds after the pressure, before memory is looked at again


@dataclass(slots=True)
class Server:
    """Where it listens, and its process."""

    port: int
    pid: int


def under_watch(
    name: str, server: Server, bound: int, work: Callable[[Outcome], Awaitable[None]]
) -> Outcome:
    """``work`` beside a healthy client, which must be served throughout."""
    before = Usage.of(server.pid)
    outcome = Outcome(name, before, before, peak=0, bound=bound)
    with Watch(server.pid) as watch:
        with HealthyClient(server.port, f"healthy-{name}") as healthy:
            uvloop.run(_awaited(work, outcome))
        time.sleep(SETTLE)
    outcome.peak, outcome.after = watch.peak, Usage.of(server.pid)
    outcome.healthy = healthy.seconds
    outcome.facts["healthy"] = healthy.answers
    if healthy.lost:
        outcome.wrong.append(f"{healthy.lost} messages of the healthy client are lost")
    if set(healthy.answers) != {204}:
        outcome.wrong.append(f"the healthy client was answered {dict(healthy.answers)}")
    return outcome


async def _awaited(work: Callable[[Outcome], Awaitable[None]], outcome: Outcome) -> None:
    await work(outcome)


def writer(server: Server, bound: int, *, connections: int, size: int, seconds: float) -> Outcome:
    """More appends than the disk takes."""

    async def work(outcome: Outcome) -> None:
        began = time.monotonic()
        outcome.answers, streams = await flood(server.port, connections, size, seconds)
        written = size * sum(stream.acknowledged for stream in streams)
        outcome.facts["MiB/s"] = round(written / MIB / (time.monotonic() - began))
        outcome.wrong += await check_streams(server.port, streams)

    return under_watch("writer", server, bound, work)


def bodies(
    server: Server, bound: int, *, fast: int, slow: int, endless: int, size: int, seconds: float
) -> Outcome:
    """Large bodies at once, some of which arrive slowly, or never wholly."""

    async def work(outcome: Outcome) -> None:
        counts = {"fast": fast, "slow": slow, "endless": endless}
        outcome.answers, streams = await upload(server.port, counts, size, seconds)
        outcome.wrong += await check_streams(server.port, streams)

    return under_watch("bodies", server, bound, work)


def catchup(
    server: Server, bound: int, *, fast: int, slow: int, stopped: int, size: int, seconds: float
) -> Outcome:
    """One large stream, read by many from its beginning."""

    async def work(outcome: Outcome) -> None:
        expected = await fill(server.port, "large", size, MIB)
        readers = Readers(server.port, "large", expected, time.monotonic() + seconds)
        outcome.answers, outcome.wrong = await readers.run(fast, slow, stopped)

    return under_watch("catchup", server, bound, work)


def sse(
    server: Server,
    bound: int,
    *,
    reading: int,
    stopped: int,
    size: int,
    rate: float,
    seconds: float,
) -> Outcome:
    """Event streams of one stream; ``rate`` messages of ``size`` bytes a second to it.

    Those that read must get all of them. The server may not end them by age meanwhile.
    """

    async def work(outcome: Outcome) -> None:
        async with Client(server.port) as client:
            assert (await client.request("PUT", "live")).status == 201
            idle = Usage.of(server.pid)
            readers = await connect(server.port, "live", reading, reads=True)
            silent = await connect(server.port, "live", stopped, reads=False)
            await asyncio.sleep(SETTLE)
            held = Usage.of(server.pid).anonymous - idle.anonymous
            outcome.facts["KiB per idle reader"] = round(held / 1024 / (reading + stopped), 1)
            count = await _write(client, outcome.answers, size, rate, seconds)
            await _until_read(readers, count)
            outcome.facts["descriptors held"] = Usage.of(server.pid).descriptors
        outcome.facts["messages"] = count
        ended = sum(reader.is_lost for reader in readers)
        behind = sum(reader.count != count for reader in readers)
        silent_ended = sum(reader.is_lost for reader in silent)
        outcome.facts |= {"ended by the server": ended, "silent, ended": silent_ended}
        outcome.answers["events delivered"] = sum(reader.count for reader in readers)
        if behind or ended or any(reader.wrong for reader in readers):
            outcome.wrong.append(f"{behind} readers did not get all, {ended} were ended")
        for reader in [*readers, *silent]:
            reader.transport.abort()

    return under_watch("sse", server, bound, work)


def streams(server: Server, bound: int, *, count: int, active: int, seconds: float) -> Outcome:
    """Many streams, which are there already, of which a few are used."""

    async def work(outcome: Outcome) -> None:
        chosen = random.Random(1).sample(range(count), active)
        idle = Usage.of(server.pid)
        rounds = await many.use(server.port, chosen, seconds)
        used = Usage.of(server.pid)
        outcome.facts["appends, 1/s"] = round(rounds * active / seconds)
        outcome.facts["anonymous, MiB"] = [idle.anonymous // MIB, used.anonymous // MIB]
        outcome.facts["descriptors"] = [idle.descriptors, used.descriptors]
        outcome.facts["mappings"] = [idle.mappings, used.mappings]
        if used.descriptors > idle.descriptors + DESCRIPTORS_BESIDE:
            outcome.wrong.append(f"{used.descriptors} descriptors, {idle.descriptors} before")
        outcome.answers, wrong = await asyncio.to_thread(
            many.check, server.port, count, chosen, rounds
        )
        if wrong:
            outcome.wrong.append(f"{wrong} streams do not hold what was written to them")

    return under_watch("streams", server, bound, work)


async def _write(
    client: Client, answers: Counter[str], size: int, rate: float, seconds: float
) -> int:
    count, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        body = (b"%08d " % count).ljust(size - 1, b".") + b"\n"
        answers[(await client.request("POST", "live", body)).name] += 1
        count += 1
        await asyncio.sleep(max(0.0, began + count / rate - time.monotonic()))
    return count


async def _until_read(readers: list[LiveReader], count: int) -> None:
    until = time.monotonic() + 60
    while any(r.count < count and not r.is_lost for r in readers) and time.monotonic() < until:
        await asyncio.sleep(0.1)
