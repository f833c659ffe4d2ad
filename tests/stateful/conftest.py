"""Which store a state machine runs over: every one, by name."""

from __future__ import annotations

import pytest

from support.stores import STORES, StoreKind


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return STORES[request.param]
