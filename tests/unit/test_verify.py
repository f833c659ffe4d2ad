"""`verify` finds each class of damage, names it, finds nothing in whole stores, changes nothing."""

from __future__ import annotations

import shutil

import lmdb
import pytest

from durastream.engine.errors import DirectoryInUse, UnknownFormat
from durastream.engine.metadata import PathRow, id_key, name_key
from durastream.engine.records import encode
from durastream.engine.verify import Verification
from support.damage import (
    change_state,
    extent_fields,
    flip,
    flip_at,
    log_file,
    log_frames,
    lose_row,
    picture,
    populate,
    rows_of,
    segment_files,
    write_row,
)
from support.stores import crash

BAD, GOOD = 2, 1  # stream ids


@pytest.fixture
def data(settled, opener, tmp_path):
    """The folder of a store that was flushed, used again and killed."""
    store = opener()
    populate(store)
    store.flush()
    store.create("/gone", initial_data=b"anew")
    store.append("/bad", b"after;")
    store.append("/good", b"third;")
    store.close_stream("/bad")
    store.append("/good", b"fourth;")
    crash(store)
    return tmp_path / "data"


@pytest.fixture
def unflushed(settled, opener, tmp_path):
    store = opener()
    populate(store)
    store.append("/good", b"third;")
    crash(store)
    return tmp_path / "data"


def verify(folder):
    """The findings; nothing in the folder may have changed."""
    before = picture(folder)
    verification = Verification(folder)
    assert sum(verification.run()) <= verification.total_size
    assert picture(folder) == before
    return verification.report.findings


def only(folder, code, *, stream_id=None, severity="damage"):
    """The one finding there is."""
    found = verify(folder)
    assert [finding.code for finding in found] == [code], [str(finding) for finding in found]
    assert found[0].severity == severity
    assert found[0].stream_id == stream_id
    assert found[0].advice
    return found[0]


def codes(folder):
    return {finding.code for finding in verify(folder)}


# -- whole stores --------------------------------------------------------------------------


def test_a_whole_store_has_no_findings(opener, tmp_path, leave):
    folder = tmp_path / "data"
    store = opener()
    leave(store)
    assert verify(folder) == []
    store = opener()
    populate(store)
    leave(store)
    assert verify(folder) == []
    store = opener()
    store.append("/good", b"more")
    store.delete("/fork-of-fork")
    store.flush()
    store.create("/fork", initial_data=b"again")
    leave(store)
    assert verify(folder) == []


def test_the_report_counts_what_there_is(data):
    verification = Verification(data)
    list(verification.run())
    report = verification.report
    assert report.stream_count == 6
    assert report.segment_count == 1
    assert report.segment_size == segment_files(data)[0].stat().st_size
    assert report.log_record_count == 5
    assert not report.is_damaged


def test_a_directory_that_was_just_being_made_is_whole(data, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(data / "FORMAT", folder)
    assert verify(folder) == []
    for name in ("wal", "segments"):
        (folder / name).mkdir()
    lmdb.open(str(folder / "meta.lmdb"), max_dbs=16).close()  # no tables yet
    assert verify(folder) == []


def test_rows_without_log_and_segments_are_damage(data):
    for name in ("wal", "segments"):
        shutil.rmtree(data / name)
        (data / name).mkdir()
    assert {"wal-damage", "segment-missing"} <= codes(data)


def test_an_open_store_is_refused_and_stays_open(opener, tmp_path):
    store = opener()
    store.create("/a")
    with pytest.raises(DirectoryInUse, match="already open"):
        list(Verification(tmp_path / "data").run())
    store.append("/a", b"x")


def test_a_strange_directory_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(UnknownFormat, match="not a data directory"):
        list(Verification(tmp_path).run())


def test_a_copy_without_lock_is_verified(data):
    (data / "LOCK").unlink()
    assert verify(data) == []


# -- the directory -------------------------------------------------------------------------


def test_a_damaged_or_missing_format_is_found(data):
    flip(data / "FORMAT", 3)
    assert only(data, "format").file == "FORMAT"
    (data / "FORMAT").unlink()
    assert "no FORMAT" in only(data, "format").what


@pytest.mark.parametrize("name", ["notes.txt", "wal/old.wal", "segments/1.seg", "meta.lmdb/x"])
def test_foreign_files_are_named(data, name):
    (data / name).write_bytes(b"?")
    assert only(data, "foreign-file", severity="notice").file == name


# -- the log -------------------------------------------------------------------------------


def test_a_flip_in_the_log_files_header_is_found(data):
    flip(log_file(data), 50)
    found = only(data, "wal-damage")
    assert found.file == f"wal/{log_file(data).name}"
    assert "header checksum mismatch" in found.what


def test_a_flip_in_a_frames_header_is_found(data):
    frame = log_frames(log_file(data))[-3]
    flip(log_file(data), frame.position + 20)
    found = only(data, "wal-damage")
    assert found.position == frame.position
    assert f"LSN {frame.header.first_lsn}" in found.what


def test_a_flip_in_a_records_header_is_found(data):
    frame = next(
        f for f in log_frames(log_file(data)) if f.records and f.records[0].data == b"after;"
    )
    flip(log_file(data), frame.position + 64 + 9)
    assert only(data, "wal-damage").position == frame.position


def test_a_flip_in_a_records_body_names_its_stream(data):
    flip_at(log_file(data), b"after;")
    found = only(data, "wal-record", stream_id=BAD)
    assert found.path == "/bad"
    assert "offsets 37 to 43 are lost" in found.what
    assert log_file(data).read_bytes()[found.position + 16] == BAD  # the record's stream id


def test_a_damaged_creation_does_not_blame_what_came_after(unflushed):
    flip_at(log_file(unflushed), b"before;")
    assert only(unflushed, "wal-record", stream_id=BAD)


def test_a_missing_log_is_found(data):
    log_file(data).unlink()
    assert "checkpoint's file is missing" in only(data, "wal-damage").what
    shutil.rmtree(data / "wal")
    assert only(data, "wal-damage").file == "wal"


def test_a_torn_end_is_no_damage(data):
    frame = [frame for frame in log_frames(log_file(data)) if frame.records][-1]
    flip(log_file(data), frame.position + 64 + 9)
    watermark = [f for f in log_frames(log_file(data)) if f.position > frame.position]
    assert not watermark
    raw = bytearray(log_file(data).read_bytes())
    raw[frame.position + 4096 :] = bytes(len(raw) - frame.position - 4096)
    log_file(data).write_bytes(raw)
    assert only(data, "wal-torn", severity="notice").position == frame.position


def test_records_that_do_not_continue_their_stream_are_a_hole(data):
    change_state(data, GOOD, tail=12)  # one less than flushed
    found = {finding.code: finding for finding in verify(data)}
    assert "begins at offset 13, and the stream ended at 12" in found["wal-hole"].what
    assert found["wal-hole"].stream_id == GOOD
    assert {"row-differs", "overlap"} <= found.keys()


# -- segments ------------------------------------------------------------------------------


def test_flips_in_each_part_of_an_extent_name_its_stream(data):
    path = segment_files(data)[0]
    extent = extent_fields(path, 1)
    assert extent["stream_id"] == BAD
    for part in ("data", "ends", "row"):
        flip(path, extent[part] + 1)
        found = only(data, "segment-damage", stream_id=BAD)
        assert (found.file, found.path) == (f"segments/{path.name}", "/bad")
        assert found.position is not None
        assert abs(found.position - extent[part]) < 96
        flip(path, extent[part] + 1)
    assert verify(data) == []


def test_a_flip_in_a_segments_index_is_found(data):
    path = segment_files(data)[0]
    flip(path, extent_fields(path, 0)["entry"] + 8)
    assert "segment-index" in codes(data)


@pytest.mark.parametrize("position", [8, 100, -20])
def test_a_flip_in_a_segments_header_or_footer_is_found(data, position):
    flip(segment_files(data)[0], position)
    found = verify(data)
    assert found[0].code == "segment-index"
    # Whose bytes it holds is known from the rows.
    assert {f.path for f in found if f.code == "hole"} == {
        "/good", "/bad", "/json", "/until", "/fork", "/fork-of-fork",
    }  # fmt: skip


def test_a_missing_segment_is_found_with_those_whose_bytes_it_held(data):
    segment_files(data)[0].unlink()
    found = verify(data)
    assert found[0].code == "segment-missing"
    assert {f.code for f in found} == {"segment-missing", "hole"}


def test_a_segment_of_another_store_is_found(data, tmp_path):
    path = segment_files(data)[0]
    raw = bytearray(path.read_bytes())
    raw[16] ^= 1
    path.write_bytes(raw)
    assert "segment-index" in codes(data)


def test_left_over_segments_are_told_from_those_that_were_committed(data):
    path = segment_files(data)[0]
    shutil.copy(path, path.with_name(f"{9:020d}.seg"))
    assert only(data, "segment-leftover", severity="notice").file.endswith("9.seg")
    path.with_name(f"{9:020d}.seg").unlink()
    (data / "segments" / f"{2:020d}.seg.tmp").write_bytes(b"cut")
    assert only(data, "segment-leftover", severity="notice")


def test_a_committed_segment_that_no_row_names_is_damage(data):
    lose_row(data, "segments", id_key(1))
    found = {finding.code: finding for finding in verify(data)}
    assert {"table-sum", "segment-unlisted"} <= found.keys()
    assert "does not open without" in found["segment-unlisted"].advice


# -- rows ----------------------------------------------------------------------------------


def test_a_flip_in_a_row_names_its_stream(data):
    flip_at(data / "meta.lmdb" / "data.mdb", b"/json\xb0application")
    found = only(data, "row-damage", stream_id=3)
    assert found.path == "/json"
    assert "table streams" in found.what


@pytest.mark.parametrize(
    ("table", "key", "expected"),
    [
        ("streams", id_key(3), {"table-sum", "row-missing", "path-binding"}),
        ("paths", name_key("/json"), {"table-sum", "path-binding"}),
        ("producers", id_key(1) + name_key("writer"), {"table-sum", "producer"}),
    ],
)
def test_rows_that_vanished_are_found(data, table, key, expected):
    lose_row(data, table, key)
    assert codes(data) == expected


def test_wrong_reference_counts_are_found(data):
    change_state(data, BAD, ref_count=7)
    found = {finding.code: finding for finding in verify(data)}
    assert "counts 7 forks, but 1 name it" in found["reference-count"].what
    assert found["reference-count"].path == "/bad"


def test_a_missing_source_is_found(data):
    write_row(data, "streams", id_key(BAD), None)
    found = {finding.code: finding for finding in verify(data)}
    assert {"source-missing", "row-missing", "path-binding"} <= found.keys()
    assert found["source-missing"].path == "/fork"


def test_a_path_that_leads_elsewhere_is_found(data):
    write_row(data, "paths", name_key("/json"), encode(PathRow(GOOD, "/json")))
    found = [finding for finding in verify(data) if finding.code == "path-binding"]
    assert {finding.stream_id for finding in found} == {GOOD, 3}


def test_deadlines_are_compared_with_rows(data):
    with rows_of(data) as rows:
        (first, stream_id), *_ = rows.due(1 << 62, 10)
    write_row(data, "deadlines", id_key(first) + id_key(stream_id), None)
    assert only(data, "deadline", stream_id=stream_id)
    write_row(data, "deadlines", id_key(first) + id_key(stream_id), b"")
    write_row(data, "deadlines", id_key(first + 1) + id_key(stream_id), b"")
    assert "its row does not have" in only(data, "deadline", stream_id=stream_id).what


def test_a_row_behind_its_segment_is_found(data):
    change_state(data, 3, last_accessed_at=5)
    assert only(data, "row-differs", stream_id=3).path == "/json"


def test_a_hole_in_a_streams_bytes_is_found(data):
    change_state(data, 3, tail=100)
    found = {finding.code: finding for finding in verify(data)}
    assert found["hole"].stream_id == 3
    assert "to 100 are in no segment" in found["hole"].what


def test_bytes_that_are_not_the_streams_are_found(data):
    change_state(data, 3, base=4)
    assert codes(data) == {"row-differs", "overlap"}


def test_rows_older_than_the_log_are_found(opener, data, tmp_path):
    """As after restoring LMDB alone from a backup."""
    old = tmp_path / "old"
    shutil.copytree(data / "meta.lmdb", old)
    store = opener()
    store.flush()
    store.close()
    opener().close()  # the log starts anew behind the later checkpoint
    shutil.rmtree(data / "meta.lmdb")
    shutil.copytree(old, data / "meta.lmdb")
    assert codes(data) >= {"wal-damage"}


def test_lmdb_pages_that_lead_nowhere_are_one_finding(data):
    path = data / "meta.lmdb" / "data.mdb"
    # A node of LMDB: value size (u32), flags (u16), key size (u16), key, value.
    node = b"\x00\x00\x00\x08\x00" + id_key(3) + b"\x93"
    path.write_bytes(path.read_bytes().replace(node, b"\x30" + node[1:]))  # 800 MiB long
    assert "a node reaches beyond the page" in only(data, "rows-unreadable").what


def test_lmdb_pages_that_would_kill_the_reader_are_found_without_dying(data):
    path = data / "meta.lmdb" / "data.mdb"
    path.write_bytes(path.read_bytes()[: 3 * 4096])  # the last page is named, and not there
    assert "the file ends before it" in only(data, "rows-unreadable").what


def test_lmdb_cut_short_or_missing_is_found(data):
    path = data / "meta.lmdb" / "data.mdb"
    path.write_bytes(path.read_bytes()[:4096])
    assert only(data, "rows-unreadable").file == "meta.lmdb/data.mdb"
    path.unlink()
    assert only(data, "rows-unreadable")
    shutil.rmtree(data / "meta.lmdb")
    assert only(data, "rows-unreadable")


def test_without_rows_log_and_segments_are_verified_all_the_same(data):
    (data / "meta.lmdb" / "data.mdb").unlink()
    assert only(data, "rows-unreadable")
    path = segment_files(data)[0]
    flip(path, extent_fields(path, 1)["data"])
    flip_at(log_file(data), b"after;")
    assert codes(data) == {"rows-unreadable", "segment-damage", "wal-record"}


def test_a_stream_under_quarantine_is_damage(opener, data):
    flip_at(log_file(data), b"after;")
    store = opener()
    store.flush()
    store.close()
    found = only(data, "quarantine", stream_id=BAD)
    assert "from offset 37 on: log record" in found.what
