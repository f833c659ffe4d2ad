"""The baseline of the benchmarks does what it says: otherwise the ratios mean nothing."""

from __future__ import annotations

import os

import pytest

from pure_store import PureFileStore


@pytest.fixture
def store(tmp_path):
    opened = PureFileStore(tmp_path)
    opened.create("a")
    yield opened
    opened.close()


def test_what_was_appended_is_read(store):
    store.append("a", b"one")
    store.append_batch("a", [b"", b"three"])
    assert store.read("a") == store.read_all("a") == [b"one", b"", b"three"]
    assert store.read("a", 4 + 3, 1) == [b""]


def test_a_name_is_taken_once(store):
    with pytest.raises(FileExistsError):
        store.create("a")


def test_each_acknowledgement_waits_for_a_sync_and_a_batch_for_one(store, monkeypatch):
    calls = []
    for name in ("write", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1]
        )
    store.append("a", b"one")
    assert calls == ["write", "fsync"]
    store.append_batch("a", [b"two"] * 100)
    assert calls == ["write", "fsync"] * 2
