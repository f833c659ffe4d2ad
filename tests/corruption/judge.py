"""Open a damaged store, look at all that it shows, and say which promises it broke.

Whatever was damaged: what a store shows is what it showed before, or an explicit error; nothing
is missing, shortened, other or there again. What ``verify`` calls whole must be whole. What
cannot hide whom it hit costs nobody else. And opening it must not make it worse: a second
opening, behind a flush, is judged as the first one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durastream.engine.errors import StorageError, UnknownFormat
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.verify import Verification
from durastream.protocol.errors import StreamError

from .classes import LMDB, Harm
from .specimen import (
    Files,
    Shown,
    Specimen,
    observe,
    observe_path,
    open_store,
    read_files,
    write_files,
)

EXTRA_PATH = "/written/afterwards"
NEIGHBOURS_MAX = 0.2  # of all paths: what may be in doubt beside a row whose key may be damaged


@dataclass
class Outcome:
    """What became of one damaged store."""

    opened: str = ""  # "writable", "read-only", or "refused"
    error: str = ""  # why not writable
    findings: list[str] = field(default_factory=list)  # damage that verify named
    troubled: list[str] = field(default_factory=list)  # paths with an explicit error
    broken: list[str] = field(default_factory=list)  # promises

    @property
    def found_by(self) -> str:
        """Who noticed first: opening, reading, only verify, or nobody."""
        if self.opened != "writable":
            return "open"
        if self.troubled:
            return "read"
        return "verify" if self.findings else "nobody"


class Judge:
    """Judges what a damaged copy of ``specimen`` in ``folder`` does."""

    def __init__(self, specimen: Specimen, folder: Path) -> None:
        self.specimen = specimen
        self.folder = folder
        self.outcome = Outcome()
        self.rewrites = False
        self.looked_at = specimen.paths
        self.is_rolled_back = False  # then what came later is new, retries too

    def judge(
        self,
        files: Files,
        harm: Harm,
        stream_id: int | None = None,
        instead: dict[str, Shown] | None = None,
        again: bool = False,
        paths: set[str] | None = None,
    ) -> Outcome:
        """What became of ``files``.

        Args:
            harm: what the damage may cost, to the stream with this id if to one.
            instead: may be shown in place of what was, where that is documented.
            again: flush, merge all segments, close and open once more.
            paths: those to look at; None: all.
        """
        outcome = self.outcome = Outcome()
        self.rewrites = again
        self.looked_at = {
            path: producers
            for path, producers in self.specimen.paths.items()
            if paths is None or path in paths
        }
        write_files(self.folder, files)
        self._verify()
        self.is_rolled_back = instead is not None
        instead = {path: Shown() for path in self.specimen.paths} | (instead or self.specimen.shown)
        self._compare(self._use(instead), instead)
        self._weigh(harm, stream_id)
        if outcome.opened != "writable":
            self._require_unchanged(files)
        self.rewrites = False
        if again and outcome.opened == "writable":
            self.outcome = Outcome()
            self._compare(self._use(instead), instead)
            outcome.broken += [f"opened again: {what}" for what in self.outcome.broken]
        return outcome

    def _verify(self) -> None:
        verification = Verification(self.folder)
        try:
            for _ in verification.run():
                pass
        except UnknownFormat as error:  # said instead of any report
            self.outcome.findings = [str(error)]
            return
        self.outcome.findings = [
            str(found) for found in verification.report.findings if found.severity == "damage"
        ]

    def _use(self, instead: dict[str, Shown]) -> dict[str, Shown]:
        try:
            store = open_store(self.folder)
        except StorageError as error:
            self.outcome.opened, self.outcome.error = "refused", str(error)
            return {}
        self.outcome.opened = "read-only" if store.read_only else "writable"
        try:
            shown = observe(store, self.looked_at)
            self._list(store, shown, instead)
            if store.read_only:
                self.outcome.error = str(store._engine.operations.write_refusal)
            else:
                self._write(store, shown)
                if self.rewrites:
                    store.flush()
                    store.compact(everything=True)
            return shown
        finally:
            store.close()

    def _list(
        self, store: FileBackedStreamStore, shown: dict[str, Shown], instead: dict[str, Shown]
    ) -> None:
        try:
            listed = set(store.list()) - {EXTRA_PATH}
        except StorageError:
            return
        for path in listed ^ _live(self.specimen.shown):
            if path not in listed ^ _live(instead):
                continue
            if path not in shown:
                shown[path] = observe_path(store, path, self.specimen.paths.get(path, set()))
            if not shown[path].trouble:
                self._broken(f"the list {'has' if path in listed else 'lacks'} {path[:60]}")

    def _write(self, store: FileBackedStreamStore, shown: dict[str, Shown]) -> None:
        """Retries of what was acknowledged change nothing; something new is taken."""
        for path, arguments in [] if self.is_rolled_back else self.specimen.retries:
            try:
                result = store.append(path, **arguments)
            except StreamError:
                continue  # refused, closed or gone: not accepted
            if result.producer is None or result.producer.status != "duplicate":
                self._broken(f"{path}: a retry of {arguments['producer_id'][:9]} was {result}")
        try:
            store.create(EXTRA_PATH)
            store.append(EXTRA_PATH, b"more")
        except StorageError as error:
            self.outcome.error = f"a new stream: {error}"

    # -- comparing -------------------------------------------------------------------------

    def _compare(self, shown: dict[str, Shown], instead: dict[str, Shown]) -> None:
        for path, after in shown.items():
            if after.trouble and after.trouble != "gone":
                self.outcome.troubled.append(path)
            before = self.specimen.shown[path], instead[path]
            complaints = [self._complaint(path, one, after) for one in before]
            if all(complaints):
                self._broken(f"{path[:60]}: {complaints[0]}")

    def _complaint(self, path: str, before: Shown, after: Shown) -> str:
        if after.trouble and after.trouble != "gone":
            return self._prefix_complaint(path, before, after)
        if before.state is None or after.state is None:
            if before.state == after.state:
                return ""
            return "is missing" if after.state is None else "is there again"
        if after.state[12] and before.state[12]:
            return ""  # gone is all that anybody is told
        if after.state != before.state:
            return f"state {after.state} instead of {before.state}"
        if after.messages != before.messages:
            return f"{len(after.data)} bytes instead of {len(before.data)}, or others"
        for name, epoch in after.producers.items():
            if epoch != before.producers.get(name) and not isinstance(epoch, str):
                return (
                    f"epoch {epoch} of producer {name[:9]} instead of {before.producers.get(name)}"
                )
        return ""

    def _prefix_complaint(self, path: str, before: Shown, after: Shown) -> str:
        """In front of an explicit error only what was there before may be shown.

        Read-only, a stream may be the one that a lost deletion ended, or a lost trim shortened.
        """
        is_known = before.state is not None and before.data.startswith(after.data)
        if self.outcome.opened == "read-only":
            is_known |= self.specimen.ever_held(path, after.data)
        if after.messages and not is_known:
            return f"shows other bytes before {after.trouble}"
        return ""

    # -- weighing --------------------------------------------------------------------------

    def _weigh(self, harm: Harm, stream_id: int | None) -> None:
        outcome = self.outcome
        if not outcome.findings:
            if harm not in (Harm.NONE, Harm.NEWEST, Harm.ANY):
                self._broken("verify found nothing")
            if outcome.found_by != "nobody":
                self._broken(f"verify found nothing, but {outcome.opened}: {outcome.error}")
        if harm in (Harm.STORE, Harm.ANY):
            return
        if outcome.opened != "writable" and harm is not Harm.ROW:
            self._broken(f"not opened for writing ({outcome.error})")
        elif harm in (Harm.NONE, Harm.UNREAD, Harm.NEWEST) and outcome.troubled:
            self._broken(f"refuses {outcome.troubled[:3]}, though nothing it needs is damaged")
        elif harm is Harm.STREAM and stream_id is not None:
            names = self.specimen.names
            hit = {names[found] for found in self.specimen.heirs({stream_id}) if found in names}
            if innocent := set(outcome.troubled) - hit:
                self._broken(f"refuses {sorted(innocent)[:3]}, which were not hit")
        elif len(outcome.troubled) > NEIGHBOURS_MAX * len(self.specimen.paths):
            self._broken(f"refuses {len(outcome.troubled)} streams for one row")

    def _require_unchanged(self, files: Files) -> None:
        """What could not be told to be whole was not touched: repair may need it."""
        left = read_files(self.folder)
        for name, content in left.items():
            if name == LMDB and files.get(name, b"") == content[: len(files.get(name, b""))]:
                continue  # LMDB may be made, or filled up, to be opened
            if files.get(name) != content:
                self._broken(f"{self.outcome.opened}, but {name} was changed or made")
        for name in files.keys() - left.keys():
            self._broken(f"{self.outcome.opened}, but {name} was removed")

    def _broken(self, what: Any) -> None:
        self.outcome.broken.append(str(what))


def _live(shown: dict[str, Shown]) -> set[str]:
    """The paths that a list must name."""
    return {path for path, found in shown.items() if found.state and not found.state[12]}
