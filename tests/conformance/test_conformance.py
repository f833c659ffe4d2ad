"""Each test of the official server suite, by its own name, on both stores.

names.txt lists what the pinned version runs without subscriptions. A test that vanishes, or
one that is new after an update of the package, fails until the list says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

NAMES = Path(__file__).with_name("names.txt").read_text().splitlines()

pytestmark = pytest.mark.timeout(300)  # the first test of a store waits for the whole suite


def test_the_list_is_complete(verdicts):
    assert sorted(verdicts) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_official(verdicts, name):
    assert name in verdicts, "the suite did not run this test"
    assert verdicts[name].passed, verdicts[name].reason
