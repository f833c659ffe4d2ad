"""A real server killed with SIGKILL while real clients write and read (I1, I3, I4, I5)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http_client import HttpClient
from support.ledger import Follower, PlainWriter, ProducerWriter, numbers_of
from support.server_process import ServerProcess

TEXT = {"Content-Type": "text/plain"}
STREAMS = ["crash/a", "crash/b", "crash/c"]
KILLS = 4


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


def test_every_acknowledged_append_is_there_once_after_sigkill(server):
    with HttpClient(server.port) as client:
        create_all(client)
    producers = [ProducerWriter(server.port, s, f"producer-{s}-{n}") for s in STREAMS for n in "12"]
    plain = [PlainWriter(server.port, s, f"plain-{s}") for s in STREAMS]
    followers = [Follower(server.port, s) for s in STREAMS]
    workers = [*producers, *plain, *followers]
    for worker in workers:
        worker.start()
    pause = random.Random(1)
    for _ in range(KILLS):
        time.sleep(pause.uniform(0.2, 0.8))
        restart(server, crash=True)
    time.sleep(0.3)
    for worker in workers:
        worker.finish()

    with HttpClient(server.port) as client:
        contents = {stream: client.read_all(stream) for stream in STREAMS}
    for producer in producers:
        stored = numbers_of(contents[producer.stream], producer.producer_id)
        assert stored == list(range(producer.acknowledged))
    for writer in plain:
        stored = numbers_of(contents[writer.stream], writer.writer_name)
        assert stored == sorted(set(stored))
        assert set(range(writer.count)) - writer.in_doubt <= set(stored)
    for follower in followers:
        assert contents[follower.stream].startswith(follower.received)
        assert follower.received
    # The kills met requests under way: otherwise this test would have shown nothing.
    assert sum(producer.resent for producer in producers) >= KILLS


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
