"""Everything at once on the same few streams, and each history is linearizable.

docs/reliability.md, "Concurrency and native code": the long form is benchmarks/linearizability.py.
"""

from __future__ import annotations

import pytest

from histories.runs import run_embedded, run_process, run_served

# What a run must have met, or it shows nothing.
SEEN = {
    "create: created", "create: there", "append: accepted", "append: missing", "append: closed",
    "append: duplicate", "append: gap", "close: accepted", "delete: deleted", "delete: missing",
    "head: head", "read: read", "read: missing",
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_threads_and_event_loops_on_one_store(kind, tmp_path, seed):
    outcomes = run_embedded(kind, tmp_path, seed, 150)
    assert outcomes.calls == 9 * 150
    assert set(outcomes.kinds) >= SEEN | {"create: exists", "create: gone", "read: gone"}


def check_until_seen(run, wanted):
    """Histories with seed after seed, until they met everything: what races meet, varies."""
    seen = set()
    for seed in range(1, 6):
        seen |= set(run(seed).kinds)
        if seen >= wanted:
            return
    assert wanted - seen == set()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_connections_to_a_server(kind, tmp_path):
    check_until_seen(
        lambda seed: run_served(kind, tmp_path / str(seed), seed, 60),
        SEEN | {"create: refused", "append: unanswered"},
    )


def test_connections_to_a_server_process(tmp_path):
    check_until_seen(
        lambda seed: run_process(tmp_path / str(seed), seed, 60), SEEN | {"create: refused"}
    )
