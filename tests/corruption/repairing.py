"""Repair a damaged store, and say which promises of repair it broke.

Afterwards the store opens for writing, and ``verify`` finds nothing but quarantines. A stream
that the report does not name is as it was, to the byte; one that it names shows what is left of
it, and never other bytes. Only where records are reported missing whose streams nobody knows,
any stream may be as it was before them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from durastream.engine.errors import StorageError, UnknownFormat
from durastream.engine.repair_run import Outcome, repair_directory

from .specimen import Files, Shown, Specimen, observe, open_store, write_files


class RepairJudge:
    def __init__(self, specimen: Specimen, folder: Path) -> None:
        self.specimen = specimen
        self.folder = folder

    def judge(self, files: Files, instead: dict[str, Shown] | None) -> list[str]:
        """What is broken. ``instead`` may be shown in place of what was, see ``Judge``."""
        write_files(self.folder, files)
        try:
            outcome = repair_directory(self.folder)
        except UnknownFormat as error:
            return [] if is_newer(files) else [f"repair: {error}"]
        except (StorageError, OSError) as error:
            return [f"repair: {type(error).__name__}: {error}"]
        broken = [f"repair left {found}" for found in outcome.left[:3]]
        try:
            store = open_store(self.folder)
        except StorageError as error:
            return [*broken, f"repaired, but refused: {error}"]
        try:
            if store.read_only:
                broken.append(f"repaired, but {store._engine.operations.write_refusal}")
            shown = observe(store, self.specimen.paths)
        finally:
            store.close()
        named = self._named(outcome)
        for path, after in shown.items():
            broken += self._complaints(path, after, outcome, path in named, instead or {})
        return broken

    def _named(self, outcome: Outcome) -> set[str]:
        """The paths of the streams that lost something, and of their forks."""
        if outcome.report is None:
            return set()
        ids = {loss.stream_id for loss in outcome.report.losses}
        names = self.specimen.names
        return {names[found] for found in self.specimen.heirs(ids) if found in names}

    def _complaints(
        self,
        path: str,
        after: Shown,
        outcome: Outcome,
        is_named: bool,
        instead: dict[str, Shown],
    ) -> list[str]:
        before = self.specimen.shown[path]
        if after in (before, instead.get(path)):
            return []
        has_losses = outcome.report is not None and outcome.report.has_losses
        if has_losses and alike_but_for_forks(before, after):
            return []
        is_gone = before.state is not None and before.state[12]
        if is_gone and after.state is not None and after.state[12]:
            return []
        if after.messages and not self.specimen.ever_held(path, after.data):
            return [f"repaired: {path[:60]} shows other bytes"]
        may_differ = is_named or (outcome.report is not None and outcome.report.missing)
        if not may_differ:
            return [f"repaired: {path[:60]} is another, and the report does not name it"]
        return []


def alike_but_for_forks(before: Shown, after: Shown) -> bool:
    """Whether only the number of forks differs: one of them was lost."""
    if before.state is None or after.state is None:
        return False
    rest = [state[:11] + state[12:] for state in (before.state, after.state)]
    return rest[0] == rest[1] and replace(before, state=None) == replace(after, state=None)


def is_newer(files: Files) -> bool:
    """Whether FORMAT names a version that is not known yet: a repair leaves such a store alone."""
    found = re.match(rb'\{"format":([2-9])[,}]', files.get("FORMAT", b""))
    return found is not None
