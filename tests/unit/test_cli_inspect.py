"""`durastream inspect`: the store as a whole and one stream, for people and as JSON."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from durastream.cli import main
from durastream.protocol.offset import format_offset
from support.damage import flip, flip_at, log_file, picture, populate, segment_files
from support.stores import contents, crash


@pytest.fixture
def data(settled, opener, tmp_path):
    """Flushed, then used: an append by a producer, a fork, a stream made anew, a deletion."""
    store = opener()
    populate(store)
    store.flush()
    store.append("/good", b"third;", producer_id="writer", producer_epoch=2, producer_seq=0)
    store.append("/bad", b"after;")
    store.create("/gone", initial_data=b"anew")
    store.delete("/until")
    crash(store)
    return tmp_path / "data"


def inspect(folder, *arguments):
    before = picture(folder)
    result = CliRunner().invoke(main, ["inspect", str(folder), *arguments])
    assert picture(folder) == before
    return result


def inspected(folder, *arguments):
    result = inspect(folder, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_store(data):
    found = inspected(data)
    assert len(found["store_id"]) == 32
    assert found["format"] == 1
    assert found["trouble"] is None
    assert found["rows"] == {
        "streams": 6, "paths": 6, "producers": 1, "deadlines": 2, "segments": 1,
    }  # fmt: skip
    checkpoint, log = found["checkpoint"], found["log"]
    assert not checkpoint["clean"]
    assert log["records"] == 4
    assert log["records_by_kind"] == {"append": 2, "create": 1, "delete": 1}
    assert log["last_lsn"] == checkpoint["lsn"] + 4
    assert [file["file"] for file in log["files"]] == [log_file(data).name]
    assert log["files"][0]["used"] > checkpoint["position"]
    (segment,) = found["segments"]
    assert segment["size"] == segment_files(data)[0].stat().st_size
    assert segment["extents"] >= 6
    assert segment["problem"] is None


def test_the_store_for_people(data):
    text = inspect(data).stdout
    assert "4 records (2 append, 1 create, 1 delete)" in text
    assert log_file(data).name in text
    assert "6 streams, 6 paths, 1 producer, 2 deadlines, 1 segment" in text
    assert "in use, or ended by a crash" in text


def test_a_stream_from_row_log_and_segments(data):
    found = inspected(data, "/good")
    assert found["path"] == "/good"
    assert found["row"]["tail"] == 13
    assert found["state"]["tail"] == 19
    assert found["row_lsn"] < found["log"]["last"][0]["lsn"]
    assert [(part["base"], part["end"]) for part in found["extents"]] == [(0, 13)]
    (record,) = found["log"]["last"]
    assert (record["kind"], record["base"], record["data_size"]) == ("append", 13, 6)
    assert record["meta"]["producer_epoch"] == 2
    raw = log_file(data).read_bytes()
    assert int.from_bytes(raw[record["position"] + 8 :][:8], "little") == record["lsn"]
    assert found["producers"] == [
        {
            "producer_id": "writer",
            "epoch": 2,
            "last_seq": 0,
            "last_updated": found["state"]["last_accessed_at"],
            "from": "log",
        }
    ]


def test_why_a_producer_is_fenced(data):
    text = inspect(data, "/good").stdout
    assert "writer: epoch 2, last seq 0" in text
    assert "next is seq 1, epochs below 2 are fenced" in text


def test_streams_of_every_kind(data):
    assert inspected(data, "/gone")["row"] is None
    assert "none yet: only the log has it" in inspect(data, "/gone").stdout
    assert "Fork of     /bad (stream 2) at offset 37" in inspect(data, "/fork").stdout
    assert "1; deleted, kept for them" in inspect(data, "/fork").stdout
    assert "application/json" in inspect(data, "/json").stdout
    removed = inspected(data, "4")
    assert removed["removed"]
    assert removed["path"] == "/until"
    assert "removed by the log" in inspect(data, "/until").stdout


def test_what_is_not_there_is_said(data):
    for name in ("/nothing", "99"):
        result = inspect(data, name)
        assert result.exit_code == 1
        assert f"no stream {name}" in result.stderr


def test_it_agrees_with_the_store(opener, data):
    before = {path: inspected(data, path) for path in ("/good", "/bad", "/json", "/gone")}
    store = opener()
    for path, found in before.items():
        result = store.read(path)
        assert result.up_to_date
        assert result.next_offset == format_offset(found["state"]["tail"])
        assert len(contents(store, path)) > 1


def test_a_quarantine_and_damaged_records_are_shown(opener, data):
    flip_at(log_file(data), b"after;")
    found = inspected(data, "/bad")
    assert found["quarantine"]["position"] == 37
    assert [record["damaged"] for record in found["log"]["last"]] == [True]
    assert "readable up to offset 37, damaged at log record" in inspect(data, "/bad").stdout
    opener().close()
    assert inspected(data, "/bad")["quarantine"]["position"] == 37


def test_damage_elsewhere_is_shown_and_no_obstacle(data):
    flip(segment_files(data)[0], 8)
    result = inspect(data)
    assert result.exit_code == 0
    assert "header" in result.stdout
    assert inspected(data, "/good")["extents"][0]["problem"]
    flip(log_file(data), 50)
    assert "header checksum mismatch" in inspect(data).stdout


def test_without_rows_the_store_is_shown_and_streams_are_not(data):
    (data / "meta.lmdb" / "data.mdb").unlink()
    assert inspected(data)["trouble"]["what"] == "LMDB's file is missing"
    assert "LMDB's file is missing" in inspect(data).stdout
    result = inspect(data, "/good")
    assert result.exit_code == 6
    assert "LMDB's file is missing" in result.stderr


def test_a_store_in_use_has_its_own_status(opener, data):
    opener()
    result = CliRunner().invoke(main, ["inspect", str(data)])
    assert result.exit_code == 5
    assert "stop the server first" in result.stderr


def test_many_producers_are_shortened(opener, tmp_path):
    store = opener()
    store.create("/many")
    for number in range(25):
        store.append("/many", b"x", producer_id=f"p{number:02}", producer_epoch=0, producer_seq=0)
    store.close()
    text = inspect(tmp_path / "data", "/many").stdout
    assert text.count("fenced") == 20
    assert "and 5 more: see --json" in text
    assert len(inspected(tmp_path / "data", "/many")["producers"]) == 25
