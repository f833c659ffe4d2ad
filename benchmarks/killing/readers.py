"""Who reads along, by each of the three ways, and notes what was shown at which offset.

A reader begins at the start of each book and never goes back: what it was given once must be what
everybody finds there for ever, whatever is killed in between.
"""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlencode

from killing.ledger import SHOWN, View
from killing.tokens import TokenReader
from killing.worker import SECONDS_MAX, Field, Slot, Worker
from support.http_client import ROOT

MARKS_MAX = 200  # of one view
IDLE_SECONDS = 0.05  # between two catch-up reads that met the tail


class Reader(Worker):
    """Follows the books of a slot, each to its end."""

    live: str | None = None

    def __init__(self, field: Field, name: str, slot: Slot) -> None:
        super().__init__(field, name)
        self.slot = slot
        self.begin()

    def begin(self) -> None:
        self.book = self.slot.book
        self.offset = "-1"
        self.reader = TokenReader(self.book.content_type)
        self.view = View()
        self.book.views.append(self.view)

    def step(self) -> None:
        live = {"live": self.live} if self.live else {}
        answer = self.try_once("GET", self.book.path, None, None, offset=self.offset, **live)
        if answer is None:
            return
        if answer.status == 200:
            self.take([answer.body], answer.next_offset)
        elif answer.status != 204:
            self.lose(f"{answer.status} at offset {self.offset}")
            return
        if answer.headers["Stream-Closed"] and answer.headers["Stream-Up-To-Date"]:
            self.end()
        elif answer.headers["Stream-Up-To-Date"] and not self.live:
            self.is_finishing.wait(IDLE_SECONDS)

    def take(self, contents: list[bytes], next_offset: str) -> None:
        """Note what was shown between the present offset and the next."""
        if self.reader.is_between and len(self.view.marks) < MARKS_MAX:
            self.view.marks.append((self.offset, len(self.view.tokens)))
        tokens = [token for content in contents if content for token in self.reader.feed(content)]
        self.view.tokens += tokens
        self.offset = next_offset
        self.ledger.count(f"batches shown to {self.live or 'catch-up'} readers", len(tokens))

    def lose(self, what: str) -> None:
        """An offset that was given out is refused: begin again, with a view of its own."""
        if self.book.is_deleted:
            self.end()
            return
        self.ledger.violation(SHOWN, f"{self.book.path}: {what}")
        self.is_finishing.wait(IDLE_SECONDS)
        self.begin()

    def end(self) -> None:
        if self.book is not self.slot.book:
            self.begin()
        else:
            self.is_finishing.wait(IDLE_SECONDS)


class LongPollReader(Reader):
    live = "long-poll"


class EventReader(Reader):
    """Follows by server-sent events: one connection until it breaks or the stream ends."""

    live = "sse"

    def step(self) -> None:
        query = urlencode({"offset": self.offset, "live": "sse"})
        connection = http.client.HTTPConnection("127.0.0.1", self.field.port, timeout=SECONDS_MAX)
        try:
            connection.request("GET", f"{ROOT}{self.book.path}?{query}")
            with connection.getresponse() as response:
                if response.status == 200:
                    self.follow(response)
                elif response.status < 500:
                    self.lose(f"{response.status} at offset {self.offset}, SSE")
        except (http.client.HTTPException, OSError):
            self.field.up.wait(IDLE_SECONDS)
        finally:
            connection.close()

    def follow(self, response: http.client.HTTPResponse) -> None:
        """Data counts as shown when the control event behind it says up to where."""
        data: list[bytes] = []
        kind, lines = b"", []
        while not self.is_finishing.is_set() and (line := response.readline()):
            name, _, value = line.rstrip(b"\n").partition(b":")
            if name == b"event":
                kind = value.strip()
            elif name == b"data":
                lines.append(value.removeprefix(b" "))
            elif not line.strip() and kind:
                if kind == b"data":
                    data.append(b"\n".join(lines))
                elif self.control(data, json.loads(b"".join(lines))):
                    return
                kind, lines = b"", []

    def control(self, data: list[bytes], control: dict[str, str]) -> bool:
        """Whether the stream ends here."""
        self.take(data, control["streamNextOffset"])
        data.clear()
        if control.get("streamClosed"):
            self.end()
            return True
        return False
