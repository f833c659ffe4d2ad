"""The short form of benchmarks/soak.py: everything happens at once, and nothing may be lost."""

from __future__ import annotations

import asyncio
import json

import pytest

from killing.ledger import DOUBLED, LOST, SHOWN, Ledger
from soaking.judge import DESCRIPTORS_MAX, MEMORY_MAX
from soaking.lane import Soil
from soaking.load import Load
from soaking.plan import SMALL, Plan
from soaking.report import summary
from soaking.run import SoakRun
from soaking.streams import Kind, Place, Stream
from support.http_client import HttpClient
from support.server_process import ServerProcess

PLAN = Plan(
    16.0, SMALL, streams=200, lanes=8, rate=80.0, reads=20.0, kill_after=(4.0, 5.0),
    backup_after=(1.0, 2.0), verify_every=2, window=2.0,
)  # fmt: skip
# What a run must have done, to show anything.
LOAD = (
    "acknowledged writes", "reads compared", "reads before what is kept", "creations", "deletions",
    "forks", "kills", "backup runs", "verify runs", "restore runs",
)  # fmt: skip
TEXT = {"Content-Type": "text/plain"}


@pytest.mark.timeout(400)
def test_nothing_is_lost_and_no_bound_is_passed(tmp_path):
    result = asyncio.run(SoakRun(PLAN, tmp_path / "soak").run())
    found = summary(result)
    assert found["is clean"], json.dumps(found, indent=1)
    for what in LOAD:
        assert result.ledger.counts[what] > 0, (what, found)
    for sample in result.samples:
        assert sample.anonymous <= MEMORY_MAX
        assert sample.descriptors <= DESCRIPTORS_MAX


def test_an_audit_finds_what_was_changed_behind_its_back(tmp_path):
    with ServerProcess(tmp_path / "data") as process:
        ledger = Ledger()
        soil = Soil(process.port, 1, ledger)
        soil.up.set()
        load = Load(Plan(1.0, SMALL, streams=60, lanes=4), soil)
        asyncio.run(load.fill())
        deleted, appended, replaced = chosen(load.places)
        with HttpClient(process.port) as client:
            assert client.request("DELETE", deleted.path).status == 204
            assert client.request("POST", appended.path, b"more\n", TEXT).status == 204
            replace(client, replaced)
        asyncio.run(load.audit())
        violations = {kind: count for kind, count in ledger.violations.items() if count}
    assert violations == {LOST: 1, DOUBLED: 1, SHOWN: 1}, ledger.examples


def chosen(places: list[Place]) -> list[Stream]:
    """Three plain streams of text that have something in them, and that nobody forked."""
    streams = [place.stream for place in places if place.kind is Kind.PLAIN]
    found = [s for s in streams if s and s.content_type in TEXT.values() and len(s.tokens) > 1]
    return [stream for stream in found if not stream.was_forked and stream.tail][:3]


def replace(client: HttpClient, stream: Stream) -> None:
    """By another one of the same size, whose appends end at the same places."""
    assert client.request("DELETE", stream.path).status == 204
    assert client.request("PUT", stream.path, headers=TEXT).status == 201
    for index in range(len(stream.ends)):
        size = stream.ends[index] - stream.start_of(index)
        assert client.request("POST", stream.path, b"x" * size, TEXT).status == 204
