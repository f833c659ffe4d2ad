"""`durastream backup` beside a real server under load: held against what its writers know."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from support.http_client import HttpClient
from support.server_process import ServerProcess
from support.writers import Writer, numbers_of

TEXT = {"Content-Type": "text/plain"}
STREAMS = ["backup/a", "backup/b", "backup/c"]


def durastream(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "durastream", *map(str, arguments)]


def back_up(data: Path, target: Path) -> dict[str, object]:
    done = durastream("backup", data, target, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_was_acknowledged_before_a_backup_began_is_in_it(tmp_path):
    data, target = tmp_path / "data", tmp_path / "backups"
    with ServerProcess(data) as server:
        with HttpClient(server.port) as client:
            for stream in STREAMS:
                assert client.request("PUT", stream, headers=TEXT).status == 201
        writers = [
            Writer(server.port, stream, f"{kind}-{stream}", is_producer=kind != "plain")
            for stream in STREAMS
            for kind in ("producer-1", "producer-2", "plain")
        ]
        for writer in writers:
            writer.start()
        known = {}
        for _ in range(3):
            time.sleep(0.3)
            before = [writer.acknowledged for writer in writers]
            known[back_up(data, target)["point"]["id"]] = before
        for writer in writers:
            writer.finish()
    assert durastream("backup", "--verify", target).returncode == 0
    for point, before in known.items():
        restored = tmp_path / point
        assert durastream("restore", target, restored, "--point", point).returncode == 0
        assert durastream("verify", restored).returncode == 0
        with ServerProcess(restored) as server, HttpClient(server.port) as client:
            contents = {stream: client.read_all(stream) for stream in STREAMS}
            for acknowledged, writer in zip(before, writers, strict=True):
                stored = numbers_of(contents[writer.stream], writer.name)
                assert stored == list(range(len(stored)))
                assert len(stored) >= acknowledged > 0
                if not writer.name.startswith("plain"):
                    goes_on(client, writer, len(stored))


def goes_on(client: HttpClient, writer: Writer, seq: int) -> None:
    """The producer's state is that of its data."""
    tuples = {**TEXT, "Producer-Id": writer.name, "Producer-Epoch": "0"}
    again = client.request("POST", writer.stream, b"?", {**tuples, "Producer-Seq": str(seq - 1)})
    assert (again.status, again.headers["Producer-Seq"]) == (204, str(seq - 1))
    gap = client.request("POST", writer.stream, b"?", {**tuples, "Producer-Seq": str(seq + 1)})
    assert (gap.status, gap.headers["Producer-Expected-Seq"]) == (409, str(seq))


def test_a_backup_that_is_killed_goes_on(tmp_path):
    data, target = tmp_path / "data", tmp_path / "backups"
    chance = random.Random(1)
    with ServerProcess(data) as server, HttpClient(server.port) as client:
        assert client.request("PUT", "killed", headers=TEXT).status == 201
        content = b""
        killed = 0
        for number in range(8):
            batch = chance.randbytes(500_000)
            assert client.request("POST", "killed", batch, TEXT).status == 204
            content += batch
            process = subprocess.Popen(command("backup", data, target), stdout=subprocess.DEVNULL)
            try:
                process.wait(0.1 + 0.15 * number)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
        assert killed > 0
        back_up(data, target)
    assert durastream("backup", "--verify", target).returncode == 0
    assert durastream("restore", target, tmp_path / "restored").returncode == 0
    with ServerProcess(tmp_path / "restored") as server, HttpClient(server.port) as client:
        assert client.read_all("killed") == content
