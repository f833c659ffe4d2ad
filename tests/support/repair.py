"""Look at all of a store, damage it, repair it, and compare."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from durastream.engine.errors import StreamQuarantined
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.repair_run import Outcome, repair_directory
from durastream.engine.store import Store
from durastream.engine.verify import Verification

from .stores import contents

PRODUCERS = ("writer", "other")


def seen(store: Store) -> dict[str, Any]:
    """Every stream as its users see it."""
    return {path: seen_of(store, path) for path in store.list()}


def seen_of(store: Store, path: str) -> tuple[Any, ...]:
    """One stream; of its bytes those that are readable."""
    stream = store.get(path)
    assert stream is not None
    return (
        stream.content_type, stream.current_offset, stream.incarnation, stream.closed,
        stream.closed_by, stream.last_seq, stream.ttl_seconds, stream.expires_at,
        stream.forked_from, stream.fork_offset, stream.ref_count, stream.created_at,
        readable(store, path), [store.get_producer_epoch(path, name) for name in PRODUCERS],
    )  # fmt: skip


def readable(store: Store, path: str) -> bytes:
    """All bytes of a stream, up to its end or a quarantine."""
    data, at = b"", None
    with contextlib.suppress(StreamQuarantined):
        while True:
            result = store.read(path, at)
            data += bytes(result)
            at = result.next_offset
            if result.up_to_date:
                break
    return data


def damage_codes(folder: Path) -> set[str]:
    verification = Verification(folder)
    for _ in verification.run():
        pass
    return {found.code for found in verification.report.findings if found.severity == "damage"}


def repaired(folder: Path) -> Outcome:
    """Repair, and see that nothing is left to repair but what is under quarantine."""
    outcome = repair_directory(folder)
    assert [str(finding) for finding in outcome.left] == []
    assert damage_codes(folder) <= {"quarantine"}
    if outcome.report is not None:
        report = json.loads((folder / outcome.report.folder / "report.json").read_text())
        assert report == json.loads(json.dumps(outcome.report.plain() | {"moved": report["moved"]}))
        again = repair_directory(folder)
        assert (again.found, again.report, again.finished) == ([], None, [])
    return outcome


def check_repair(
    folder: Path,
    opener: Callable[[], FileBackedStreamStore],
    before: dict[str, Any],
    hit: Collection[str] = (),
) -> Outcome:
    """Repair: every stream but those hit is as before, and all but those take writes.

    Those that were hit are quarantined, and can be deleted and created again.
    """
    outcome = repaired(folder)
    store = opener()
    assert not store.read_only
    assert sorted(store.list()) == sorted(before)
    untouched = {path: before[path] for path in before if path not in hit}
    assert {path: found for path, found in seen_but(store, hit).items()} == untouched
    for path in sorted(untouched):
        if not before[path][3]:
            store.append(path, b"1" if "json" in before[path][0] else b"more")
    for path in sorted(hit):
        if not before[path][3]:
            with pytest.raises(StreamQuarantined):
                store.append(path, b"1")
        make_anew(store, path)
    expected = seen(store)
    store.close()
    assert damage_codes(folder) <= {"quarantine"}  # of sources that their forks keep
    store = opener()
    assert seen(store) == expected
    store.close()
    return outcome


def make_anew(store: Store, path: str) -> None:
    """The way out of a quarantine."""
    stream = store.get(path)
    assert stream is not None
    store.delete(path)
    if stream.ref_count == 0:
        created = store.create(path, initial_data=b"anew")
        assert created.incarnation > stream.incarnation
        assert contents(store, path) == b"anew"


def seen_but(store: Store, hit: Collection[str]) -> dict[str, Any]:
    class Others:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def list(self) -> list[str]:
            return [path for path in store.list() if path not in hit]

    return seen(Others())  # type: ignore[arg-type]
