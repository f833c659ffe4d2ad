"""Compare what a stream holds with what is known of it.

An audit is a reader with a memory of its own: between restarts it reads on from where it was, and
only when something does not fit, or when asked to, everything from the start. Every broken
promise is counted once, however often it is seen again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import takewhile

from killing.ledger import (
    DOUBLED,
    LOST,
    OUT_OF_ORDER,
    REOPENED,
    RESURRECTED,
    SHOWN,
    TORN,
    Book,
    Ledger,
    View,
)
from killing.tokens import Token, TokenReader, body
from support.http_client import Answer, HttpClient

GONE = (404, 410)


class Refused(Exception):
    """An offset that was given out is refused, or leads nowhere."""


class Audit:
    """Of one book."""

    def __init__(self, book: Book, ledger: Ledger) -> None:
        self.book = book
        self.tokens: list[Token] = []  # as stored, in order
        self._ledger = ledger
        self._offset = "-1"
        self._known: set[Token] = set()
        self._highest: dict[str, int] = {}  # by writer
        self._checked = 0  # acknowledgements that were looked for
        self._compared: dict[View, int] = {}
        self._moved: set[View] = set()  # told; all that follows is elsewhere, too
        self._told: set[tuple[str, Token]] = set()
        self._torn = 0

    def read_on(self, client: HttpClient) -> None:
        """Judge what was stored since the last time. Raises: Disconnected."""
        acknowledged, shown = self._what_is_known()
        get = partial(self._get, client)
        try:
            fresh, offset, torn = read_from(get, self.book.content_type, self._offset)
        except Refused:
            self.read_all(client)
            return
        if torn:  # or the offset names other bytes now
            self.read_all(client)
            return
        self._offset = offset
        self._take(fresh)
        self._judge(acknowledged, shown)

    def read_all(self, client: HttpClient) -> None:
        """Judge everything. Raises: Disconnected."""
        acknowledged, shown = self._what_is_known()
        get = partial(self._get, client)
        try:
            fresh, self._offset, torn = read_from(get, self.book.content_type, "-1")
        except Refused as error:
            self._ledger.violation(LOST, f"{self.book.path}: {error}", not self._is_lost)
            self._is_lost = True
            fresh, self._offset, torn = [], "-1", 0
        self._tell_torn(torn)
        before, self.tokens = self.tokens, []
        self._known.clear()
        self._highest.clear()
        self._compared.clear()
        self._checked = 0
        self._take(fresh)
        self._compare_with(before)
        self._judge(acknowledged, shown)

    _is_lost = False

    def check_marks(self, client: HttpClient, view: View, marks: Iterable[int]) -> None:
        """Read again from offsets that a reader was given: the same batches must follow."""
        for mark in marks:
            if view in self._moved:
                return
            offset, index = view.marks[mark]
            wanted = view.tokens[index : index + 20]
            reader = TokenReader(self.book.content_type)
            answer = client.request("GET", self.book.path, offset=offset)
            found = reader.feed(answer.body) if answer.status == 200 else []
            if found[: len(wanted)] != wanted[: max(1, len(found))]:
                self._moved.add(view)
                self._ledger.violation(SHOWN, f"{self.book.path}: other batches at {offset}")

    def check_closed(self, client: HttpClient) -> None:
        """A closed stream says so, and takes nothing; a missing one is lost, not reopened.

        Raises: Disconnected.
        """
        book = self.book
        token = ("too-late", book.tried.get("too-late", -1) + 1)
        book.sends(token)
        headers = {"Content-Type": book.content_type}
        content = body(token, book.content_type)
        answers = [
            client.request("HEAD", book.path),
            client.request("POST", book.path, content, headers),
        ]
        is_closed = answers[0].headers["Stream-Closed"] is not None and answers[1].status == 409
        if not is_closed and not self._is_reopened and answers[0].status not in GONE:
            statuses = [answer.status for answer in answers]
            self._ledger.violation(REOPENED, f"{book.path}: HEAD, POST answered {statuses}")
            self._is_reopened = True

    _is_reopened = False

    def check_deleted(self, client: HttpClient) -> None:
        """A deleted stream is not there. Raises: Disconnected."""
        answer = client.request("GET", self.book.path, offset="-1")
        if answer.status not in GONE and not self._is_resurrected:
            self._ledger.violation(RESURRECTED, f"{self.book.path}: {answer.status}")
            self._is_resurrected = True

    _is_resurrected = False

    def _get(self, client: HttpClient, offset: str) -> Answer:
        return client.request("GET", self.book.path, offset=offset)

    # -- judging ---------------------------------------------------------------------------

    def _what_is_known(self) -> tuple[int, list[tuple[View, int]]]:
        """To be asked before reading: what comes later need not be in the answer."""
        views = list(self.book.views)
        return len(self.book.acknowledged), [(view, len(view.tokens)) for view in views]

    def _take(self, fresh: list[Token]) -> None:
        for token in fresh:
            writer, number = token
            if token in self._known:
                self._tell(DOUBLED, token)
            elif number > self.book.tried.get(writer, -1):
                self._tell(RESURRECTED, token)  # bytes of another stream
            elif number < self._highest.get(writer, -1):
                self._tell(OUT_OF_ORDER, token)
            self._known.add(token)
            self._highest[writer] = max(number, self._highest.get(writer, -1))
        self.tokens += fresh

    def _judge(self, acknowledged: int, shown: list[tuple[View, int]]) -> None:
        for token in self.book.acknowledged[self._checked : acknowledged]:
            if token not in self._known:
                self._tell(LOST, token)
        self._checked = max(self._checked, acknowledged)
        for view, count in shown:
            start = self._compared.get(view, 0)
            slices = view.tokens[start:count], self.tokens[start:count]
            if slices[0] != slices[1] and not self._tell_missing(slices[0]):
                self._tell_moved(view, start, *slices)
            self._compared[view] = max(start, count)

    def _compare_with(self, before: list[Token]) -> None:
        """What the last audit read, this one must find, too."""
        if self.tokens[: len(before)] != before and not self._tell_missing(before):
            self._ledger.violation(SHOWN, f"{self.book.path}: batches are elsewhere than before")

    def _tell_missing(self, shown: list[Token]) -> bool:
        missing = [token for token in shown if token not in self._known]
        for token in missing:
            self._tell(SHOWN, token)
        return bool(missing)

    def _tell_moved(self, view: View, start: int, shown: list[Token], stored: list[Token]) -> None:
        """All of it is there, but who went on by offset was given a batch twice, or never."""
        if view not in self._moved:
            self._moved.add(view)
            pairs = zip(shown, stored, strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            what = f"a reader was shown {shown[same:][:2]} as batch {start + same}"
            self._ledger.violation(SHOWN, f"{self.book.path}: {what}, now {stored[same:][:2]}")

    def _tell(self, kind: str, token: Token) -> None:
        if (kind, token) not in self._told:
            self._told.add((kind, token))
            self._ledger.violation(kind, f"{self.book.path}: {token[0]} {token[1]}")

    def _tell_torn(self, torn: int) -> None:
        if torn > self._torn:
            self._ledger.violation(TORN, self.book.path, torn - self._torn)
            self._torn = torn


def read_from(
    get: Callable[[str], Answer], content_type: str, offset: str
) -> tuple[list[Token], str, int]:
    """The batches from ``offset`` to the tail, the offset there, and how many are torn.

    Raises: Refused, and what ``get`` raises.
    """
    reader = TokenReader(content_type)
    tokens: list[Token] = []
    while True:
        answer = get(offset)
        if answer.status != 200:
            raise Refused(f"{answer.status} at offset {offset}")
        if offset != "-1" and answer.next_offset < offset:
            raise Refused(f"from offset {offset} back to {answer.next_offset}")
        try:
            tokens += reader.feed(answer.body) if answer.body else []
        except ValueError:
            reader.torn += 1
        offset = answer.next_offset
        if answer.headers["Stream-Up-To-Date"]:
            return tokens, offset, reader.torn + (not reader.is_between)
