"""Every store, through both of its faces, for every test of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durastream.engine.options import Limits
from durastream.engine.store import Store
from support.stores import STORES, BlockingFace, ManualClock, StoreKind

OpenStore = Callable[..., Store]
LIMITS = Limits()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return STORES[request.param]


@pytest.fixture
def open_store(kind: StoreKind, clock: ManualClock, tmp_path: Path) -> Iterator[OpenStore]:
    """Open stores with other limits or another clock; they are closed at the end."""
    opened: list[Store] = []

    def open_one(*, limits: Limits = LIMITS, clock: Callable[[], int] = clock) -> Store:
        opened.append(kind.open(tmp_path / str(len(opened)), clock, limits))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def blocking_store(open_store: OpenStore) -> Store:
    """A store as threads use it."""
    return open_store()


@pytest.fixture(params=["blocking", "aio"])
def store(request: pytest.FixtureRequest, blocking_store: Store) -> Iterator[Store]:
    """A store, once through each of its faces."""
    if request.param == "blocking":
        yield blocking_store
        return
    face = BlockingFace(blocking_store)
    yield face  # type: ignore[misc]
    face.close()
