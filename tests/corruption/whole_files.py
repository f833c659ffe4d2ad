"""Damage to whole files: cut, grown, gone, exchanged, older than the rest, of another store."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .classes import LMDB, Harm
from .specimen import Files, Shown, Specimen

KINDS = ("FORMAT", "wal/0", "wal/spare", "segments/", LMDB)


@dataclass(frozen=True)
class Exchange:
    """What was done, and what it may cost."""

    what: str
    harm: Harm = Harm.ANY
    instead: dict[str, Shown] | None = None

    def __str__(self) -> str:
        return self.what


Scenario = Callable[[Specimen, Specimen, random.Random], tuple[Files, Exchange]]


def any_file(files: Files, rng: random.Random, kinds: tuple[str, ...] = KINDS) -> str:
    kind = rng.choice([kind for kind in kinds if any(name.startswith(kind) for name in files)])
    return rng.choice([name for name in files if name.startswith(kind)])


def cut(specimen: Specimen, other: Specimen, rng: random.Random) -> tuple[Files, Exchange]:
    name = any_file(specimen.files, rng)
    content = specimen.files[name]
    pages = range(0, len(content), 4096)
    size = rng.choice([0, 512, rng.choice(pages), rng.randrange(len(content)), len(content) - 1])
    size = min(size, len(content) - 1)
    return {**specimen.files, name: content[:size]}, Exchange(f"{name} cut to {size} bytes")


def grown(specimen: Specimen, other: Specimen, rng: random.Random) -> tuple[Files, Exchange]:
    name = any_file(specimen.files, rng)
    size = rng.choice([1, 512, 4096, 10_000])
    more = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
    done = Exchange(f"{name} grown by {size} bytes")
    return {**specimen.files, name: specimen.files[name] + more}, done


def missing(specimen: Specimen, other: Specimen, rng: random.Random) -> tuple[Files, Exchange]:
    name = any_file(specimen.files, rng)
    files = {known: content for known, content in specimen.files.items() if known != name}
    return files, Exchange(f"{name} missing", Harm.ANY if "spare" in name else Harm.STORE)


def missing_folder(
    specimen: Specimen, other: Specimen, rng: random.Random
) -> tuple[Files, Exchange]:
    kind = rng.choice(["wal/", "segments/", "meta.lmdb/"])
    files = {name: raw for name, raw in specimen.files.items() if not name.startswith(kind)}
    return files, Exchange(f"{kind} empty", Harm.STORE)


def swapped(specimen: Specimen, other: Specimen, rng: random.Random) -> tuple[Files, Exchange]:
    """Two files of one kind change places."""
    kinds = ["wal/0", "segments/"]
    kind = rng.choice([k for k in kinds if sum(name.startswith(k) for name in specimen.files) > 1])
    first, second = rng.sample([name for name in specimen.files if name.startswith(kind)], 2)
    files = {**specimen.files}
    files[first], files[second] = files[second], files[first]
    return files, Exchange(f"{first} and {second} swapped", Harm.STORE)


def foreign(specimen: Specimen, other: Specimen, rng: random.Random) -> tuple[Files, Exchange]:
    """A file of another store; all that it has are alike."""
    name = any_file(specimen.files, rng)
    content = other.files.get(name, other.files[any_file(other.files, rng, (name[:5],))])
    harm = Harm.ANY if "spare" in name else Harm.STORE
    return {**specimen.files, name: content}, Exchange(f"{name} of another store", harm)


def duplicate(specimen: Specimen, other: Specimen, rng: random.Random) -> tuple[Files, Exchange]:
    """A copy under another number, above or below the others."""
    kind, suffix = rng.choice([("wal/", ".wal"), ("segments/", ".seg")])
    name = any_file(specimen.files, rng, (f"{kind}0",))
    numbers = [int(known[-24:-4]) for known in specimen.files if known.startswith(f"{kind}0")]
    number = rng.choice([max(numbers) + 1, max(numbers) + 7, max(1, min(numbers) - 1), 999])
    copy = f"{kind}{number:020d}{suffix}"
    files = {**specimen.files, copy: specimen.files[name]}
    return files, Exchange(f"{name} copied to {copy}")


def older_rows(specimen: Specimen, other: Specimen, rng: random.Random) -> tuple[Files, Exchange]:
    """LMDB restored alone, from an older copy of the same store."""
    moment = rng.randrange(len(specimen.older))
    files = {**specimen.files, LMDB: specimen.older[moment][LMDB]}
    return files, Exchange(f"{LMDB} of moment {moment}")


def older_log(specimen: Specimen, other: Specimen, rng: random.Random) -> tuple[Files, Exchange]:
    """The log restored alone. A roll-back of its youngest files cannot always be noticed."""
    moment = rng.randrange(len(specimen.older))
    files = {name: raw for name, raw in specimen.files.items() if not name.startswith("wal/")}
    older = specimen.older[moment]
    files |= {name: raw for name, raw in older.items() if name.startswith("wal/")}
    instead = specimen.shown_then[moment]
    return files, Exchange(f"wal/ of moment {moment}", instead=instead)


def older_log_file(
    specimen: Specimen, other: Specimen, rng: random.Random
) -> tuple[Files, Exchange]:
    """One file of the log as it was before."""
    names = [
        (moment, name)
        for moment, older in enumerate(specimen.older)
        for name in older
        if name.startswith("wal/0")
        and name in specimen.files
        and older[name] != specimen.files[name]
    ]
    moment, name = rng.choice(names)
    youngest = max(known for known in specimen.files if known.startswith("wal/0"))
    instead = specimen.shown_then[moment] if name == youngest else None
    files = {**specimen.files, name: specimen.older[moment][name]}
    return files, Exchange(f"{name} of moment {moment}", instead=instead)


def older_segments(
    specimen: Specimen, other: Specimen, rng: random.Random
) -> tuple[Files, Exchange]:
    files = {name: raw for name, raw in specimen.files.items() if not name.startswith("segments/")}
    older = specimen.older[rng.randrange(len(specimen.older))]
    older = {name: raw for name, raw in older.items() if name.startswith("segments/")}
    harm = Harm.ANY if len(older) + len(files) == len(specimen.files) else Harm.STORE
    return files | older, Exchange(f"segments/ with {len(older)} segments", harm)


SCENARIOS: dict[str, Scenario] = {
    "file cut": cut,
    "file grown": grown,
    "file missing": missing,
    "folder empty": missing_folder,
    "files swapped": swapped,
    "file of another store": foreign,
    "file copied to another number": duplicate,
    "older LMDB": older_rows,
    "older log": older_log,
    "older file of the log": older_log_file,
    "older segments": older_segments,
}


def damage_files(
    name: str, specimen: Specimen, other: Specimen, rng: random.Random
) -> tuple[Files, Exchange]:
    return SCENARIOS[name](specimen, other, rng)
