"""Repair of segments: from their extents, from the log, from LMDB; what nobody has is named."""

from __future__ import annotations

import os
import shutil

import pytest

from durastream.engine.directory import Format
from durastream.engine.errors import OpenError, StreamQuarantined, UnknownFormat
from durastream.engine.metadata import id_key
from durastream.engine.repair_run import repair_directory
from support.damage import (
    extent_fields,
    flip,
    log_frames,
    lose_row,
    populate,
    rows_of,
    segment_files,
)
from support.repair import check_repair, damage_codes, repaired, seen, seen_but
from support.stores import contents, crash

GOOD, BAD, JSON, UNTIL = 1, 2, 3, 4  # stream ids


@pytest.fixture
def flushed(used, folder):
    """As ``used``, but the log has nothing any more of what the segments hold."""
    forget_log(folder)
    return used


def forget_log(folder):
    with rows_of(folder) as rows:
        checkpoint = rows.checkpoint()
    for path in (folder / "wal").glob("0*.wal"):
        raw = bytearray(path.read_bytes())
        end = checkpoint.position if int(path.stem) == checkpoint.file_seq else len(raw)
        if int(path.stem) <= checkpoint.file_seq:
            # The last header stays: without it the log would be older than the checkpoint.
            last = max((f.position for f in log_frames(path) if f.position < end), default=4096)
            header = raw[last : last + 64] if last < end else b""
            raw[4096:end] = bytes(end - 4096)
            raw[last : last + len(header)] = header
            path.write_bytes(raw)
    assert damage_codes(folder) == set()


def extent_of(path, stream_id):
    """The fields of a stream's extent in a segment."""
    index = 0
    while True:
        fields = extent_fields(path, index)
        if fields["stream_id"] == stream_id:
            return fields
        index += 1


def first(folder):
    return segment_files(folder)[0]


# -- what describes the extents ------------------------------------------------------------

PLACES = {
    "header magic": lambda raw, fields: 2,
    "header LSN": lambda raw, fields: 50,
    "header checksum": lambda raw, fields: 4090,
    "extent header": lambda raw, fields: fields["data"] - 96 + 17,
    "index entry": lambda raw, fields: fields["entry"] + 17,
    "footer magic": lambda raw, fields: len(raw) - 127,
    "footer count": lambda raw, fields: len(raw) - 96,
    "footer checksum": lambda raw, fields: len(raw) - 2,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("has_rows", [True, False], ids=["rows", "no rows"])
def test_a_segment_is_known_by_copies(flushed, folder, quick_opener, place, has_rows):
    path = first(folder)
    position = PLACES[place](path.read_bytes(), extent_of(path, BAD))
    flip(path, position)
    if not has_rows:
        shutil.rmtree(folder / "meta.lmdb")
    assert damage_codes(folder)
    outcome = check_repair(folder, quick_opener, flushed)
    assert not outcome.has_losses
    assert outcome.report.rebuilt == [f"segments/{path.name}"]
    kept = folder / outcome.report.folder / "segments" / path.name
    assert kept.read_bytes() != path.read_bytes()


def test_index_and_footer_cut_off(flushed, folder, quick_opener):
    path = first(folder)
    os.truncate(path, extent_fields(path, 0)["entry"] + 10)
    outcome = check_repair(folder, quick_opener, flushed)
    assert not outcome.has_losses


def test_cut_in_the_middle(flushed, folder, quick_opener):
    path = first(folder)
    os.truncate(path, extent_of(path, UNTIL)["data"] + 100_000)
    lost = {"/until", "/fork-of-fork"}
    outcome = check_repair(folder, quick_opener, flushed, lost)
    spans = [(loss.path, loss.start, loss.end) for loss in outcome.report.losses]
    assert ("/until", 0, 262144) in spans  # its ends are gone with the rest
    assert ("/fork-of-fork", 40, 48) in spans  # its own
    assert ("/fork-of-fork", 37, 40) in spans  # of its source, which was deleted


def test_cut_in_the_middle_without_rows(flushed, folder, quick_opener):
    """Nobody knows any more which streams stood in the rest."""
    path = first(folder)
    os.truncate(path, extent_of(path, UNTIL)["data"] - 96)
    shutil.rmtree(folder / "meta.lmdb")
    outcome = repaired(folder)
    assert [tuple(missing) for missing in outcome.report.missing] == [
        (1, 13, f"segments/{path.name}")
    ]
    store = quick_opener()
    assert store.get("/fork-of-fork") is None
    assert bytes(store.read("/good")) == flushed["/good"][-2]


# -- wire bytes, ends, rows ----------------------------------------------------------------


def test_a_damaged_block_costs_its_stream(flushed, folder, quick_opener):
    path = first(folder)
    flip(path, extent_of(path, UNTIL)["data"] + 70_000)
    outcome = check_repair(folder, quick_opener, flushed, {"/until"})
    (loss,) = outcome.report.losses
    assert (loss.path, loss.start, loss.end) == ("/until", 65536, 262144)


def test_what_is_whole_of_a_damaged_stream_is_served(flushed, folder, quick_opener):
    path = first(folder)
    flip(path, extent_of(path, UNTIL)["data"] + 70_000)
    repaired(folder)
    store = quick_opener()
    result = store.read("/until")
    assert bytes(result) == (bytes(range(256)) * 1024)[:65536]
    with pytest.raises(StreamQuarantined):
        store.read("/until", result.next_offset)


@pytest.mark.parametrize("part", ["data", "ends"])
def test_bytes_that_the_log_still_has_are_put_back(settled_log, used, folder, quick_opener, part):
    flip(first(folder), extent_of(first(folder), BAD)[part] + 2)
    outcome = check_repair(folder, quick_opener, used)
    assert not outcome.has_losses


def test_damaged_ends(flushed, folder, quick_opener):
    flip(first(folder), extent_of(first(folder), JSON)["ends"] + 2)
    outcome = check_repair(folder, quick_opener, flushed, {"/json"})
    (loss,) = outcome.report.losses
    assert (loss.path, loss.start) == ("/json", 0)


def test_a_damaged_row_has_a_copy_in_lmdb(flushed, folder, quick_opener):
    flip(first(folder), extent_of(first(folder), UNTIL)["row"] + 2)
    flip(segment_files(folder)[1], extent_of(segment_files(folder)[1], GOOD)["row"] + 2)
    assert damage_codes(folder) == {"segment-damage", "producer"}
    outcome = check_repair(folder, quick_opener, flushed)
    assert not outcome.has_losses


def test_a_damaged_row_without_a_copy(flushed, folder, quick_opener):
    """Its bytes are there, and an older row; what its producers sent is not known."""
    flip(segment_files(folder)[1], extent_of(segment_files(folder)[1], GOOD)["row"] + 2)
    shutil.rmtree(folder / "meta.lmdb")
    outcome = repaired(folder)
    (loss,) = outcome.report.losses
    assert (loss.path, loss.start) == ("/good", None)
    assert "producers" in loss.what
    store = quick_opener()
    assert seen_but(store, {"/good"}) == {p: v for p, v in flushed.items() if p != "/good"}
    assert bytes(store.read("/good")) == b"first;second;third;"
    with pytest.raises(StreamQuarantined):
        store.append("/good", b"x", producer_id="other", producer_epoch=0, producer_seq=0)


def test_the_only_row_of_a_stream(flushed, folder, quick_opener):
    flip(first(folder), extent_of(first(folder), UNTIL)["row"] + 2)
    shutil.rmtree(folder / "meta.lmdb")
    outcome = repaired(folder)
    assert [(loss.stream_id, loss.path) for loss in outcome.report.losses] == [(UNTIL, None)]
    store = quick_opener()
    assert store.get("/until") is None
    assert seen(store) == {p: v for p, v in flushed.items() if p != "/until"}


# -- whole files ---------------------------------------------------------------------------


def test_a_missing_segment_is_a_hole_in_its_streams(flushed, folder, quick_opener):
    segment_files(folder)[1].unlink()
    lost = {"/bad", "/json", "/good", "/gone"}
    outcome = check_repair(folder, quick_opener, flushed, lost)
    spans = {loss.path: (loss.start, loss.end) for loss in outcome.report.losses}
    assert spans == {"/bad": (37, 51), "/json": (10, 20), "/good": (13, 26), "/gone": (0, 4)}
    assert outcome.report.missing == []


def test_a_missing_segment_that_the_log_still_holds(settled_log, used, folder, quick_opener):
    segment_files(folder)[1].unlink()
    outcome = check_repair(folder, quick_opener, used)
    assert not outcome.has_losses


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_segment_without_rows(flushed, folder, quick_opener, number):
    """The LSNs of the others tell that there was one, but not whose bytes it held."""
    segment_files(folder)[number].unlink()
    shutil.rmtree(folder / "meta.lmdb")
    outcome = repaired(folder)
    spans = [(missing.first, missing.last) for missing in outcome.report.missing]
    assert spans == ([(1, 13)] if number == 0 else [(14, 17)])
    store = quick_opener()
    assert not store.read_only
    for path in store.list():
        with_quarantine = store._engine.metadata.find(path).quarantine
        if with_quarantine is None:
            assert flushed[path][-2].startswith(contents(store, path))


def test_an_unlisted_segment_is_listed_again(flushed, folder, quick_opener):
    for number in (1, 2):
        lose_row(folder, "segments", id_key(number))
    outcome = check_repair(folder, quick_opener, flushed)
    assert not outcome.has_losses


def test_exchanged_segments_are_told_by_their_headers(flushed, folder, quick_opener):
    one, two = segment_files(folder)
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    outcome = check_repair(folder, quick_opener, flushed)
    assert not outcome.has_losses


def test_a_second_copy_of_a_segment_is_set_aside(flushed, folder, quick_opener):
    one, two = segment_files(folder)
    shutil.copy(one, folder / "segments" / f"{3:020d}.seg")
    flip(two, -2)
    outcome = check_repair(folder, quick_opener, flushed)
    assert not outcome.has_losses
    ((name, why),) = outcome.report.aside
    assert (name, why) == (f"segments/{3:020d}.seg", "is another segment 1")


def test_a_segment_of_another_store_is_set_aside(flushed, folder, quick_opener, tmp_path):
    two = segment_files(folder)[1]
    kept = tmp_path / "kept"
    shutil.move(folder, kept)
    store = quick_opener()
    for _ in range(2):
        store.create(f"/alien{_}", initial_data=b"alien")
        store.flush()
    crash(store)
    alien = segment_files(folder)[1].read_bytes()
    shutil.rmtree(folder)
    shutil.move(kept, folder)
    two.write_bytes(alien)
    lost = {"/bad", "/json", "/good", "/gone"}
    outcome = check_repair(folder, quick_opener, flushed, lost)
    assert outcome.report.aside == [(f"segments/{two.name}", "belongs to another store")]
    kept = folder / outcome.report.folder / "segments" / two.name
    assert kept.read_bytes() == alien


# -- FORMAT --------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"format":1,"store_id":"00"}'])
def test_format_is_made_anew(used, folder, quick_opener, content):
    before = (folder / "FORMAT").read_bytes()
    (folder / "FORMAT").unlink()
    if content is not None:
        (folder / "FORMAT").write_bytes(content)
    outcome = check_repair(folder, quick_opener, used)
    assert not outcome.has_losses
    assert (folder / "FORMAT").read_bytes() == before
    assert "FORMAT" in outcome.report.rebuilt


def test_a_digit_of_format(used, folder, quick_opener):
    before = (folder / "FORMAT").read_bytes()
    at = before.index(b'store_id":"') + 12
    flipped = b"0" if before[at : at + 1] != b"0" else b"1"
    (folder / "FORMAT").write_bytes(before[:at] + flipped + before[at + 1 :])
    outcome = check_repair(folder, quick_opener, used)
    assert not outcome.has_losses
    assert (folder / "FORMAT").read_bytes() == before


def test_format_where_files_do_not_agree(used, folder, quick_opener, tmp_path):
    kept = tmp_path / "kept"
    shutil.copytree(folder / "segments", kept)
    shutil.rmtree(folder)
    store = quick_opener()
    store.create("/alien")
    store.close()
    (folder / "FORMAT").unlink()
    shutil.copy(kept / f"{2:020d}.seg", folder / "segments")
    with pytest.raises(OpenError, match="several stores"):
        repair_directory(folder)


def test_a_newer_format_is_left_alone(used, folder):
    store_id = "00" * 16
    (folder / "FORMAT").write_bytes(
        b'{"format":2,"store_id":"%s","name":"durastream"}' % (store_id.encode(),)
    )
    with pytest.raises(UnknownFormat, match="upgrade"):
        repair_directory(folder)
    assert Format(2, store_id).format == 2


# -- behind a compaction -------------------------------------------------------------------


@pytest.fixture
def merged(quick_opener, folder, tmp_path):
    """A store whose segments were merged into one; the directory of its inputs; what is seen."""
    store = quick_opener()
    populate(store)
    store.flush()
    store.append("/bad", b"between;")
    store.append("/good", b"third;", producer_id="other", producer_epoch=0, producer_seq=0)
    store.delete("/json")
    store.flush()
    inputs = tmp_path / "inputs"
    shutil.copytree(folder / "segments", inputs)
    store.compact(everything=True)
    store.append("/bad", b"after;")
    found = seen(store)
    crash(store)
    assert [segment.level for segment in listed(folder)] == [1]
    forget_log(folder)
    return inputs, found


def listed(folder):
    with rows_of(folder) as rows:
        return rows.segments()


def test_rows_are_rebuilt_from_a_merged_segment(merged, folder, quick_opener):
    shutil.rmtree(folder / "meta.lmdb")
    outcome = check_repair(folder, quick_opener, merged[1])
    assert not outcome.has_losses
    assert [entry.level for entry in listed(folder)][:1] == [1]


def test_inputs_that_were_left_do_not_count(merged, folder, quick_opener):
    inputs, found = merged
    shutil.copytree(inputs, folder / "segments", dirs_exist_ok=True)
    shutil.rmtree(folder / "meta.lmdb")
    outcome = check_repair(folder, quick_opener, found)
    assert not outcome.has_losses
    (number,) = {entry.number for entry in listed(folder) if entry.level == 1}
    reasons = {why for _, why in outcome.report.aside}
    assert reasons == {f"segment {number} holds all of it"}
    assert len(outcome.report.aside) == 2


def test_inputs_count_where_what_they_made_is_damaged(merged, folder, quick_opener):
    inputs, found = merged
    shutil.copytree(inputs, folder / "segments", dirs_exist_ok=True)
    shutil.rmtree(folder / "meta.lmdb")
    made = max(path for path in segment_files(folder) if not (inputs / path.name).exists())
    flip(made, extent_of(made, UNTIL)["data"] + 70_000)
    outcome = check_repair(folder, quick_opener, found)
    assert not outcome.has_losses
    assert outcome.report.aside == [
        (f"segments/{made.name}", "the segments that it was made of are still there")
    ]


def test_a_block_of_a_merged_segment(merged, folder, quick_opener):
    path = segment_files(folder)[0]
    flip(path, extent_of(path, UNTIL)["data"] + 70_000)
    outcome = check_repair(folder, quick_opener, merged[1], {"/until"})
    assert [loss.start for loss in outcome.report.losses] == [65536]
    store = quick_opener()
    store.compact(everything=True)  # what was repaired can be merged
    store.close()
    assert damage_codes(folder) <= {"quarantine"}
