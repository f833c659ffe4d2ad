"""`durastream inspect` of a segment, a frame and a producer: for people and as JSON."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from durastream.cli import main
from support.damage import (
    extent_fields,
    flip,
    flip_at,
    log_file,
    log_frames,
    picture,
    populate,
    segment_files,
)
from support.server_process import ServerProcess
from support.stores import crash


@pytest.fixture
def data(opener, tmp_path):
    store = opener()
    populate(store)
    store.flush()
    produce = {"producer_id": "writer", "producer_epoch": 2}
    store.append("/good", b"third;", **produce, producer_seq=0)
    store.append("/good", b"fourth;", **produce, producer_seq=1)
    store.append("/json", b'{"after":true}')
    crash(store)
    return tmp_path / "data"


def inspect(folder, *options, status=0):
    before = picture(folder)
    result = CliRunner().invoke(main, ["inspect", str(folder), *map(str, options)])
    assert picture(folder) == before
    assert result.exit_code == status, result.output
    return result.stderr if status else result.stdout


def as_json(folder, *options):
    return json.loads(inspect(folder, *options, "--json"))


def frame_of(folder, lsn):
    return next(f for f in log_frames(log_file(folder)) if f.records and f.header.first_lsn == lsn)


# -- segments ------------------------------------------------------------------------------


def test_a_segment_shows_its_extents_and_rows(data):
    found = as_json(data, "--segment", 1)
    assert (found["listed"], found["problem"], found["level"]) == (True, None, 0)
    extents = {extent["stream_id"]: extent for extent in found["extents"]}
    assert extents[2]["path"] == "/bad"
    assert (extents[2]["base"], extents[2]["end"], extents[2]["messages"]) == (0, 37, 2)
    assert extents[1]["producers"] == 1
    assert extents[7]["removed"]  # /gone
    text = inspect(data, "--segment", 1)
    assert "Segment     1, 00000000000000000001.seg" in text
    line = f"2 0-37 2 {extents[2]['row_lsn']} /bad"
    assert line in [" ".join(line.split()) for line in text.splitlines()]


def test_a_damaged_segment_is_shown_as_such(data):
    segment = segment_files(data)[0]
    flip(segment, extent_fields(segment, 1)["row"] + 3)
    found = as_json(data, "--segment", 1)
    assert "row: checksum mismatch, at byte" in found["extents"][1]["problem"]
    flip(segment, 20)
    assert "header: checksum mismatch" in as_json(data, "--segment", 1)["problem"]
    assert "Damaged     header: checksum mismatch" in inspect(data, "--segment", 1)
    assert "no file of segment 9" in inspect(data, "--segment", 9, status=1)


# -- frames --------------------------------------------------------------------------------


def test_a_record_is_found_by_its_lsn_and_by_its_place(data):
    last = log_frames(log_file(data))[-1].header.first_lsn - 1
    found = as_json(data, "--lsn", last)
    assert found["problem"] is None
    (record,) = found["records"]
    assert (record["lsn"], record["kind"], record["path"]) == (last, "append", "/json")
    assert (record["header"], record["body"], record["messages"]) == ("good", "good", 1)
    assert record["meta"]["close"] is False
    place = f"{found['file']}:{found['position']}"
    assert as_json(data, "--frame", place)["records"] == found["records"]
    assert as_json(data, "--frame", f"wal/{place}")["position"] == found["position"]
    text = inspect(data, "--lsn", last)
    assert f"1 record, LSN {last}, " in text
    assert f"LSN {last - 1} and all before it were durable" in text
    assert "Metadata" in text


def test_a_damaged_record_is_told_from_whole_ones(data):
    lsn = flip_lsn = next(
        f.header.first_lsn for f in log_frames(log_file(data)) if b"fourth;" in _data(f)
    )
    flip_at(log_file(data), b"fourth;")
    (record,) = as_json(data, "--lsn", lsn)["records"]
    assert (record["header"], record["body"], record["meta"]) == (
        "good", "checksum mismatch", None,
    )  # fmt: skip
    assert "body: checksum mismatch" in inspect(data, "--lsn", flip_lsn)


def _data(frame):
    return b"".join(record.data for record in frame.records)


def test_a_damaged_frame_is_shown_by_its_place(data):
    frame = log_frames(log_file(data))[-3]
    flip(log_file(data), frame.position + 20)
    place = f"{log_file(data).name}:{frame.position}"
    found = as_json(data, "--frame", place)
    assert found["problem"] == "header checksum mismatch"
    assert found["records"] == []
    assert "Problem     header checksum mismatch" in inspect(data, "--frame", place)


def test_what_is_not_there_says_what_is(data):
    assert "LSN 3 is not in the log" not in inspect(data, "--lsn", 3)  # the file is still used
    assert "is in no file of the log" in inspect(data, "--lsn", 999, status=1)
    name = log_file(data).name
    assert "multiples of 4096" in inspect(data, "--frame", f"{name}:5", status=1)
    assert "no file of the log is named" in inspect(data, "--frame", "x.wal:4096", status=1)
    assert "FILE:BYTE" in inspect(data, "--frame", name, status=2)
    assert "one of PATH" in inspect(data, "/good", "--lsn", 1, status=2)
    assert "needs the PATH" in inspect(data, "--producer", "writer", status=2)
    for file in (data / "wal").glob("0*.wal"):
        file.unlink()
    assert "segment 1 holds what it changed" in inspect(data, "--lsn", 3, status=1)


# -- producers -----------------------------------------------------------------------------


def test_why_a_producer_is_fenced(data):
    found = as_json(data, "/good", "--producer", "writer")
    assert (found["epoch"], found["last_seq"]) == (2, 1)
    assert found["next"] == [[2, 2], [3, 0]]
    assert [(e["epoch"], e["seq"]) for e in found["history"]] == [(1, 1), (2, 0), (2, 1)]
    assert found["history"][0]["segment"] == 1
    assert found["epoch_from"] == found["history"][1]
    text = inspect(data, "/good", "--producer", "writer")
    assert "epoch 2, seq 2; or a higher epoch, seq 0" in text
    assert f"epochs below 2, since epoch 2 came with LSN {found['epoch_from']['lsn']} (" in text


def test_a_producer_that_nobody_knows(data):
    assert as_json(data, "/good", "--producer", "?")["next"] == [[0, 0]]
    assert "never seen here" in inspect(data, "/good", "--producer", "?")
    assert "no stream /none" in inspect(data, "/none", "--producer", "?", status=1)


# -- in use --------------------------------------------------------------------------------


def test_a_server_may_have_it_open(data):
    with ServerProcess(data):
        for options in ([], ["/good"], ["--segment", "1"], ["/good", "--producer", "writer"]):
            result = CliRunner().invoke(main, ["inspect", str(data), *options])
            assert result.exit_code == 0, result.output
        whole = json.loads(CliRunner().invoke(main, ["inspect", str(data), "--json"]).stdout)
        assert whole["online"] is True
        stream = CliRunner().invoke(main, ["inspect", str(data), "/good", "--json"]).stdout
        assert json.loads(stream)["state"]["tail"] == 26
