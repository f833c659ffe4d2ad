"""A client of a server that keeps being killed: one thread, one connection, one random source.

A request that got no answer is in doubt. ``ask`` repeats it until there is an answer, so it is for
requests that may be repeated; ``try_once`` leaves the doubt to its caller.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from killing.ledger import UNEXPECTED, Book, Ledger
from support.http_client import Answer, Disconnected, HttpClient

SECONDS_MAX = 10.0  # for one answer, waiting reads included
BUSY = (429, 503)  # answers that ask to come again


class Finished(Exception):
    """The run is over, and this request will get no answer."""


@dataclass(eq=False)
class Slot:
    """A place that always holds a stream in use; books of it come and go."""

    book: Book


@dataclass(eq=False)
class Field:
    """What all workers of a run share.

    Attributes:
        up: set while the server answers; clients wait a little for it, not for ever, so that
            some of their connections meet a server that is starting.
        think_seconds: a worker pauses up to so long between two requests.
    """

    port: int
    seed: int
    ledger: Ledger
    slots: list[Slot] = field(default_factory=list)
    up: threading.Event = field(default_factory=threading.Event)
    think_seconds: float = 0.02
    lacks: frozenset[str] = frozenset()


class Worker(threading.Thread):
    """Does ``step`` over and over until told to finish; keeps the error that ended it."""

    def __init__(self, field: Field, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.field = field
        self.ledger = field.ledger
        self.chance = random.Random(f"{field.seed} {name}")
        self.client = HttpClient(field.port, seconds_max=SECONDS_MAX)
        self.error: BaseException | None = None
        self.is_finishing = threading.Event()

    def run(self) -> None:
        try:
            while not self.is_finishing.is_set():
                self.step()
                self.is_finishing.wait(self.chance.uniform(0, self.field.think_seconds))
        except Finished:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.client.close()

    def step(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Wait for the step under way, after ``is_finishing`` was set. Raises: its error."""
        self.join(60)
        assert not self.is_alive(), f"{self.name} hangs"
        if self.error is not None:
            raise self.error

    def try_once(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> Answer | None:
        """One request; None if it is not known whether it was carried out."""
        started = time.monotonic()
        try:
            answer = self.client.request(method, path, body, headers, **query)
        except Disconnected as error:
            self.ledger.count("requests without an answer")
            if time.monotonic() - started >= SECONDS_MAX:
                self.ledger.violation(UNEXPECTED, f"no answer in {SECONDS_MAX} s: {error}")
            if self.is_finishing.is_set() and not self.field.up.is_set():
                raise Finished from error
            self.field.up.wait(0.05)
            return None
        self.ledger.count("answers")
        if answer.status in BUSY:
            self.client.close()  # a server that stops says so, too
            time.sleep(0.01)
            return None
        if answer.status >= 500:
            self.unexpected(method, path, answer)
            time.sleep(0.01)
            return None
        return answer

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> tuple[Answer, bool]:
        """Its answer, and whether it was sent more than once. Raises: Finished."""
        resent = False
        while (answer := self.try_once(method, path, body, headers, **query)) is None:
            if not resent:
                self.ledger.count("requests repeated")
            resent = True
        return answer, resent

    def unexpected(self, method: str, path: str, answer: Answer) -> None:
        text = f"{method} {path}: {answer.status} {answer.body[:80]!r}"
        self.ledger.violation(UNEXPECTED, text)
