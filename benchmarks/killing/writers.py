"""Who appends to streams that many share: with nothing, as idempotent producers, by Stream-Seq.

Each notes a batch before it is sent and when it was acknowledged. Only what may be sent again is
sent again; what it is then told is the first thing to be judged.
"""

from __future__ import annotations

from killing.ledger import FORGOTTEN, UNEXPECTED, Book
from killing.tokens import Token, body
from killing.worker import Field, Slot, Worker
from support.http_client import Answer

RESTART_ONE_IN = 40  # steps after which a producer forgets its epoch and claims a new one
STALE_ONE_IN = 30  # steps after which a Stream-Seq that was used is sent with another batch


class Writer(Worker):
    """Appends to whatever book is in its slot."""

    def __init__(self, field: Field, name: str, slot: Slot) -> None:
        super().__init__(field, name)
        self.slot = slot
        self.book = slot.book
        self.number = 0  # of the next batch

    def next_token(self) -> Token:
        token = (self.name, self.number)
        self.number += 1
        self.book.sends(token)
        return token

    def acknowledge(self, token: Token) -> None:
        self.book.acknowledged.append(token)
        self.ledger.count("acknowledged writes")

    def headers(self, **more: str) -> dict[str, str]:
        own = {name.replace("_", "-"): value for name, value in more.items()}
        return {"Content-Type": self.book.content_type, **own}

    def post(self, token: Token, headers: dict[str, str]) -> tuple[Answer, bool]:
        return self.ask("POST", self.book.path, body(token, self.book.content_type), headers)

    def takes_new_book(self) -> bool:
        is_new = self.book is not self.slot.book
        self.book = self.slot.book
        return is_new


class PlainWriter(Writer):
    """Appends without a producer: what was in doubt is never sent again."""

    def step(self) -> None:
        self.takes_new_book()
        token = self.next_token()
        content = body(token, self.book.content_type)
        answer = self.try_once("POST", self.book.path, content, self.headers())
        if answer is None or is_closed(answer):
            return
        if answer.status in (200, 204):
            self.acknowledge(token)
        else:
            self.unexpected("POST", self.book.path, answer)


class Producer(Writer):
    """An idempotent producer: what was in doubt is sent again with the same epoch and seq.

    Its first epoch in a stream is 1, so that a claim of epoch 0, with which it starts again, must
    meet 403 and the epoch that the server knows (section 5.2.1).
    """

    epoch, seq = 1, 0
    is_known = False  # the server acknowledged something of it in this book

    def step(self) -> None:
        if self.takes_new_book():
            self.epoch, self.seq, self.is_known = 1, 0, False
        if self.is_known and self.chance.randrange(RESTART_ONE_IN) == 0:
            self.claim()
        token = self.next_token()
        answer, resent = self.post(token, self.tuple(self.epoch, self.seq))
        if answer.status in (200, 204):
            self.take_acknowledgement(token, answer, resent)
        elif not is_closed(answer):
            self.recover(answer)

    def take_acknowledgement(self, token: Token, answer: Answer, resent: bool) -> None:
        if answer.status == 204 and not resent:
            text = f"{self.book.path}: {self.name} epoch {self.epoch} seq {self.seq}"
            self.ledger.violation(UNEXPECTED, f"{text} taken for a duplicate at once")
        if resent:
            self.ledger.count("producer batches sent again")
        self.acknowledge(token)
        self.is_known = True
        self.seq += 1

    def tuple(self, epoch: int, seq: int) -> dict[str, str]:
        return self.headers(Producer_Id=self.name, Producer_Epoch=str(epoch), Producer_Seq=str(seq))

    def claim(self) -> None:
        """Start again without knowing the epoch: ask with 0, then take the next one."""
        token = self.next_token()
        answer, _ = self.post(token, self.tuple(0, 0))
        if answer.status == 403:
            known = int(answer.headers["Producer-Epoch"] or -1)
            if known != self.epoch:
                self.forgotten(f"epoch {known} instead of {self.epoch}")
            self.epoch, self.seq = max(known, self.epoch) + 1, 0
            self.ledger.count("epochs claimed")
        elif answer.status in (200, 204):
            self.forgotten(f"epoch 0 accepted, {self.epoch} was acknowledged")
            if answer.status == 200:
                self.acknowledge(token)
            self.epoch, self.seq = self.epoch + 1, 0
        elif not is_closed(answer):
            self.unexpected("POST", self.book.path, answer)

    def recover(self, answer: Answer) -> None:
        """Refused though it did all right. Claim a new epoch and go on, as a user would."""
        expected = answer.headers["Producer-Expected-Seq"]
        if answer.status == 409 and expected is not None:
            self.forgotten(f"expected seq {expected}, sent {self.seq}")
        elif answer.status == 400 and self.seq > 0:
            self.forgotten(f"epoch {self.epoch} taken for a new one at seq {self.seq}")
        else:
            self.unexpected("POST", self.book.path, answer)
        self.epoch, self.seq = self.epoch + 1, 0

    def forgotten(self, what: str) -> None:
        self.ledger.violation(FORGOTTEN, f"{self.book.path}: {self.name}: {what}")


class SequencedWriter(Writer):
    """Guards its appends by Stream-Seq (section 5.2): what is refused as not new was stored.

    It must be alone in its book, since a Stream-Seq is the stream's.
    """

    last = -1  # the highest acknowledged in this book

    def step(self) -> None:
        if self.takes_new_book():
            self.last = -1
        if self.last >= 0 and self.chance.randrange(STALE_ONE_IN) == 0:
            self.send_stale()
        token = self.next_token()
        answer, resent = self.post(token, self.headers(Stream_Seq=f"{token[1]:012}"))
        if answer.status in (200, 204) or (answer.status == 409 and resent):
            if not is_closed(answer):
                self.acknowledge(token)
                self.last = token[1]
        elif not is_closed(answer):
            self.unexpected("POST", self.book.path, answer)

    def send_stale(self) -> None:
        token = self.next_token()
        answer, _ = self.post(token, self.headers(Stream_Seq=f"{self.last:012}"))
        if answer.status in (200, 204):
            self.acknowledge(token)
            text = f"{self.book.path}: Stream-Seq {self.last} accepted again"
            self.ledger.violation(FORGOTTEN, text)


def is_closed(answer: Answer) -> bool:
    """Refused because the stream is closed by now: whether it was stored before is not told."""
    return answer.status == 409 and answer.headers["Stream-Closed"] is not None


def new_book(worker: Worker, path: str, content_type: str) -> Book:
    """Create the stream ``path`` and a book for it. Raises: Finished."""
    answer, resent = worker.ask("PUT", path, headers={"Content-Type": content_type})
    if answer.status != 201 and not (answer.status == 200 and resent):
        worker.unexpected("PUT", path, answer)
    return Book(path, content_type)
