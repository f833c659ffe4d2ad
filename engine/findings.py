"""What ``verify`` finds: one value a finding, with what it is called and what to do about it.

Codes are part of the contract of ``durastream verify --json``: they may be added, never change
their meaning. Nothing here looks at a file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

Severity = Literal["damage", "notice"]


class Class(NamedTuple):
    """A class of findings. Damage is what was stored and is wrong; a notice is not."""

    severity: Severity
    advice: str


_SALVAGE = "stop the server and run `durastream repair`: it keeps all that is whole, names the rest"
_CONFINED = "the rest of the store is served; `durastream repair` may find what is missing"
_LOST = "the rest of the store is served; delete the stream and create it again, or keep it so"
_REBUILD = "stop the server and run `durastream repair`: log and segments still hold it"
_SWEPT = "nothing: the next start removes it"

CLASSES: Final[dict[str, Class]] = {
    "format": Class("damage", "run `durastream repair`: the other files know it"),
    "foreign-file": Class("notice", "nothing: it is not used; move it elsewhere"),
    "wal-unwalked": Class("damage", _SALVAGE),
    "wal-damage": Class("damage", _SALVAGE),
    "wal-record": Class("damage", _CONFINED),
    "wal-contents": Class("damage", _SALVAGE),
    "wal-hole": Class("damage", _CONFINED),
    "wal-torn": Class("notice", "nothing: it was never acknowledged, the next start cuts it off"),
    "wal-empty-frame": Class("notice", "nothing is missing; but bits flipped: look at the disk"),
    "wal-unneeded": Class("notice", "nothing: flushed long ago, the file is not needed any more"),
    "segment-missing": Class("damage", f"put the file back from a backup, or {_SALVAGE}"),
    "segment-damage": Class("damage", _CONFINED),
    "segment-index": Class("damage", _SALVAGE),
    "segment-mismatch": Class("damage", _REBUILD),
    "segment-unlisted": Class("damage", f"the store does not open without the row; {_REBUILD}"),
    "segment-leftover": Class("notice", _SWEPT),
    "rows-unreadable": Class("damage", _REBUILD),
    "row-damage": Class("damage", _REBUILD),
    "table-sum": Class("damage", _REBUILD),
    "checkpoint": Class("damage", _REBUILD),
    "row-missing": Class("damage", _REBUILD),
    "row-differs": Class("damage", _REBUILD),
    "path-binding": Class("damage", _REBUILD),
    "deadline": Class("damage", _REBUILD),
    "producer": Class("damage", _REBUILD),
    "reference-count": Class("damage", _REBUILD),
    "source-missing": Class("damage", _REBUILD),
    "hole": Class("damage", _CONFINED),
    "overlap": Class("damage", _SALVAGE),
    "quarantine": Class("damage", _LOST),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    code: str
    severity: Severity
    what: str
    file: str  # below the data directory
    position: int | None  # bytes from the file's start
    stream_id: int | None
    path: str | None  # the stream's
    advice: str

    def __str__(self) -> str:
        where = self.file if self.position is None else f"{self.file}, byte {self.position}"
        whose = ""
        if self.stream_id is not None:
            whose = f" (stream {self.stream_id}{f', {self.path}' if self.path else ''})"
        return f"{where}: {self.what}{whose}"


class Findings:
    """What was found so far, in order; streams get their paths when all is known."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self.paths: dict[int, str] = {}  # of streams that a finding or a tool may name

    def add(
        self,
        code: str,
        what: str,
        file: str,
        position: int | None = None,
        stream_id: int | None = None,
    ) -> None:
        kind = CLASSES[code]
        self._found.append(
            Finding(code, kind.severity, what, file, position, stream_id, None, kind.advice)
        )

    def extend(self, other: Findings) -> None:
        """Take over what another look found."""
        self._found += other._found
        for stream_id, path in other.paths.items():
            self.paths.setdefault(stream_id, path)

    def all(self) -> list[Finding]:
        """Damage first, else in the order in which it was found."""
        named = [
            found
            if found.stream_id is None
            else replace(found, path=self.paths.get(found.stream_id))
            for found in self._found
        ]
        return sorted(named, key=lambda found: found.severity)

    def has_damage(self, code: str | None = None) -> bool:
        """Whether there is any, or any of one class."""
        return any(
            found.code == code if code else found.severity == "damage" for found in self._found
        )
