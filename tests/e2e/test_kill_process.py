"""A real server killed with SIGKILL while real clients write and read (I1, I3, I4, I5)."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from killing.ledger import FORGOTTEN, LOST, SHOWN, VERIFY
from killing.ours import FORGETFUL, SMALL
from killing.plan import Plan
from killing.run import KillRun
from support.http_client import HttpClient
from support.server_process import ServerProcess

TEXT = {"Content-Type": "text/plain"}
STREAMS = ["crash/a", "crash/b", "crash/c"]
# Some ten starts of a server, which take seconds each beside other work.
SLOW_MACHINE = pytest.mark.timeout(400)

# What a run must have done, to show anything.
LOAD = (
    "acknowledged writes",
    "producer batches sent again",
    "epochs claimed",
    "closes",
    "deletions",
    "forks",
    "looks at small streams",
    "verify runs",
    "batches shown to catch-up readers",
    "batches shown to long-poll readers",
    "batches shown to sse readers",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data") as process:
        yield process


def restart(server: ServerProcess, *, crash: bool) -> None:
    if crash:
        server.kill()
    else:
        server.stop()
    server.start()


def create_all(client: HttpClient) -> None:
    for stream in STREAMS:
        assert client.request("PUT", stream, headers=TEXT).status == 201


@SLOW_MACHINE
def test_every_acknowledged_append_is_there_once_after_sigkill(tmp_path):
    """The short form of benchmarks/kill.py: everything is compared, see its ledger."""
    plan = Plan(kills=6, uptime_max=0.4, verify_every=3, rotate_every=2)
    result = KillRun(SMALL, tmp_path, plan).run()
    assert result.is_clean, json.dumps(result.summary(), indent=1)
    # Otherwise it would have shown nothing: kills met requests under way, and there was work.
    counts = result.ledger.counts
    for what in LOAD:
        assert counts[what] > 0, (what, result.summary())
    assert counts["requests repeated"] >= plan.kills


@SLOW_MACHINE
def test_a_run_finds_what_is_lost(tmp_path):
    """Against a server that keeps everything in memory, every kill loses everything."""
    result = KillRun(FORGETFUL, tmp_path, Plan(kills=2)).run()
    violations = result.ledger.violations
    assert min(violations[LOST], violations[SHOWN]) > 0, result.summary()
    assert not result.is_clean


@SLOW_MACHINE
def test_a_run_finds_what_an_older_copy_brings_back(tmp_path):
    """An older copy, whole in itself: what was forgotten is found by every kind of client."""
    older = OlderCopy(taken_at=2, restored_at=4)
    plan = Plan(kills=3, verify_every=0, rotate_every=2, before_start=older)
    violations = KillRun(SMALL, tmp_path, plan).run().ledger.violations
    assert min(violations[kind] for kind in (LOST, SHOWN, FORGOTTEN)) > 0, violations
    assert violations[VERIFY] == 0, violations


class OlderCopy:
    """Copies the directory before one start, and puts the copy back before another."""

    def __init__(self, taken_at: int, restored_at: int) -> None:
        self._taken_at, self._restored_at = taken_at, restored_at
        self._starts = 0

    def __call__(self, data_dir: Path) -> None:
        self._starts += 1
        copy = data_dir.with_name("older")
        if self._starts == self._taken_at:
            shutil.copytree(data_dir, copy)
        elif self._starts == self._restored_at:
            for path in data_dir.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copytree(copy, data_dir, dirs_exist_ok=True)


@pytest.mark.parametrize("crash", [True, False], ids=["SIGKILL", "SIGTERM"])
def test_what_was_answered_stands_after_a_restart(server, crash):
    with HttpClient(server.port) as client:
        create_all(client)
        client.request("POST", "crash/a", b"data", TEXT)
        client.request("POST", "crash/b", b"end", {**TEXT, "Stream-Closed": "true"})
        fork = {"Stream-Forked-From": "/v1/stream/crash/a"}
        assert client.request("PUT", "crash/fork", headers=fork).status == 201
        assert client.request("DELETE", "crash/c").status == 204
        ttl = {**TEXT, "Stream-TTL": "3600"}
        assert client.request("PUT", "crash/ttl", b"x", headers=ttl).status == 201
        before = [client.request("GET", name, offset="-1") for name in ("crash/a", "crash/b")]
        restart(server, crash=crash)
    with HttpClient(server.port) as client:
        after = [client.request("GET", name, offset="-1") for name in ("crash/a", "crash/b")]
        assert [answer.body for answer in after] == [b"data", b"end"]
        for name in ("Stream-Next-Offset", "ETag", "Stream-Closed", "Content-Type"):
            assert [a.headers[name] for a in after] == [b.headers[name] for b in before]
        assert client.request("POST", "crash/b", b"more", TEXT).status == 409
        assert client.request("HEAD", "crash/c").status == 404
        assert client.request("HEAD", "crash/ttl").headers["Stream-TTL"] == "3600"
        assert client.request("POST", "crash/fork", b"!", TEXT).status == 204
        assert client.read_all("crash/fork") == b"data!"
        assert client.read_all("crash/a") == b"data"


@pytest.mark.parametrize("crash", [True, False], ids=["SIGKILL", "SIGTERM"])
def test_a_producer_goes_on_where_it_was(server, crash):
    tuples = {**TEXT, "Producer-Id": "p", "Producer-Epoch": "3"}
    with HttpClient(server.port) as client:
        create_all(client)
        for seq in range(5):
            headers = {**tuples, "Producer-Seq": str(seq)}
            assert client.request("POST", "crash/a", b"%d" % seq, headers).status == 200
        restart(server, crash=crash)
    with HttpClient(server.port) as client:
        again = client.request("POST", "crash/a", b"4", {**tuples, "Producer-Seq": "4"})
        assert (again.status, again.headers["Producer-Seq"]) == (204, "4")
        gap = client.request("POST", "crash/a", b"6", {**tuples, "Producer-Seq": "6"})
        assert (gap.status, gap.headers["Producer-Expected-Seq"]) == (409, "5")
        stale = {**tuples, "Producer-Epoch": "2", "Producer-Seq": "0"}
        assert client.request("POST", "crash/a", b"x", stale).status == 403
        assert (
            client.request("POST", "crash/a", b"5", {**tuples, "Producer-Seq": "5"}).status == 200
        )
        assert client.read_all("crash/a") == b"012345"


def test_stream_seq_is_remembered(server):
    with HttpClient(server.port) as client:
        create_all(client)
        client.request("POST", "crash/a", b"1", {**TEXT, "Stream-Seq": "b"})
        restart(server, crash=True)
    with HttpClient(server.port) as client:
        assert client.request("POST", "crash/a", b"2", {**TEXT, "Stream-Seq": "a"}).status == 409
        assert client.request("POST", "crash/a", b"2", {**TEXT, "Stream-Seq": "c"}).status == 204


def test_waiting_readers_are_answered_on_sigterm(server):
    """A long-poll under way gets its answer, not a broken connection."""
    with HttpClient(server.port) as client:
        create_all(client)
    answers: list[int] = []

    def wait() -> None:
        with HttpClient(server.port) as client:
            answers.append(client.request("GET", "crash/a", offset="-1", live="long-poll").status)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    server.stop()
    waiter.join(20)
    assert answers == [204]
