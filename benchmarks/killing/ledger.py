"""What is known for sure, outside of the server: acknowledgements, what was shown, violations.

``Book`` is one stream that many write; ``Ledger`` counts for the whole run. Nothing here asks the
server anything: writers and readers note what they got, the audit compares.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from killing.tokens import Token

LOST = "lost"  # an acknowledged batch or stream that is not there
DOUBLED = "doubled"
OUT_OF_ORDER = "out of order"
TORN = "torn"  # a batch in part, or with other bytes
SHOWN = "shown, then gone"  # to a reader; or moved, so that it met one twice or never (once each)
FORGOTTEN = "producers forgotten"  # state of a producer, or a Stream-Seq, that was acknowledged
REOPENED = "reopened after close"
RESURRECTED = "resurrected"  # a deleted stream, or bytes of one, or what was settled as absent
EXPIRED = "expired too early"  # before the TTL since the last acknowledged write was over
VERIFY = "verify failures"
UNEXPECTED = "unexpected answers"  # that the protocol does not allow there; hangs; ends by itself

VIOLATIONS = (
    LOST, DOUBLED, OUT_OF_ORDER, TORN, SHOWN, FORGOTTEN, REOPENED, RESURRECTED, EXPIRED, VERIFY,
    UNEXPECTED,
)  # fmt: skip
EXAMPLES_MAX = 8  # of each kind


class Ledger:
    """Counts, and the first violations of each kind in words. Any thread may write."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []
        self.generation = 0  # starts of the server so far
        self._lock = threading.Lock()

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def violation(self, kind: str, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[kind] += number
            told = sum(example.startswith(kind) for example in self.examples)
            if told < EXAMPLES_MAX:
                self.examples.append(f"{kind}: {what} (start {self.generation})")

    @property
    def violations(self) -> dict[str, int]:
        """How often each promise was broken; all zero for a server that keeps them."""
        return {kind: self.counts[kind] for kind in VIOLATIONS}


@dataclass(eq=False)
class View:
    """What one reader was shown of a book, from its beginning on."""

    tokens: list[Token] = field(default_factory=list)
    # Where some answers began: offset, and how many tokens had been shown before.
    marks: list[tuple[str, int]] = field(default_factory=list)


@dataclass(eq=False)
class Book:
    """One stream and what its writers and readers know of it."""

    path: str
    content_type: str
    tried: dict[str, int] = field(default_factory=dict)  # by writer: the highest number sent
    acknowledged: list[Token] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    closed: bool = False  # its closing was acknowledged
    is_deleted: bool = False  # its deletion was asked for

    def sends(self, token: Token) -> None:
        """To be noted before the request leaves."""
        writer, number = token
        self.tried[writer] = max(number, self.tried.get(writer, -1))
