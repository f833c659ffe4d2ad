"""The load of a soak: places, the lanes that they belong to, and who is next, at a fixed rate."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import accumulate

from .lane import Lane, Soil
from .plan import Plan
from .streams import KINDS, Place

SKEW = 0.9  # of the Zipf distribution over places
TICK = 0.01  # seconds; what is due in one is handed over at once
CHOICES = 4096  # drawn at once


class Load:
    """Open loop: work becomes due by the clock, whether or not earlier work is done."""

    def __init__(self, plan: Plan, soil: Soil) -> None:
        self._plan = plan
        self._chance = random.Random(f"{plan.seed} load")
        kinds = len(KINDS)
        self.places = [
            Place(number, number % plan.lanes, KINDS[number % kinds])
            for number in range(plan.streams)
        ]
        self.lanes = [
            Lane(soil, number, self.places[number :: plan.lanes], plan.length)
            for number in range(plan.lanes)
        ]
        ranks = list(range(1, plan.streams + 1))
        self._chance.shuffle(ranks)
        self._weights = list(accumulate(rank**-SKEW for rank in ranks))
        self._running: list[asyncio.Task[None]] = []

    @property
    def received(self) -> int:
        """Bytes of answers, so far."""
        return sum(lane.connection.received for lane in self.lanes)

    async def fill(self) -> None:
        await self._all("fill")

    async def audit(self) -> None:
        """Compare every stream in full."""
        await self._all("audit")

    async def _all(self, what: str) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in self.lanes:
                group.create_task(getattr(lane, what)())
        await self.close()

    async def close(self) -> None:
        """All connections; they come back when there is something to ask."""
        for lane in self.lanes:
            lane.connection.close()
        await asyncio.sleep(0)  # a transport is gone in the next round of the loop

    def start(self) -> None:
        self._running = [asyncio.create_task(lane.run()) for lane in self.lanes]

    async def offer(self, seconds: float) -> None:
        """Hand out work as it becomes due, for so long; then let the lanes finish."""
        began = time.monotonic()
        plan, given, chosen = self._plan, 0, list[Place]()
        while (elapsed := time.monotonic() - began) < seconds:
            for _ in range(int(elapsed * (plan.rate + plan.reads)) - given):
                if not chosen:
                    chosen = self._chance.choices(self.places, cum_weights=self._weights, k=CHOICES)
                self._hand_over(chosen.pop(), began + given / (plan.rate + plan.reads))
                given += 1
            await asyncio.sleep(TICK)
        for lane in self.lanes:
            lane.queue.put_nowait(None)
        await asyncio.gather(*self._running)
        await self.close()

    def _hand_over(self, place: Place, due: float) -> None:
        plan = self._plan
        is_read = self._chance.random() < plan.reads / (plan.rate + plan.reads)
        self.lanes[place.lane].queue.put_nowait((due, "read" if is_read else "append", place))
