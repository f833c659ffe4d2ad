"""Memory of a real server under pressure (I8): benchmarks/memory.py in small, with its bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory import BACKLOG, BODIES, CONNECTION, PINNED, PROCESS, STREAM
from pressure import many, scenarios
from pressure.outcome import Outcome
from pressure.scenarios import Server
from pressure.usage import KIB, MIB
from support.server_process import ServerProcess


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    with ServerProcess(tmp_path / "data") as process:
        yield Server(process.port, process.pid)


def check(outcome: Outcome) -> None:
    assert outcome.wrong == []
    assert outcome.peak <= outcome.bound, f"{outcome.peak / MIB:.0f} MiB: {outcome.plain()}"


def test_appends_faster_than_the_disk(server):
    bound = PROCESS + BACKLOG + 2 * 16 * MIB
    check(scenarios.writer(server, bound, connections=16, size=MIB, seconds=3))


def test_more_large_bodies_than_fit_leave_room_for_small_ones(server):
    outcome = scenarios.bodies(
        server, PROCESS + BACKLOG + BODIES, fast=8, slow=0, endless=6, size=64 * MIB, seconds=6
    )
    check(outcome)
    assert any(name.endswith("503 + Retry-After") for name in outcome.answers), outcome.answers


def test_a_large_stream_read_by_many(server):
    check(
        scenarios.catchup(
            server, PROCESS + BACKLOG + PINNED, fast=6, slow=3, stopped=3, size=64 * MIB, seconds=2
        )
    )


def test_event_streams_of_which_some_are_never_read(server):
    outcome = scenarios.sse(
        server, PROCESS + 200 * CONNECTION, reading=150, stopped=50, size=KIB, rate=20, seconds=4
    )
    check(outcome)
    assert outcome.after.descriptors <= outcome.before.descriptors + 20


def test_many_streams_of_which_few_are_used(tmp_path):
    many.create(tmp_path / "data", 1_000)
    with ServerProcess(tmp_path / "data") as process:
        bound = PROCESS + BACKLOG + 1_000 * STREAM
        server = Server(process.port, process.pid)
        outcome = scenarios.streams(server, bound, count=1_000, active=50, seconds=1)
    check(outcome)
    assert outcome.answers["200, unused"] > 100
