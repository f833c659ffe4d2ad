"""Data directories of any bytes: opened, or refused; no crash, no hang, never other bytes.

The corruption matrix (tests/corruption) damages one place at a time and knows what it may cost.
Here several files are changed at once, in any way, and all that counts is what must hold whatever
happens.
"""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corruption.specimen import build, observe, open_store, write_files
from durastream.engine.errors import StorageError
from durastream.engine.verify import Verification
from durastream.protocol.errors import StreamError
from support.fuzzing import examples
from support.mutations import kept, mutated, mutations, sealed_segment, sealed_wal

SEAL = {"wal": sealed_wal, "segments": sealed_segment}


class Original:
    """A store with everything in it, and all that it ever showed."""

    def __init__(self, folder):
        self.specimen = build(1, folder / "specimen")
        self.folder = folder / "data"
        self.names = sorted(self.specimen.files)

    def __repr__(self):
        return "the original"

    def has_shown(self, path, data):
        specimen = self.specimen
        known = [shown[path].data for shown in [specimen.shown, *specimen.shown_then] if
                 path in shown]  # fmt: skip
        return any(one.startswith(data) for one in [*known, *specimen.ended.get(path, [])])


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    logging.disable(logging.CRITICAL)  # the store reports all that it finds
    yield Original(tmp_path_factory.mktemp("fuzz"))
    logging.disable(logging.NOTSET)


def changed(original, changes):
    """The files after ``changes``: pairs of a number, which chooses a file, and a mutation."""
    files, is_sealed = dict(original.specimen.files), False
    for number, mutation in changes:
        name = original.names[number % len(original.names)]
        files[name] = mutated(files[name], mutation["steps"])
        seal = SEAL.get(name.partition("/")[0])
        if mutation["sealed"] and seal is not None:
            files[name], is_sealed = seal(files[name]), True
    return files, is_sealed


def use(original, allowed):
    """Open it, look at everything, write, flush and close; what it showed."""
    with suppress(*allowed):
        for _ in Verification(original.folder).run():
            pass
    shown = {}
    with suppress(*allowed):
        store = open_store(original.folder)
        try:
            with suppress(*allowed):
                shown = observe(store, original.specimen.paths)
                store.list()
                store.create("/more", initial_data=b"more")
                store.flush()
                assert bytes(store.read("/more")) == b"more"
        finally:
            with suppress(*allowed):
                store.close()
    return shown


def examine(original, changes):
    files, is_sealed = changed(original, changes)
    write_files(original.folder, files)
    # What was sealed is no accident: any error will do, as long as it is one.
    allowed = (Exception,) if is_sealed else (StorageError, StreamError)
    shown = use(original, allowed)
    if not is_sealed:
        for path, after in shown.items():
            assert original.has_shown(path, after.data), path
        for path, after in use(original, allowed).items():
            assert original.has_shown(path, after.data), path


@examples(40)
@given(changes=st.lists(st.tuples(st.integers(0, 30), mutations(2)), min_size=1, max_size=3))
def test_mutated_directories(original, changes):
    examine(original, changes)


@examples(20)
@given(number=st.integers(0, 30), content=st.binary(max_size=5000))
def test_a_file_of_any_bytes(original, number, content):
    name = original.names[number % len(original.names)]
    write_files(original.folder, {**original.specimen.files, name: content})
    for path, after in use(original, (StorageError, StreamError)).items():
        assert original.has_shown(path, after.data), path


@pytest.mark.parametrize("number", range(len(kept("directory"))))
def test_what_was_found_once(original, number):
    examine(original, kept("directory")[number])


def test_the_original_shows_everything(original):
    write_files(original.folder, original.specimen.files)
    assert use(original, ()) == original.specimen.shown
