"""`durastream repair`: what it prints and asks, its exit status, and what it leaves."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner

from durastream.cli import main
from durastream.engine.findings import Finding
from durastream.engine.repair import Repair, RepairReport
from durastream.engine.repair_exchange import Exchange
from durastream.engine.repair_run import Outcome
from support.damage import flip, log_frames, picture
from support.repair import seen
from support.stores import contents, crash


@pytest.fixture
def data(used, folder):
    """A store of which a record of one stream is damaged."""
    for path in (folder / "wal").glob("0*.wal"):
        for frame in log_frames(path):
            if frame.records and frame.records[0].data == b"after;":
                flip(path, frame.position + 150)
    return folder


def repair(folder, *options, answer=None):
    return CliRunner().invoke(main, ["repair", str(folder), *options], input=answer)


def test_nothing_to_repair(used, folder):
    before = picture(folder)
    result = repair(folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Nothing to repair;")
    assert picture(folder) == before


def test_a_dry_run_says_what_would_be_done(data):
    before = picture(data)
    result = repair(data, "--dry-run")
    assert result.exit_code == 6
    assert "wal-record  wal/0" in result.stdout
    assert "  LOST      stream 2, /bad, offsets 45 to 51: log record " in result.stdout
    assert "Nothing was changed;" in result.stdout
    assert picture(data) == before


def test_a_repair_says_what_is_lost_and_where_all_is_kept(data, quick_opener, used):
    result = repair(data)
    assert result.exit_code == 6
    assert "  Rebuilt   rows, log\n" in result.stdout
    assert "stream 2, /bad, offsets 45 to 51" in result.stdout
    assert "something is LOST, see above;" in result.stdout
    (kept,) = data.glob("repair-*")
    assert f"report.json are in {kept.name}." in result.stdout
    report = json.loads((kept / "report.json").read_text())
    assert report["losses"][0]["path"] == "/bad"
    assert "FORMAT" in report["moved"]
    again = repair(data)
    assert again.exit_code == 0
    assert again.stdout.startswith("Nothing to repair, 1 stream under quarantine;")
    store = quick_opener()
    assert contents(store, "/json") == used["/json"][-2]


def test_nothing_lost_is_a_good_end(used, folder, quick_opener):
    (folder / "FORMAT").unlink()
    result = repair(folder)
    assert result.exit_code == 0
    assert "  Lost      nothing\n" in result.stdout
    assert "Rebuilt   rows, log, FORMAT\n" in result.stdout
    assert "Repaired, nothing is lost;" in result.stdout
    assert seen(quick_opener()) == used


def test_json_is_one_object(data):
    found = json.loads(repair(data, "--json", "--dry-run").stdout)
    assert (found["repaired"], found["lost"]) == (False, True)
    assert found["found"][0]["code"] == "wal-record"
    result = repair(data, "--json")
    assert result.exit_code == 6
    found = json.loads(result.stdout)
    assert (found["repaired"], found["left"], found["finished"]) == (True, [], [])
    loss = found["report"]["losses"][0]
    assert (loss["stream_id"], loss["start"], loss["end"]) == (2, 45, 51)
    assert json.loads(repair(data, "--json").stdout)["report"] is None


def test_what_was_cut_short_is_finished(data, monkeypatch, quick_opener):
    def cut_short(self, plan):
        raise OSError(5, "cut short")

    with monkeypatch.context() as patched:
        patched.setattr(Exchange, "finish", cut_short)
        assert repair(data).exit_code == 1
    with pytest.raises(Exception, match="run `durastream repair`"):
        quick_opener()
    result = repair(data, "--dry-run")
    assert result.exit_code == 1
    assert "a repair was cut short" in result.stderr
    result = repair(data)
    assert result.exit_code == 6  # it lost something
    assert result.stdout.startswith("Finished repair-")
    store = quick_opener()
    assert contents(store, "/good")


def test_a_plan_is_not_gone_on_with_where_format_was_put_back(data, monkeypatch, quick_opener):
    with monkeypatch.context() as patched:
        patched.setattr(Exchange, "finish", lambda self, plan: None)
        repair(data)
    (kept,) = data.glob("repair-*")
    (kept / "FORMAT").rename(data / "FORMAT")
    store = quick_opener()
    store.append("/good", b"since;")
    crash(store)
    with Repair(data) as found:
        assert found.interrupted == []
    assert repair(data).exit_code in (0, 6)
    store = quick_opener()
    assert contents(store, "/good").endswith(b"since;")


def test_a_store_in_use_has_its_own_status(used, folder, quick_opener):
    store = quick_opener()
    result = repair(folder)
    assert result.exit_code == 5
    assert "stop the server first" in result.stderr
    store.append("/good", b"still at work")


def test_what_is_no_store_is_refused(tmp_path):
    result = repair(tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not a data directory of durastream" in result.stderr
    assert repair(tmp_path / "none").exit_code == 2


@pytest.mark.parametrize("answer", ["n", "y"])
def test_it_asks_on_a_terminal(data, answer):
    before = picture(data)
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", "from durastream.cli import main; main()", "repair", str(data)]
    process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end)
    os.close(end)
    os.write(terminal, f"{answer}\n".encode())
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:
            break
    os.close(terminal)
    assert process.wait(60) == (1 if answer == "n" else 6)
    assert b"Repair it? [y/N]" in shown
    assert b"Verifying" in shown
    assert b"100%" in shown
    assert (picture(data) == before) == (answer == "n")


def test_what_could_not_be_mended_is_named(data, monkeypatch):
    left = [Finding("overlap", "damage", "stored twice", "segments", None, 1, "/good", "look")]
    outcome = Outcome(found=left, report=RepairReport(str(data), folder="f"), is_done=True)
    outcome.left = left
    module = sys.modules["durastream.cli.repair"]
    monkeypatch.setattr(module, "repair_directory", lambda *_, **__: outcome)
    result = repair(data)
    assert result.exit_code == 1
    assert "not mended  segments: stored twice (stream 1, /good)" in result.stdout
    assert "some damage could not be mended" in result.stderr
