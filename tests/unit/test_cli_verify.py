"""`durastream verify`: what it prints, its exit status, and that it changes nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from durastream.cli import main
from durastream.engine.options import MIB
from durastream.engine.verify import Verification
from support.damage import flip_at, log_file, picture, populate, segment_files
from support.server_process import ServerProcess
from support.stores import crash


@pytest.fixture
def data(settled, opener, tmp_path):
    store = opener()
    populate(store)
    store.flush()
    store.append("/bad", b"after;")
    store.append("/good", b"third;")
    crash(store)
    return tmp_path / "data"


def verify(folder, *options):
    before = picture(folder)
    result = CliRunner().invoke(main, ["verify", str(folder), *options])
    assert picture(folder) == before
    return result


def test_a_whole_store(data):
    result = verify(data)
    assert result.exit_code == 0
    assert "No damage found" in result.stdout
    assert "6 as of the checkpoint" in result.stdout
    assert "1 file, 2 records behind the checkpoint" in result.stdout
    assert result.stderr == ""


def test_damage_is_named_with_place_stream_and_advice(data):
    position = flip_at(log_file(data), b"after;")
    result = verify(data)
    assert result.exit_code == 6
    assert f"damage wal-record  wal/{log_file(data).name}, byte " in result.stdout
    assert "offsets 37 to 43 are lost\n  stream 2: /bad\n" in result.stdout
    assert "  do: the rest of the store is served" in result.stdout
    assert "DAMAGED: 1 finding;" in result.stdout
    shown = int(result.stdout.split(", byte ")[1].split()[0])
    assert 0 < position - shown < 200  # that of the record


def test_notices_alone_are_no_failure(data):
    (data / "notes.txt").write_text("?")
    result = verify(data)
    assert result.exit_code == 0
    assert "notice foreign-file  notes.txt" in result.stdout
    assert "No damage found, 1 notice;" in result.stdout


def test_many_findings_of_a_kind_are_shortened(opener, tmp_path):
    store = opener()
    for number in range(25):
        store.create(f"/{number}", initial_data=b"x")
    store.close()
    segment_files(tmp_path / "data")[0].unlink()
    result = verify(tmp_path / "data")
    assert result.exit_code == 6
    assert result.stdout.count("damage hole") == 20
    assert "and 5 more of hole: see --json" in result.stdout
    assert "DAMAGED: 26 findings;" in result.stdout
    assert len(json.loads(verify(tmp_path / "data", "--json").stdout)["findings"]) == 26


def test_json_is_one_object(data):
    whole = json.loads(verify(data, "--json").stdout)
    assert whole["damaged"] is False
    assert whole["findings"] == []
    assert whole["stream_count"] == 6
    flip_at(log_file(data), b"after;")
    result = verify(data, "--json")
    assert result.exit_code == 6
    (found,) = json.loads(result.stdout)["findings"]
    assert found["code"] == "wal-record"
    assert (found["severity"], found["stream_id"], found["path"]) == ("damage", 2, "/bad")
    assert found["file"] == f"wal/{log_file(data).name}"
    assert found["position"] > 0
    assert found["advice"]


def test_a_store_in_use_has_its_own_status(opener, data):
    store = opener()
    result = CliRunner().invoke(main, ["verify", str(data), "--offline"])
    assert result.exit_code == 5
    assert "already open in another process" in result.stderr
    assert "stop the server first" in result.stderr
    assert result.stdout == ""
    store.append("/good", b"still at work")
    result = CliRunner().invoke(main, ["verify", str(data)])
    assert result.exit_code == 5
    assert "open in this very process" in result.stderr


def test_a_server_may_have_it_open(data):
    with ServerProcess(data) as server:
        result = CliRunner().invoke(main, ["verify", str(data)])
        assert result.exit_code == 0
        assert ", in use\n" in result.stdout
        assert "Unchecked the newest frames of the log" in result.stdout
        assert "No damage found;" in result.stdout
        found = json.loads(CliRunner().invoke(main, ["verify", str(data), "--json"]).stdout)
        assert found["online"] is True
        assert len(found["unchecked"]) == 1
        assert CliRunner().invoke(main, ["verify", str(data), "--offline"]).exit_code == 5
        server.stop()
    assert json.loads(verify(data, "--json").stdout)["online"] is False


def test_a_rate_is_kept(data):
    size = segment_files(data)[0].stat().st_size
    started = time.monotonic()
    assert verify(data, "--rate", str(size / MIB / 0.5)).exit_code == 0
    assert time.monotonic() - started >= 0.4


def test_what_is_no_store_is_refused(tmp_path):
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not a data directory of durastream" in result.stderr
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "none")]).exit_code == 2
    assert CliRunner().invoke(main, ["verify"]).exit_code == 2


def test_a_progress_bar_on_a_terminal(data):
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", "from durastream.cli import main; main()", "verify", str(data)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, check=False, timeout=60)
    os.close(end)
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert result.returncode == 0
    assert "Verifying" in shown
    assert "100%" in shown
    assert b"Verifying" not in result.stdout


def test_ctrl_c_ends_it(data, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Verification, "run", interrupted)
    result = verify(data)
    assert result.exit_code == 130
    assert result.stderr == "durastream: interrupted\n"
