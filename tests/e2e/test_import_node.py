"""Streams of the real Node server, from its data directory and from its URL."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from durastream.cli import main
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.transfer_format import read_list
from support.backups import verified
from support.node import TESTS, require_node

SCRIPT = TESTS / "support" / "node_server.mjs"
TEXT, JSON = {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}
ROOT = "/v1/stream"


def producer(seq: int, epoch: int = 3) -> dict[str, str]:
    return {"Producer-Id": "p", "Producer-Epoch": str(epoch), "Producer-Seq": str(seq)}


REQUESTS = [
    ["PUT", f"{ROOT}/text", TEXT, "hello"],
    ["POST", f"{ROOT}/text", {**TEXT, "Stream-Seq": "s-9"}, " wörld\n"],
    ["PUT", f"{ROOT}/json", {**JSON, "Stream-TTL": "86400"}, None],
    ["POST", f"{ROOT}/json", {**JSON, **producer(0)}, '[{"a":1},2,"x,]"]'],
    ["POST", f"{ROOT}/json", {**JSON, **producer(1)}, '{"b":[3]}'],
    ["PUT", f"{ROOT}/fork", {"Stream-Forked-From": f"{ROOT}/json"}, None],
    ["POST", f"{ROOT}/json", {**JSON, **producer(2)}, '"only in the source"'],
    ["POST", f"{ROOT}/fork", JSON, '{"own":1}'],
    ["PUT", f"{ROOT}/fork-of-fork", {"Stream-Forked-From": f"{ROOT}/fork"}, None],
    ["POST", f"{ROOT}/fork-of-fork", JSON, '"deep"'],
    ["PUT", f"{ROOT}/closed", TEXT, "all"],
    ["POST", f"{ROOT}/closed", {**producer(0), "Stream-Closed": "true"}, None],
    ["PUT", f"{ROOT}/gone", TEXT, "deleted"],
    ["PUT", f"{ROOT}/gone-fork", {"Stream-Forked-From": f"{ROOT}/gone"}, None],
    ["DELETE", f"{ROOT}/gone", {}, None],
]
NAMES = ["text", "json", "fork", "fork-of-fork", "closed", "gone-fork"]
PATHS = [f"{ROOT}/{name}" for name in NAMES]


def node(folder: Path, requests: list, paths: list[str]) -> dict[str, list]:
    """Run the server on ``folder``; what it serves at the paths."""
    file = folder.with_suffix(".requests")
    file.write_text(json.dumps(requests))
    command = [require_node(), SCRIPT, folder, file, *paths]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["served"]


def durastream(*arguments: object):
    environment = {"PATH": f"{require_node().parent}:{os.environ['PATH']}"}
    return CliRunner().invoke(main, [str(a) for a in arguments], env=environment)


def import_node(source: Path, target: Path):
    return durastream("import", source, target, "--node-modules", TESTS)


def served_here(store: FileBackedStreamStore, path: str) -> list:
    stream = store.get(path)
    assert stream is not None
    messages = store.read(path).messages
    return [200, stream.content_type, store.format_response(path, messages).decode()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node") / "data"
    return folder, node(folder, REQUESTS, PATHS)


def test_a_directory_of_the_node_server(made, tmp_path):
    folder, served = made
    result = import_node(folder, tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert "6 streams imported" in result.stdout
    verified(tmp_path / "new")
    with FileBackedStreamStore(tmp_path / "new") as store:
        assert store.list() == sorted(PATHS)
        for path in PATHS:
            assert served_here(store, path) == served[path]
        text, lasting = store.get(f"{ROOT}/text"), store.get(f"{ROOT}/json")
        assert (text.last_seq, lasting.ttl_seconds) == ("s-9", 86400)
        closed = store.get(f"{ROOT}/closed")
        assert (closed.closed, closed.closed_by.epoch) == (True, 3)
        for seq, status in ((2, "duplicate"), (4, "sequence_gap"), (3, "accepted")):
            tuples = {"producer_id": "p", "producer_epoch": 3, "producer_seq": seq}
            assert store.append(f"{ROOT}/json", b"4", **tuples).producer.status == status
    again = json.loads(import_node_json(folder, tmp_path / "new").stdout)
    assert len(again["present"]) == 5
    assert [note["path"] for note in again["refused"]] == [f"{ROOT}/json"]  # it went on


def import_node_json(source: Path, target: Path):
    return durastream("import", source, target, "--node-modules", TESTS, "--json")


def test_what_stands_behind_a_torn_frame_is_left_out_and_said(tmp_path):
    folder, path = tmp_path / "data", f"{ROOT}/torn"
    node(folder, [["PUT", path, TEXT, "whole;"]], [])
    (file,) = (folder / "streams").glob("*.log")
    file.write_bytes(file.read_bytes() + (1000).to_bytes(4, "big") + b"began")
    served = node(folder, [], [path])
    result = import_node(folder, tmp_path / "new")
    assert result.exit_code == 0
    assert f"note  {path}\n  9 bytes behind its last whole frame were left out" in result.stdout
    with FileBackedStreamStore(tmp_path / "new") as store:
        assert served_here(store, path) == served[path]
        assert bytes(store.read(path)) == b"whole;"


def test_a_missing_file_costs_its_stream(tmp_path):
    folder = tmp_path / "data"
    node(folder, REQUESTS[:2] + REQUESTS[10:11], [])
    files = sorted((folder / "streams").glob("*.log"), key=lambda f: f.stat().st_size)
    files[0].unlink()
    result = import_node(folder, tmp_path / "new")
    assert result.exit_code == 6
    assert f"damaged  {ROOT}/closed\n" in result.stdout
    with FileBackedStreamStore(tmp_path / "new") as store:
        assert store.list() == [f"{ROOT}/text"]


def test_a_node_without_that_server(made, tmp_path):
    result = durastream("import", made[0], tmp_path / "new", "--node-modules", tmp_path)
    assert result.exit_code == 1
    assert "@durable-streams/server is not installed there" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_running_node_server_is_exported_by_its_url(made, tmp_path):
    folder, served = made
    file = tmp_path / "none"
    file.write_text("[]")
    process = subprocess.Popen(
        [str(require_node()), str(SCRIPT), str(folder), str(file)],
        env={**os.environ, "STAY": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        base = json.loads(process.stdout.readline())["base"]
        result = durastream("export", f"{base}{ROOT}", *NAMES, tmp_path / "files")
    finally:
        process.communicate(timeout=20)
    assert result.exit_code == 0, result.output
    assert [stream.line.path for stream in read_list(tmp_path / "files")] == PATHS
    assert durastream("import", tmp_path / "files", tmp_path / "new").exit_code == 0
    with FileBackedStreamStore(tmp_path / "new") as store:
        for path in PATHS:
            assert served_here(store, path) == served[path]
        assert store.get(f"{ROOT}/closed").closed
