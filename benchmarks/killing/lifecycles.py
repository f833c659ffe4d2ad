"""Small streams that are created, closed, deleted, forked, left to expire, and created again.

One worker owns some names and knows exactly what each must hold, since nobody else touches them.
After every start of the server it looks at all of them; in between it goes on changing them.
"""

from __future__ import annotations

import time

from killing.audit import GONE, Refused, read_from
from killing.ledger import EXPIRED, LOST, REOPENED, RESURRECTED, TORN, UNEXPECTED
from killing.life import Life, State, judge
from killing.tokens import JSON, TEXT, Token, body
from killing.worker import Field, Worker
from peers import FORK_BODIES
from support.http_client import ROOT, Answer

NAMES = 8
TTL_LONG, TTL_SHORT = 3600, 2  # seconds
APPENDS_MAX = 30  # of one incarnation, so that looking at it stays cheap


class Lifecycles(Worker):
    """Owns ``NAMES`` streams."""

    def __init__(self, field: Field, name: str) -> None:
        super().__init__(field, name)
        self.lives = [Life(f"{name}/{number}") for number in range(NAMES)]
        self.generation = self.ledger.generation

    def step(self) -> None:
        if self.generation != self.ledger.generation:
            self.generation = self.ledger.generation
            for life in self.lives:
                self.look(life)
        life = self.chance.choice(self.lives)
        if life.state == "absent":
            self.create(life)
        elif life.state == "open":
            self.change(life)
        elif life.state == "closed":
            self.chance.choice([self.look, self.append_to_closed, self.delete, self.fork])(life)
        else:
            self.look(life)

    def change(self, life: Life) -> None:
        if life.number > APPENDS_MAX:
            self.chance.choice([self.close, self.delete])(life)
            return
        appends = [self.append] * 6
        rest = [self.look, self.close, self.append_and_close, self.delete, self.fork]
        self.chance.choice(appends + (rest if life.ttl != TTL_SHORT else [self.look]))(life)

    def finish_all(self) -> None:
        """A last look at everything, once nothing is killed any more."""
        for life in self.lives:
            self.look(life)

    # -- creating and deleting ---------------------------------------------------------------

    def create(self, life: Life) -> None:
        life.content_type = self.chance.choice([TEXT, JSON])
        life.ttl = self.chance.choice([None, None, TTL_LONG, TTL_SHORT])
        headers = {"Content-Type": life.content_type}
        if life.ttl is not None:
            headers["Stream-TTL"] = str(life.ttl)
        is_closed = life.ttl is None and self.chance.randrange(8) == 0
        if is_closed:
            headers["Stream-Closed"] = "true"
        self.put(life, headers, [], "closed" if is_closed else "open")

    def put(
        self,
        life: Life,
        headers: dict[str, str],
        inherited: list[Token],
        to: State,
        *,
        with_batch: bool = True,
    ) -> bool:
        """Create ``life`` with a first batch behind what it inherits; whether that worked."""
        life.incarnation += 1
        life.number = 0
        own = [self.token(life)] if with_batch else []
        started = time.time()
        content = b"".join(body(token, life.content_type) for token in own)
        answer, resent = self.ask("PUT", life.path, content, headers)
        life.state = to
        life.expected = [(token, True) for token in inherited + own]
        life.halves = set(own) if resent else set()
        self.accessed(life, started)
        if answer.status == 201 or (answer.status == 200 and resent):
            self.ledger.count("acknowledged writes")
            return True
        if answer.status == 200:
            self.violation(RESURRECTED, life, "there before it was created again")
        else:
            self.unexpected("PUT", life.path, answer)
        self.delete(life, judged=False)
        self.lives[self.lives.index(life)] = Life(f"{life.path}x")  # that name may be spoilt
        return False

    def fork(self, source: Life) -> None:
        """Into a name that is free, at the tail of ``source``."""
        free = [life for life in self.lives if life.state == "absent"]
        if not free:
            return
        found = self.look(source)
        if found is None:
            return
        inherited, offset = found
        life = self.chance.choice(free)
        life.content_type, life.ttl = source.content_type, source.ttl
        headers = {
            "Content-Type": life.content_type,
            "Stream-Forked-From": ROOT + source.path,
            "Stream-Fork-Offset": offset,
        }
        life.parent = source
        source.child_count += 1
        with_batch = FORK_BODIES not in self.field.lacks
        if self.put(life, headers, inherited, "open", with_batch=with_batch):
            self.ledger.count("forks")

    def delete(self, life: Life, judged: bool = True) -> None:
        answer, resent = self.ask("DELETE", life.path)
        if judged and answer.status != 204 and not (resent and answer.status in GONE):
            if answer.status in GONE:
                self.meet_end(life, answer)
                return
            self.unexpected("DELETE", life.path, answer)
        self.ledger.count("deletions")
        self.end(life)

    def end(self, life: Life) -> None:
        """It was deleted or expired: gone, and free together with the last of its forks."""
        life.state = "gone" if life.child_count else "absent"
        while life.state == "absent" and life.parent is not None:
            parent, life.parent = life.parent, None
            parent.child_count -= 1
            if parent.state == "gone" and not parent.child_count:
                parent.state = "absent"
            life = parent

    # -- writing -----------------------------------------------------------------------------

    def token(self, life: Life) -> Token:
        token = (life.writer, life.number)
        life.number += 1
        return token

    def post(self, life: Life, token: Token, **more: str) -> Answer | None:
        own = {name.replace("_", "-"): value for name, value in more.items()}
        headers = {"Content-Type": life.content_type, **own}
        content = body(token, life.content_type)
        return self.try_once("POST", life.path, content, headers)

    def append(self, life: Life) -> None:
        token = self.token(life)
        started = time.time()
        answer = self.post(life, token)
        if answer is None:
            life.expected.append((token, False))
            life.ends_by = max(life.ends_by, self.bound(life))
        elif answer.status in (200, 204):
            self.ledger.count("acknowledged writes")
            life.expected.append((token, True))
            self.accessed(life, started)
        else:
            self.refused(life, answer)

    def append_and_close(self, life: Life) -> None:
        """One step: after a crash it is closed with the batch, or open without it."""
        token = self.token(life)
        answer = self.post(life, token, Stream_Closed="true")
        if answer is None:
            head, _ = self.ask("HEAD", life.path)
            if head.status in GONE:
                self.meet_end(life, head)
                return
            is_closed = head.headers["Stream-Closed"] is not None
            life.halves.add(token)
        elif answer.status in (200, 204):
            self.ledger.count("acknowledged writes")
            is_closed = True
        else:
            self.refused(life, answer)
            return
        if is_closed:
            life.expected.append((token, True))
            life.state = "closed"
        self.look(life)

    def close(self, life: Life) -> None:
        answer, _ = self.ask("POST", life.path, b"", {"Stream-Closed": "true"})
        if answer.status == 204:
            life.state = "closed"
            self.ledger.count("closes")
        else:
            self.refused(life, answer)

    def refused(self, life: Life, answer: Answer) -> None:
        """An append or close that should have been taken."""
        if answer.status in GONE:
            self.meet_end(life, answer)
        else:
            self.unexpected("POST", life.path, answer)

    def append_to_closed(self, life: Life) -> None:
        token = self.token(life)
        answer = self.post(life, token)
        if answer is not None and answer.status in GONE:
            self.meet_end(life, answer)
        elif answer is not None and answer.status != 409:
            self.violation(REOPENED, life, f"an append got {answer.status}")
            life.expected.append((token, answer.status in (200, 204)))

    # -- looking -----------------------------------------------------------------------------

    def look(self, life: Life) -> tuple[list[Token], str] | None:
        """Judge what is there now. Its batches and its tail, if it is there and may be read."""
        head, _ = self.ask("HEAD", life.path)
        if life.state in ("absent", "gone"):
            if head.status not in GONE:
                self.violation(RESURRECTED, life, f"HEAD of a deleted stream: {head.status}")
                self.delete(life, judged=False)
            return None
        if head.status in GONE:
            self.meet_end(life, head)
            return None
        state: State = "open" if head.headers["Stream-Closed"] is None else "closed"
        if state != life.state:
            kind = REOPENED if life.state == "closed" else UNEXPECTED
            self.violation(kind, life, f"is {state}, was {life.state}")
            life.state = state  # told once
        if life.ttl == TTL_SHORT:
            if time.time() > life.ends_by:
                self.violation(UNEXPECTED, life, "outlives its TTL")
                self.delete(life, judged=False)
            return None  # reading would make it live longer
        return self.read(life)

    def read(self, life: Life) -> tuple[list[Token], str] | None:
        def get(offset: str) -> Answer:
            return self.ask("GET", life.path, offset=offset)[0]

        try:
            tokens, offset, torn = read_from(get, life.content_type, "-1")
        except Refused as error:
            self.violation(LOST, life, str(error))
            self.delete(life, judged=False)
            return None
        if torn:
            self.violation(TORN, life, f"{torn} batches")
        for kind, what in judge(life.expected, tokens, life.halves):
            self.violation(kind, life, what)
        life.expected = [(token, True) for token in tokens]  # doubts are settled
        self.ledger.count("looks at small streams")
        return tokens, offset

    def meet_end(self, life: Life, answer: Answer) -> None:
        if not self.may_be_over(life):
            kind = LOST if life.ttl is None else EXPIRED
            self.violation(kind, life, f"{answer.status}, it was {life.state}, TTL {life.ttl}")
        else:
            self.ledger.count("expiries")
        self.end(life)

    # -- time --------------------------------------------------------------------------------

    def accessed(self, life: Life, started: float) -> None:
        if life.ttl is not None:
            life.lives_until = started + life.ttl
            life.ends_by = self.bound(life)

    def bound(self, life: Life) -> float:
        """Generous: each crash may add a sixteenth of the TTL, and the server looks at times."""
        return time.time() + 3 * (life.ttl or 0) + 3

    def may_be_over(self, life: Life) -> bool:
        return life.ttl is not None and time.time() >= life.lives_until

    def violation(self, kind: str, life: Life, what: str) -> None:
        self.ledger.violation(kind, f"{life.path}, incarnation {life.incarnation}: {what}")
