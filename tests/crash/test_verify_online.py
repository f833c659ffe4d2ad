"""Verify beside a store that is never at rest: no race is damage, and damage is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import pytest

from durastream.engine import verify_online
from durastream.engine.errors import DirectoryInUse
from durastream.engine.options import MIB
from durastream.engine.verify import Report, Verification
from support.busy_store import LOG_MARK, ROW_MARK, SEGMENT_MARK, busy_store

SECONDS = float(os.environ.get("DURASTREAM_ONLINE_SECONDS", "5"))


def verify(folder: Path) -> Report:
    verification = Verification(folder, in_use=True)
    for _ in verification.run():
        pass
    assert verification.report.online
    return verification.report


def flip_all(path: Path, needle: bytes) -> None:
    """Flip a bit wherever the needle stands, in place: others have the file mapped."""
    with path.open("r+b") as file:
        raw, at = file.read(), -1
        while (at := raw.find(needle, at + 1)) >= 0:
            file.seek(at)
            file.write(bytes([raw[at] ^ 0x40]))


def only_damage(report: Report) -> set[tuple[str, str | None]]:
    return {(found.code, found.path) for found in report.findings if found.severity == "damage"}


def test_a_store_at_work_has_no_findings(tmp_path):
    end, looks, seen = time.monotonic() + SECONDS, 0, set()
    with busy_store(tmp_path / "data"):
        while time.monotonic() < end:
            report = verify(tmp_path / "data")
            assert [str(found) for found in report.findings] == []
            assert len(report.unchecked) == 1  # the log's very end
            seen.add(report.last_lsn)
            looks += 1
        with pytest.raises(DirectoryInUse):
            list(Verification(tmp_path / "data").run())
    assert len(seen) >= 3  # it was at work indeed
    stopped = Verification(tmp_path / "data", in_use=True)
    list(stopped.run())
    assert not stopped.report.online
    assert not stopped.report.is_damaged


def test_a_log_that_grows_without_flushes_has_no_findings(tmp_path):
    with busy_store(tmp_path / "data", "--no-flush"):
        for _ in range(5):
            assert [str(found) for found in verify(tmp_path / "data").findings] == []


def test_a_flip_in_a_segment_is_found(tmp_path):
    with busy_store(tmp_path / "data", "--no-merge"):
        for segment in (tmp_path / "data" / "segments").glob("*.seg"):
            flip_all(segment, SEGMENT_MARK)
        assert only_damage(verify(tmp_path / "data")) == {("segment-damage", "/old")}


def test_a_flip_in_a_row_is_found(tmp_path):
    with busy_store(tmp_path / "data"):
        value = bytes([0xD9, len(ROW_MARK)]) + ROW_MARK.encode()  # a string of MessagePack
        flip_all(tmp_path / "data" / "meta.lmdb" / "data.mdb", value)
        found = {code for code, _ in only_damage(verify(tmp_path / "data"))}
        assert "row-damage" in found


def test_a_damaged_page_is_found_without_dying(tmp_path):
    with busy_store(tmp_path / "data", "--no-flush"):
        rows = tmp_path / "data" / "meta.lmdb" / "data.mdb"
        flip_all(rows, rows.read_bytes()[16384:16392])  # a page's number
        assert only_damage(verify(tmp_path / "data")) == {("rows-unreadable", None)}


def test_a_flip_in_a_frame_behind_the_checkpoint_is_found(tmp_path):
    with busy_store(tmp_path / "data", "--no-flush"):
        for file in (tmp_path / "data" / "wal").glob("0*.wal"):
            flip_all(file, LOG_MARK)
        assert only_damage(verify(tmp_path / "data")) == {("wal-record", "/new")}


def test_what_one_look_finds_and_the_next_does_not_is_a_race(tmp_path, monkeypatch):
    """As a frame that was read before it was written: here it is whole again a moment later."""
    with busy_store(tmp_path / "data", "--no-flush"):
        (file,) = [
            file for file in (tmp_path / "data" / "wal").glob("0*.wal")
            if LOG_MARK in file.read_bytes()
        ]  # fmt: skip
        flip_all(file, LOG_MARK)
        damaged = bytes([LOG_MARK[0] ^ 0x40]) + LOG_MARK[1:]
        pauses = []

        def sleep(seconds):
            if not pauses:
                flip_all(file, damaged)
            pauses.append(seconds)

        monkeypatch.setattr(verify_online.time, "sleep", sleep)
        assert verify(tmp_path / "data").findings == []
        assert pauses


def test_a_segment_that_is_gone_is_found(tmp_path):
    with busy_store(tmp_path / "data", "--no-merge"):
        (tmp_path / "data" / "segments" / f"{1:020d}.seg").unlink()
        report = verify(tmp_path / "data")
        assert "segment-missing" in {code for code, _ in only_damage(report)}


def test_a_tool_that_was_killed_does_not_keep_old_rows_in_use(tmp_path):
    rows = tmp_path / "data" / "meta.lmdb"
    look = (
        "import sys; from pathlib import Path; from durastream.engine.snapshot import Snapshot;"
        "s = Snapshot(Path(sys.argv[1]), map_size=256 << 20); print('pinned', flush=True);"
        "sys.stdin.read()"
    )
    with busy_store(tmp_path / "data"):
        tool = subprocess.Popen(
            [sys.executable, "-c", look, str(rows)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert tool.stdout is not None
        assert tool.stdout.readline() == b"pinned\n"
        assert str(tool.pid) in readers(rows)
        tool.send_signal(signal.SIGKILL)
        tool.communicate()
        until = time.monotonic() + 10
        while str(tool.pid) in readers(rows):
            assert time.monotonic() < until
            time.sleep(0.02)


def readers(rows: Path) -> str:
    with lmdb.open(str(rows), map_size=256 * MIB, readonly=True, create=False) as env:
        return env.readers()
