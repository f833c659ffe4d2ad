"""One run: a server with its clients, killed again and again, audited after every start.

The seed decides what is done and when it is killed; how far the server had come by then is the
machine's, so a run is not repeated exactly. What goes wrong is counted, with examples, and the
data directory stays.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from killing.audit import Audit
from killing.ledger import UNEXPECTED, VERIFY, Book, Ledger
from killing.lifecycles import Lifecycles
from killing.plan import Plan, Result
from killing.process import CannotStart, Process
from killing.readers import EventReader, LongPollReader, Reader
from killing.tokens import JSON, TEXT
from killing.worker import Field, Slot, Worker
from killing.writers import PlainWriter, Producer, SequencedWriter, new_book
from peers import Server
from support.http_client import Disconnected

LONG_POLL_SECONDS = 1.0
RETIRED_MAX = 12  # closed streams kept; the oldest are deleted, and must stay so
MARKS_CHECKED = 5  # of each view, at the end
REPORT_SECONDS = 10.0


class KillRun:
    """Call ``run`` once. ``folder`` gets the data directory and the server's log."""

    def __init__(self, server: Server, folder: Path, plan: Plan) -> None:
        self.ledger = Ledger()
        self.result = Result(server, plan, self.ledger)
        self._server = server
        self._plan = plan
        self._chance = random.Random(plan.seed)
        folder = folder.resolve()  # the server runs in another directory
        self._data_dir = folder / "data"
        self._data_dir.mkdir(parents=True)
        self._log = folder / "server.log"
        self._process = Process(server, self._data_dir, self._log, LONG_POLL_SECONDS)
        self._field = Field(
            self._process.port,
            plan.seed,
            self.ledger,
            think_seconds=plan.think_seconds,
            lacks=server.lacks,
        )
        self._operator = Worker(self._field, "operator")  # not a thread: it acts in between
        self._workers: list[Worker] = []
        self._audits: list[Audit] = []  # of streams in use, one a slot
        self._retired: list[Audit] = []
        self._deleted: list[Audit] = []
        self._books = 0

    def run(self) -> Result:
        began = time.monotonic()
        try:
            self._start()
            self._prepare()
            self._kill_all()
            self._finish()
        except CannotStart as error:
            self.ledger.violation(UNEXPECTED, f"it does not start again: {error}")
            self.result.ended_early = str(error)
        finally:
            self._field.up.clear()
            self._release()
        self.result.seconds = time.monotonic() - began
        return self.result

    def _release(self) -> None:
        for worker in self._workers:
            worker.is_finishing.set()
        if not self._process.ended:
            self._process.kill()
        for worker in self._workers:
            worker.join()
        for worker in (self._operator, *self._workers):
            worker.client.close()

    # -- beginning ---------------------------------------------------------------------------

    def _prepare(self) -> None:
        plan = self._plan
        types = [TEXT] * plan.text_slots + [JSON] * plan.json_slots + [TEXT] * plan.sequenced_slots
        for content_type in types:
            book = self._new_book(content_type)
            self._field.slots.append(Slot(book))
            self._audits.append(Audit(book, self.ledger))
        shared = self._field.slots[: plan.text_slots + plan.json_slots]
        alone = self._field.slots[len(shared) :]
        for number, slot in enumerate(shared):
            self._add(PlainWriter(self._field, f"plain-{number}", slot))
            self._add(Producer(self._field, f"producer-{number}-a", slot))
            self._add(Producer(self._field, f"producer-{number}-b", slot))
            kind = (Reader, LongPollReader, EventReader)[number % 3]
            self._add(kind(self._field, f"reader-{number}", slot))
        for number, slot in enumerate(alone):
            self._add(SequencedWriter(self._field, f"sequenced-{number}", slot))
            self._add((EventReader, LongPollReader)[number % 2](self._field, f"r-{number}", slot))
        for number in range(plan.lifecycles):
            self._add(Lifecycles(self._field, f"life-{number}"))
        for worker in self._workers:
            worker.start()

    def _add(self, worker: Worker) -> None:
        self._workers.append(worker)

    def _new_book(self, content_type: str) -> Book:
        self._books += 1
        return new_book(self._operator, f"shared/{self._books}", content_type)

    # -- killing -----------------------------------------------------------------------------

    def _kill_all(self) -> None:
        reported = time.monotonic()
        while self.ledger.counts["kills"] < self._plan.kills:
            if not self._process.ended:
                self._work_and_stop()
            self._maybe_verify()
            if self._chance.random() < 0.15:
                self._kill_while_starting()
            else:
                self._start()
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                self._report()
        if self._process.ended:
            self._start()

    def _start(self) -> None:
        if self._plan.before_start is not None:
            self._plan.before_start(self._data_dir)
        started = time.monotonic()
        self._process.start()
        self._process.wait_ready()
        self.result.starts.append(time.monotonic() - started)
        self.ledger.generation += 1
        self._operator.client.close()  # its connection ended with the server before
        self._field.up.set()

    def _kill_while_starting(self) -> None:
        if self._plan.before_start is not None:
            self._plan.before_start(self._data_dir)
        typical = statistics.median(self.result.starts[-9:])
        self._process.start()
        time.sleep(self._chance.uniform(0, 1.2 * typical))
        self._kill()
        self.ledger.count("kills while starting")

    def _work_and_stop(self) -> None:
        try:
            self._audit()
            if self.ledger.generation % self._plan.rotate_every == 0:
                self._rotate()
        except Disconnected as error:
            self.ledger.violation(UNEXPECTED, f"the server ended by itself, or hangs: {error}")
        time.sleep(self._chance.uniform(0, self._plan.uptime_max))
        self._field.up.clear()
        manner = self._chance.random()
        if manner < 0.08:
            self._count_stop(self._process.terminate())
        elif manner < 0.16:
            self._count_stop(self._process.terminate(self._chance.uniform(0, 0.2)))
        else:
            self._kill()

    def _count_stop(self, ended_by_itself: bool) -> None:
        self.ledger.count("SIGTERM" if ended_by_itself else "kills while stopping")
        self.ledger.count("kills", not ended_by_itself)

    def _kill(self) -> None:
        self._process.kill()
        self.ledger.count("kills")

    def _maybe_verify(self) -> None:
        every = self._plan.verify_every
        if every and self.ledger.counts["kills"] // every > self.ledger.counts["verify runs"]:
            self._verify()

    def _verify(self) -> None:
        command = self._server.verify_command(self._data_dir)
        if not command:
            return
        self.ledger.count("verify runs")
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            kept = self._data_dir.with_name(f"verify-failed-{self.ledger.counts['verify runs']}")
            shutil.copytree(self._data_dir, kept)  # before the next start mends what it can
            self.ledger.violation(VERIFY, f"{answer.returncode}: {answer.stdout} {answer.stderr}")

    def _report(self) -> None:
        counts = self.ledger.counts
        broken = {kind: n for kind, n in self.ledger.violations.items() if n}
        print(
            f"{self._server.name}: {counts['kills']} kills, "
            f"{counts['acknowledged writes']} acknowledged writes, {broken or 'nothing wrong'}",
            file=sys.stderr,
            flush=True,
        )

    # -- auditing ----------------------------------------------------------------------------

    def _audit(self) -> None:
        """After a start: what is new of everything in use, and some of the old."""
        client = self._operator.client
        for audit in self._audits:
            audit.read_on(client)
        for audit in self._chance.sample(self._retired, min(2, len(self._retired))):
            audit.check_closed(client)
            audit.read_on(client)
        for audit in self._chance.sample(self._deleted, min(2, len(self._deleted))):
            audit.check_deleted(client)
        self.ledger.count("audits")

    def _rotate(self) -> None:
        """Close a shared stream while others write to it; a new one takes its place."""
        index = self._chance.randrange(len(self._audits))
        slot, audit = self._field.slots[index], self._audits[index]
        slot.book = self._new_book(slot.book.content_type)
        self._audits[index] = Audit(slot.book, self.ledger)
        answer, _ = self._operator.ask("POST", audit.book.path, b"", {"Stream-Closed": "true"})
        if answer.status != 204:
            self._operator.unexpected("POST", audit.book.path, answer)
        audit.book.closed = True
        self._retired.append(audit)
        self.ledger.count("closes")
        if len(self._retired) > RETIRED_MAX:
            self._delete(self._retired.pop(0))

    def _delete(self, audit: Audit) -> None:
        audit.read_all(self._operator.client)
        audit.book.is_deleted = True
        self._operator.ask("DELETE", audit.book.path)
        self._deleted.append(audit)
        self.ledger.count("deletions")

    # -- the end -----------------------------------------------------------------------------

    def _finish(self) -> None:
        """Everything once more in full: as it is, after an orderly end, and after a kill."""
        for worker in self._workers:
            worker.is_finishing.set()
        for worker in self._workers:
            worker.finish()
        self._audit_all()
        self._field.up.clear()
        self._process.terminate()
        self._verify()
        self._start()
        self._audit_all()
        self._kill()
        self._verify()
        self._start()
        self._audit_all()
        for trouble in self._server.troubles(self._log.read_bytes()):
            self.ledger.violation(UNEXPECTED, trouble)

    def _audit_all(self) -> None:
        client = self._operator.client
        try:
            for audit in (*self._audits, *self._retired):
                audit.read_all(client)
                for view in audit.book.views:
                    marks = range(len(view.marks))
                    chosen = self._chance.sample(marks, min(MARKS_CHECKED, len(marks)))
                    audit.check_marks(client, view, chosen)
            for audit in self._retired:
                audit.check_closed(client)
            for audit in self._deleted:
                audit.check_deleted(client)
        except Disconnected as error:
            self.ledger.violation(UNEXPECTED, f"the server ended by itself, or hangs: {error}")
        for worker in self._workers:
            if isinstance(worker, Lifecycles):
                worker.finish_all()
