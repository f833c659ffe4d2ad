"""One lane: a connection that writes, reads, deletes and forks the streams of its places.

Every answer is held against the ledger at once. A request that got no answer because the server
was killed is cleared up before the next: sent again if that is safe, looked for if not.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from killing.ledger import DOUBLED, EXPIRED, LOST, RESURRECTED, SHOWN, UNEXPECTED, Ledger
from pressure.wire import ROOT, Answer

from .content import answered, sent
from .streams import RETENTION_BYTES, TTL_SECONDS, Kind, Place, Stream, batch
from .wire import Connection, NoAnswer, offset, position

FORKS_ONE_IN = 4  # of new streams
GONE = (404, 410)
BUSY_SECONDS = 0.2


def no_latencies() -> dict[str, list[float]]:
    return {"append": [], "read": [], "late": []}


@dataclass
class Soil:
    """What all lanes share.

    Attributes:
        up: set while the server answers.
        up_since: monotonic.
        latencies: seconds of requests, from sending to the answer; ``late`` is what work waited
            before, because its lane was busy. Those that met a kill are left out.
    """

    port: int
    seed: int
    ledger: Ledger
    up: asyncio.Event = field(default_factory=asyncio.Event)
    up_since: float = 0.0
    appended: int = 0  # bytes that were acknowledged
    keys: int = 0
    latencies: dict[str, list[float]] = field(default_factory=no_latencies)


class Lane:
    """Call ``run`` as a task; give it work with ``queue``.

    Args:
        length: of streams, in batches, on average: after one append in so many a stream ends.
    """

    def __init__(self, soil: Soil, number: int, places: list[Place], length: int) -> None:
        self.queue: asyncio.Queue[tuple[float, str, Place] | None] = asyncio.Queue()
        self.places = places
        self._soil = soil
        self._chance = random.Random(f"{soil.seed} lane {number}")
        self._length = length
        self.connection = Connection(soil.port)
        self._generation = soil.ledger.generation

    # -- work --------------------------------------------------------------------------------

    async def fill(self) -> None:
        """A stream for each place, as long as streams are in the long run."""
        for place in self.places:
            count = int(self._chance.expovariate(1 / self._length))
            first = min(count, place.kind is not Kind.PRODUCER)  # whose batches are numbered
            await self._create(place, with_batch=bool(first))
            await self._append(place, count=count - first)

    async def run(self) -> None:
        while (work := await self.queue.get()) is not None:
            due, what, place = work
            began = time.monotonic()
            resets = self._soil.ledger.counts["requests without an answer"]
            if what == "append":
                await self._append(place)
            else:
                await self._read(place)
            if resets == self._soil.ledger.counts["requests without an answer"]:
                sent_at = max(began, self._soil.up_since)
                self._soil.latencies[what].append(time.monotonic() - sent_at)
                self._soil.latencies["late"].append(began - max(due, self._soil.up_since))
            if what == "append" and self._chance.randrange(self._length) == 0:
                await self._replace(place)

    async def audit(self) -> None:
        """Read all streams in full."""
        for place in self.places:
            if place.stream is not None:
                await self._read(place, whole=True)

    # -- requests ----------------------------------------------------------------------------

    async def _ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, bool]:
        """Its answer, and whether it was sent before without one."""
        is_resent = False
        while True:
            answer = await self._try(method, target, body, headers)
            if answer is not None:
                return answer, is_resent
            is_resent = True

    async def _try(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer | None:
        await self._soil.up.wait()
        began = time.monotonic()
        if self._generation != self._soil.ledger.generation:  # it ended with the server before
            self._generation = self._soil.ledger.generation
            self.connection.close()
        try:
            answer = await self.connection.request(method, target, body, headers)
        except NoAnswer as error:
            self._soil.ledger.count("requests without an answer")
            if self._soil.up.is_set() and self._soil.up_since < began:
                self._violation(UNEXPECTED, f"no answer though it was not killed: {error}")
                await asyncio.sleep(BUSY_SECONDS)
            return None
        if answer.status >= 429 and "retry-after" in answer.headers:
            self._soil.ledger.count(f"answers {answer.status}")
            await asyncio.sleep(BUSY_SECONDS)
            return None
        return answer

    def _violation(self, kind: str, what: str) -> None:
        self._soil.ledger.violation(kind, what)

    # -- appends -----------------------------------------------------------------------------

    async def _append(self, place: Place, count: int = 1) -> None:
        if place.stream is None:
            await self._create(place)
        stream = place.stream
        assert stream is not None
        for _ in range(count):
            fresh, content = batch(stream)
            began = time.monotonic()
            if not await self._send(place, stream, content):
                return
            stream.add(fresh, len(content))
            stream.accessed_at = began
            self._soil.appended += len(content)
            self._soil.ledger.count("acknowledged writes")

    async def _send(self, place: Place, stream: Stream, content: bytes) -> bool:
        """Whether ``content`` is stored now; else the stream was given up."""
        headers = {"Content-Type": stream.content_type}
        if place.kind is Kind.PRODUCER:
            headers |= {"Producer-Id": f"p-{place.number}", "Producer-Epoch": "1"}
            headers["Producer-Seq"] = str(stream.own)
        body = sent(content, stream.content_type)
        is_resent = False
        while (answer := await self._try("POST", stream.path, body, headers)) is None:
            is_resent = True
            if place.kind is not Kind.PRODUCER:
                tail = await self._tail(place, stream)
                if tail != stream.tail:
                    return tail == stream.tail + len(content) or self._moved(stream, tail)
        expected = stream.tail + len(content)
        if answer.status in (200, 204):
            if place.kind is Kind.PRODUCER and answer.status == 204 and not is_resent:
                self._violation(UNEXPECTED, f"{stream.path}: a duplicate, though sent once")
            return position(answer) == expected or self._moved(stream, position(answer))
        self._give_up(place, stream, answer)
        return False

    async def _tail(self, place: Place, stream: Stream) -> int:
        answer, _ = await self._ask("HEAD", stream.path)
        if answer.status == 200:
            return position(answer)
        self._give_up(place, stream, answer)
        return -1

    def _moved(self, stream: Stream, tail: int) -> bool:
        if tail >= 0:
            kind = LOST if tail < stream.tail else DOUBLED
            self._violation(kind, f"{stream.path}: ends at {tail}, should at {stream.tail} or next")
        return False

    def _give_up(self, place: Place, stream: Stream, answer: Answer) -> None:
        """Refused: because it has expired, or it must not be."""
        if answer.status in GONE and stream.may_be_expired():
            self._soil.ledger.count("expired")
        elif answer.status in GONE:
            kind = EXPIRED if stream.ttl is not None else LOST
            self._violation(kind, f"{stream.path}: {answer.status}")
        else:
            self._violation(UNEXPECTED, f"{stream.path}: {answer.status} {answer.body[:80]!r}")
        self._forget(place, stream)

    def _forget(self, place: Place, stream: Stream) -> None:
        place.stream = None
        if stream.was_forked:  # its name stays taken
            place.epoch += 1

    # -- reads -------------------------------------------------------------------------------

    async def _read(self, place: Place, *, whole: bool = False) -> None:
        stream = place.stream
        if stream is None:
            return
        count = len(stream.tokens)
        first = 0 if whole else max(0, count - self._chance.randrange(1, 24))
        began = time.monotonic()
        answer, _ = await self._ask("GET", f"{stream.path}?offset={offset(stream.start_of(first))}")
        if answer.status == 410 and place.kind is Kind.RETENTION:
            kept = stream.tail - stream.start_of(first)
            if kept <= RETENTION_BYTES:
                self._violation(LOST, f"{stream.path}: trimmed {kept} bytes before the tail")
            self._soil.ledger.count("reads before what is kept")
        elif answer.status != 200:
            self._give_up(place, stream, answer)
        else:
            stream.accessed_at = began
            self._compare(stream, first, answer)

    def _compare(self, stream: Stream, first: int, answer: Answer) -> None:
        self._soil.ledger.count("reads compared")
        if position(answer) != stream.tail:
            self._moved(stream, position(answer))
        elif answer.body != answered(stream.tokens[first:], stream.content_type):
            self._violation(SHOWN, f"{stream.path}: other bytes from batch {first} on")

    # -- beginning and end of streams --------------------------------------------------------

    async def _replace(self, place: Place) -> None:
        """Delete the stream, now and then look that it is gone, and make another."""
        stream = place.stream
        if stream is not None:
            answer, is_resent = await self._ask("DELETE", stream.path)
            if answer.status != 204 and not (is_resent and answer.status in GONE):
                self._give_up(place, stream, answer)
            else:
                self._soil.ledger.count("deletions")
                self._forget(place, stream)
                if self._chance.randrange(8) == 0:
                    answer, _ = await self._ask("HEAD", stream.path)
                    if answer.status not in GONE:
                        self._violation(RESURRECTED, f"{stream.path}: {answer.status}")
        await self._create(place)

    async def _create(self, place: Place, *, with_batch: bool = False) -> None:
        self._soil.keys += 1
        stream = Stream(place.path, self._soil.keys, place.content_type)
        headers = {"Content-Type": stream.content_type}
        if place.kind is Kind.RETENTION:
            headers["Stream-Retention-Bytes"] = str(RETENTION_BYTES)
        if place.kind is Kind.TTL:
            stream.ttl = TTL_SECONDS
            headers["Stream-TTL"] = str(TTL_SECONDS)
        if not with_batch and place.forks and self._chance.randrange(FORKS_ONE_IN) == 0:
            headers |= self._fork(place, stream)
        body = b""
        if with_batch:
            fresh, content = batch(stream)
            stream.add(fresh, len(content))
            body = sent(content, stream.content_type)
        began = time.monotonic()
        answer, is_resent = await self._ask("PUT", stream.path, body, headers)
        if answer.status != 201 and not (is_resent and answer.status == 200):
            self._violation(UNEXPECTED, f"PUT {stream.path}: {answer.status} {answer.body[:80]!r}")
        elif position(answer) != stream.tail:
            self._moved(stream, position(answer))
        stream.accessed_at = began
        place.stream = stream
        self._soil.ledger.count("creations")

    def _fork(self, place: Place, stream: Stream) -> dict[str, str]:
        """Let it begin as some of another stream of this lane."""
        source = self._chance.choice(self.places)
        other = source.stream
        if other is None or not source.forks or source.content_type != stream.content_type:
            return {}
        if source is place:
            return {}
        stream.inherit(other, self._chance.randint(0, len(other.tokens)))
        other.was_forked = True
        self._soil.ledger.count("forks")
        where = offset(stream.tail)
        return {"Stream-Forked-From": ROOT + other.path, "Stream-Fork-Offset": where}
