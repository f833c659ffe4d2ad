"""What the one writer of a small stream knows of it, and how content is judged by that."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Literal

from killing.ledger import DOUBLED, LOST, OUT_OF_ORDER, RESURRECTED, TORN
from killing.tokens import TEXT, Token

State = Literal["absent", "open", "closed", "gone"]  # gone: deleted, but forks need its bytes


@dataclass(eq=False)
class Life:
    """One name, and the stream that has it at present."""

    path: str
    state: State = "absent"
    content_type: str = TEXT
    incarnation: int = 0
    number: int = 0  # of the next batch
    expected: list[tuple[Token, bool]] = field(default_factory=list)  # False: in doubt
    parent: Life | None = None
    child_count: int = 0
    # Batches of creations and closes that got no answer: there if, and only if, the rest is.
    halves: set[Token] = field(default_factory=set)
    ttl: int | None = None
    lives_until: float = 0.0  # it may not expire before
    ends_by: float = float("inf")  # it must have expired then

    @property
    def writer(self) -> str:
        return f"{self.path.replace('/', '-')}-{self.incarnation}"


def judge(
    expected: list[tuple[Token, bool]], found: list[Token], halves: Set[Token] = frozenset()
) -> list[tuple[str, str]]:
    """What is wrong with ``found``.

    Args:
        expected: batches in order, and whether each is certain; others may be missing.
        halves: batches that belong to a change that was, or was not, made: if they do not fit
            it, it was made in part.
    """
    present = set(found)
    wanted = [token for token, _ in expected]
    missing = {token for token, is_certain in expected if is_certain} - present
    foreign = present.difference(wanted)
    complaints = []
    if torn := (missing | foreign) & halves:
        complaints.append((TORN, f"a change in part: {sorted(torn)}"))
    if missing - halves:
        complaints.append((LOST, f"{sorted(missing - halves)}"))
    if foreign - halves:
        complaints.append((RESURRECTED, f"{sorted(foreign - halves)}"))
    if len(present) < len(found):
        complaints.append((DOUBLED, f"{len(found) - len(present)} batches"))
    elif not foreign and found != [token for token in wanted if token in present]:
        complaints.append((OUT_OF_ORDER, f"{found}"))
    return complaints
