"""Fixtures of the file store's tests."""

from dataclasses import replace

import pytest

from durastream.engine.file_store import FileBackedStreamStore
from support.stores import SMALL_LIMITS, SMALL_STORE, ManualClock, crash


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def opener(tmp_path, clock):
    """Opens the one store of a test, again and again; nothing is flushed or swept by itself."""
    opened = []

    def open_store(**options):
        store = FileBackedStreamStore(
            tmp_path / "data",
            limits=SMALL_LIMITS,
            options=replace(SMALL_STORE, **options),
            clock=clock,
        )
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


def flush_and_crash(store):
    store.flush()
    crash(store)


@pytest.fixture(params=[FileBackedStreamStore.close, crash, flush_and_crash])
def leave(request):
    """Ways to end a store, after which it must be found the same."""
    return request.param
