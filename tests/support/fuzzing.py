"""How many examples a fuzz test tries: few with all other tests, many on demand.

    DURASTREAM_FUZZ=100 HYPOTHESIS_PROFILE=explore python3 run.py test tests/fuzz tests/wire

tries a hundred times as many, and others each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("DURASTREAM_FUZZ", "1"))


def examples(count: int) -> settings:
    """For a test that resets by itself whatever fixtures it uses."""
    return settings(
        max_examples=FACTOR * count, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
