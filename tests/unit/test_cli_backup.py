"""`durastream backup` and `durastream restore`: what they print, and their exit statuses."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from durastream._native.disk import PosixDisk
from durastream.cli import main
from durastream.cli.progress import drive
from durastream.engine.backup_target import open_target
from durastream.engine.file_store import FileBackedStreamStore
from support.damage import flip, populate, segment_files
from support.stores import SMALL_LIMITS, SMALL_STORE


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "data"
    with FileBackedStreamStore(folder, limits=SMALL_LIMITS, options=SMALL_STORE) as store:
        populate(store)
    return folder


@pytest.fixture(scope="module")
def target(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("target") / "backups"
    assert run("backup", data, folder).exit_code == 0
    return folder


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_backup_and_the_next(data, tmp_path):
    first = run("backup", data, tmp_path / "b")
    assert first.exit_code == 0
    assert "6 streams as of LSN 13, and the log up to LSN 13" in first.stdout
    assert "Segments  1 copied\n" in first.stdout
    assert "Backed up;" in first.stdout
    assert first.stderr == ""
    second = json.loads(run("backup", data, tmp_path / "b", "--keep", "1", "--json").stdout)
    assert (second["kept_segment_count"], second["copied_segment_count"]) == (1, 0)
    assert second["pruned"] == [first.stdout.split("Point     ")[1].split()[0]]
    assert second["point"]["stream_count"] == 6
    assert {file["name"].split("/")[0] for file in second["point"]["files"]} == {
        "rows",
        "segments",
        "wal",
    }


def test_restore_says_what_it_made(target, tmp_path):
    result = run("restore", target, tmp_path / "restored")
    assert result.exit_code == 0
    assert "what was acknowledged after that point is not in it" in result.stdout
    assert f"Next: durastream serve --data-dir {tmp_path / 'restored'}" in result.stdout
    assert run("verify", tmp_path / "restored").exit_code == 0
    again = run("restore", target, tmp_path / "restored")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "holds a store; choose an empty or new directory\n" in again.stderr


def test_restore_as_json(target, tmp_path):
    found = json.loads(run("restore", target, tmp_path / "restored", "--json").stdout)
    assert found["file_count"] == 3
    assert found["last_lsn"] == 13


def test_list_and_verify(target):
    listed = run("backup", "--list", target)
    assert listed.exit_code == 0
    assert "LSN 13  6 streams" in listed.stdout
    assert "1 restore point.\n" in listed.stdout
    verified = run("backup", "--verify", target)
    assert verified.exit_code == 0
    assert "No damage found;" in verified.stdout
    found = json.loads(run("backup", "--verify", target, "--json").stdout)
    assert (found["damaged"], found["file_count"], found["findings"]) == (False, 3, [])


def test_damage_in_a_backup_has_its_status(data, tmp_path):
    run("backup", data, tmp_path / "b")
    flip(segment_files(tmp_path / "b")[0], 9000)
    result = run("backup", "--verify", tmp_path / "b")
    assert result.exit_code == 6
    assert "its bytes are not those that were stored\n  needed by 20" in result.stdout
    assert "DAMAGED: 1 finding;" in result.stdout
    refused = run("restore", tmp_path / "b", tmp_path / "restored")
    assert refused.exit_code == 6
    assert "which restore points need it" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["backup", "{data}"], 2, "DIR and TARGET are wanted"),
        (["backup", "--verify", "{data}", "{tmp}"], 2, "TARGET alone is wanted"),
        (["backup", "{data}", "{data}/b"], 1, "lies in the data directory"),
        (["backup", "{tmp}/none", "{tmp}/b"], 1, "no FORMAT file"),
        (["backup", "--verify", "{data}"], 1, "no backups are here"),
        (["backup", "{data}", "{tmp}", "--keep", "0"], 2, "--keep"),
        (["restore", "{tmp}/none", "{tmp}/r"], 2, "does not exist"),
    ],
)
def test_what_cannot_be_done(data, tmp_path, arguments, status, message):
    result = run(*(a.format(data=data, tmp=tmp_path) for a in arguments))
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_target_in_use_has_its_status(data, target):
    with open_target(PosixDisk(), target):
        result = run("backup", data, target)
    assert result.exit_code == 5
    assert "another backup or restore is at work here" in result.stderr


def test_a_terminal_sees_progress(target, tmp_path):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "durastream", "restore", str(target), str(tmp_path / "r")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, check=False)
    os.close(follower)
    seen = os.read(leader, 100_000).decode()
    os.close(leader)
    assert done.returncode == 0
    assert "Restoring" in seen
    assert "100%" in seen


def test_a_rate_is_kept():
    class TwoMiB:
        total_size = 2 << 20

        def run(self):
            yield 1 << 20
            yield 1 << 20

    started = time.monotonic()
    drive(TwoMiB(), None, rate=10)
    assert time.monotonic() - started >= 0.2
