"""Repair of a damaged log: every record that is whole is taken over, the others are named."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from durastream._native.disk import PosixDisk
from durastream.engine.errors import StreamQuarantined
from durastream.engine.records import Kind
from durastream.engine.repair_run import repair_directory
from durastream.engine.salvage_frames import read_file
from durastream.engine.wal_py import FRAME_MAGIC, read_file_header
from support.damage import flip, log_file, log_frames
from support.repair import check_repair, damage_codes, repaired, seen, seen_but
from support.stores import contents, crash

BAD = 2  # stream ids
RECORD = 64  # bytes from a frame's start to its first record


def log_files(folder):
    return sorted((folder / "wal").glob("0*.wal"))


def place_of(folder, data):
    """The frame whose first record holds these data, and its file: a log may have several."""
    return next(
        (path, frame)
        for path in log_files(folder)
        for frame in log_frames(path)
        if frame.records and frame.records[0].data == data
    )


def body_of(folder, kind, stream_id):
    """Where the body of the first such record starts: its file and the byte."""
    for path in log_files(folder):
        for frame in log_frames(path):
            at = frame.position + RECORD
            for record in frame.records:
                if (record.header.kind, record.header.stream_id) == (kind, stream_id):
                    return path, at + 64
                at += record.header.size
    raise AssertionError(f"no record of kind {kind} of stream {stream_id}")


def missing_lsns(outcome):
    return [(missing.first, missing.last) for missing in outcome.report.missing]


def commit_together(store, appends):
    """Append so that all records share a frame; then prove it."""
    engine = store._engine
    engine.log.stop()
    engine._committer.join()
    engine.has_threads = False
    for path, data in appends:
        step = store.append_step(
            path, data, content_type=None, seq=None, producer_id=None, producer_epoch=None,
            producer_seq=None, close=False,
        )  # fmt: skip
        engine.decide(step)
    engine._commit(engine.log.staged_lsn)
    engine.publish()


# -- one file ------------------------------------------------------------------------------


def test_a_damaged_body_costs_its_stream(used, folder, quick_opener):
    path, frame = place_of(folder, b"after;")
    flip(path, frame.position + RECORD + 80)
    outcome = check_repair(folder, quick_opener, used, {"/bad"})
    (loss,) = outcome.report.losses
    assert (loss.stream_id, loss.path, loss.start, loss.end) == (BAD, "/bad", 45, 51)
    assert outcome.report.missing == []


@pytest.mark.parametrize("shift", [0, 9, 30, 57])
def test_behind_a_damaged_frame_header_all_records_are_found(used, folder, quick_opener, shift):
    path, frame = place_of(folder, b"later;")
    flip(path, frame.position + shift)
    assert damage_codes(folder) == {"wal-damage"}
    outcome = check_repair(folder, quick_opener, used)
    assert not outcome.has_losses


def test_a_damaged_record_header_hides_whom_it_hit(used, folder, quick_opener):
    path, frame = place_of(folder, b"4,5,")
    flip(path, frame.position + RECORD + 20)
    assert damage_codes(folder) == {"wal-damage"}
    outcome = repaired(folder)
    lsn = frame.records[0].header.lsn
    assert missing_lsns(outcome) == [(lsn, lsn)]
    store = quick_opener()
    found = seen(store)
    assert {p: found[p] for p in found if p != "/json"} == {
        p: used[p] for p in used if p != "/json"
    }
    store.append("/json", b"[6]")  # nobody could tell that it was hit
    assert store.append("/good", b"x") is not None
    assert store._engine.log.staged_lsn > lsn + (1 << 24)


def test_a_stream_that_goes_on_behind_a_lost_record_ends_at_the_hole(used, folder, quick_opener):
    path, frame = place_of(folder, b"late;")  # of a stream's creation, its later records stay
    flip(path, frame.position + RECORD + 24)
    outcome = repaired(folder)
    lsn = frame.records[0].header.lsn
    assert missing_lsns(outcome) == [(lsn, lsn)]
    (loss,) = outcome.report.losses
    assert (loss.path, loss.start, loss.end) == (None, 5, 11)
    store = quick_opener()
    assert store.get("/late") is None
    assert store.create("/late").incarnation > loss.stream_id


def test_of_several_records_in_a_frame_only_the_damaged_one_is_lost(folder, quick_opener):
    store = quick_opener()
    for name in ("/a", "/b", "/c"):
        store.create(name)
    commit_together(store, [("/a", b"one;"), ("/b", b"2;"), ("/c", b"three;"), ("/b", b"four;")])
    store.append("/a", b"behind;")
    expected = {path: value for path, value in seen(store).items() if path != "/b"}
    crash(store)
    path, frame = place_of(folder, b"one;")
    assert len(frame.records) == 4
    flip(path, frame.position + RECORD + frame.records[0].header.size + 16)
    outcome = repaired(folder)
    assert missing_lsns(outcome) == [(5, 5)]
    store = quick_opener()
    assert seen_but(store, {"/b"}) == expected
    with pytest.raises(StreamQuarantined, match="log record 7"):
        store.read("/b")


def test_two_damaged_records_in_one_frame(folder, quick_opener):
    store = quick_opener()
    for name in ("/a", "/b", "/c"):
        store.create(name)
    commit_together(store, [("/a", b"1;"), ("/b", b"2;"), ("/b", b"3;"), ("/c", b"4;")])
    store.append("/c", b"behind;")
    crash(store)
    path, frame = place_of(folder, b"1;")
    size = frame.records[0].header.size
    flip(path, frame.position + RECORD + 16)
    flip(path, frame.position + RECORD + size + 16)
    outcome = repaired(folder)
    assert missing_lsns(outcome) == [(4, 5)]
    store = quick_opener()
    assert contents(store, "/c") == b"4;behind;"


def test_what_looks_like_a_record_within_one_is_none(folder, quick_opener):
    """Streams may hold a copy of a log: their bytes are not records of this one."""
    store = quick_opener()
    store.create("/a")
    store.append("/a", b"genuine;")
    crash(store)
    copy = log_file(folder).read_bytes()[: 4096 * 6]
    store = quick_opener()
    store.create("/copy")
    store.append("/copy", copy)
    store.append("/a", b"behind;")
    expected = seen(store)
    crash(store)
    path, frame = place_of(folder, copy)
    flip(path, frame.position + 8)
    check_repair(folder, quick_opener, expected)


@pytest.mark.parametrize("kind", [Kind.DELETE, Kind.CREATE, Kind.TOUCH])
def test_damaged_records_without_data(folder, quick_opener, clock, kind):
    store = quick_opener()
    store.create("/kept", initial_data=b"kept")
    store.create("/a", initial_data=b"abc" if kind != Kind.CREATE else b"", ttl_seconds=100)
    clock.advance(50)
    store.read("/a")
    if kind == Kind.DELETE:
        store.delete("/a")
    store.append("/kept", b";")
    crash(store)
    flip(*body_of(folder, kind, 2))
    outcome = repaired(folder)
    assert [(loss.stream_id, loss.start) for loss in outcome.report.losses] == [(2, None)]
    store = quick_opener()
    assert contents(store, "/kept") == b"kept;"
    if kind == Kind.CREATE:
        assert store.get("/a") is None
        return
    with pytest.raises(StreamQuarantined):
        store.append("/a", b"x")
    assert store.delete("/a")


# -- several files -------------------------------------------------------------------------


@pytest.fixture
def chain(folder, quick_opener):
    """A log of several files, the newest of which holds some records; what users see."""
    store = quick_opener()
    store.create("/first", initial_data=b"first")
    store.flush()
    for number in range(12):
        store.create(f"/{number}", initial_data=bytes([number]) * 200_000)
        store.append("/first", b"%d;" % number)
    for _ in range(500):  # until the log is in a file that it does not leave for a better one
        store.append("/first", b"!")
        newest = log_files(folder)[-1]
        is_filled = read_file_header(newest.read_bytes()[:4096]).flags & 1
        if is_filled and len(in_file(newest)) > 3:
            break
        time.sleep(0.01)
    found = seen(store)
    crash(store)
    assert len(log_files(folder)) >= 3
    return found


def in_file(path):
    return [record for frame in log_frames(path) for record in frame.records]


def check_what_is_left(folder, opener, expected, lost):
    """Streams created in the lost records are gone; nothing else is, but by a hole."""
    names = {record.header.stream_id for record in lost if record.header.kind == Kind.CREATE}
    store = opener()
    assert not store.read_only
    gone = {path for path in expected if expected[path][2] in names}
    found = seen_but(store, {"/first"})
    assert found == {p: v for p, v in expected.items() if p not in gone | {"/first"}}
    store.create("/next", initial_data=b"next")
    store.close()
    assert damage_codes(folder) <= {"quarantine"}


@pytest.mark.parametrize("harm", ["header", "gone", "foreign", "zeroed"])
def test_a_file_in_the_middle(chain, folder, quick_opener, harm, tmp_path):
    path = log_files(folder)[1]
    lost = in_file(path)
    if harm == "header":
        flip(path, 50)
    elif harm == "gone":
        path.unlink()
    elif harm == "zeroed":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        raw = bytearray(path.read_bytes())
        raw[:128] = other_header(tmp_path)[:128]
        path.write_bytes(raw)
    assert "wal-damage" in damage_codes(folder)
    outcome = repaired(folder)
    if harm == "header":
        assert not outcome.has_losses
        store = quick_opener()
        assert seen(store) == chain
        return
    first, last = lost[0].header.lsn, lost[-1].header.lsn
    assert missing_lsns(outcome) == [(first, last)]
    if harm == "foreign":
        assert outcome.report.aside == [(f"wal/{path.name}", "belongs to another store")]
    check_what_is_left(folder, quick_opener, chain, lost)
    if any(record.header.stream_id == 1 for record in lost):
        store = quick_opener()
        with pytest.raises(StreamQuarantined):
            store.append("/first", b"x")


def other_header(tmp_path):
    from durastream.engine.file_store import FileBackedStreamStore

    FileBackedStreamStore(tmp_path / "other").close()
    return log_file(tmp_path / "other").read_bytes()


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_the_newest_file(chain, folder, quick_opener, harm):
    path = log_files(folder)[-1]
    lost = in_file(path)
    if harm == "gone":
        path.unlink()
    else:
        os.truncate(path, log_frames(path)[1].position)
        lost = [
            r
            for r in lost
            if r.header.lsn >= log_frames(path.parent / path.name)[-1].header.first_lsn + 1
        ]
    outcome = repaired(folder)
    assert missing_lsns(outcome)[-1][1] == 0  # nobody can tell how many
    assert missing_lsns(outcome)[-1][0] == lost[0].header.lsn
    check_what_is_left(folder, quick_opener, chain, lost)


def test_the_whole_log(chain, folder, quick_opener):
    shutil.rmtree(folder / "wal")
    outcome = repaired(folder)
    assert missing_lsns(outcome) == [(2, 0)]
    store = quick_opener()
    assert {path: contents(store, path) for path in store.list()} == {"/first": b"first"}
    store.append("/first", b"!")
    assert store._engine.log.staged_lsn > 1 << 24


def test_a_log_that_lost_its_rows_too(chain, folder, quick_opener):
    shutil.rmtree(folder / "meta.lmdb")
    flip(log_files(folder)[0], 50)
    outcome = check_repair(folder, quick_opener, chain)
    assert not outcome.has_losses


def test_what_recovery_cut_off_does_not_come_back(folder, quick_opener):
    """A torn frame in an older file is void: its records' place was taken by others."""
    store = quick_opener()
    store.create("/a", initial_data=b"x" * 300_000)
    store.append("/a", b"y" * 300_000)
    store.append("/a", b"torn away;")
    crash(store)
    path, frame = place_of(folder, b"torn away;")
    raw = bytearray(path.read_bytes())
    raw[frame.position + 4096 :] = bytes(len(raw) - frame.position - 4096)  # no watermark
    raw[frame.position + 60] ^= 1
    path.write_bytes(raw)
    kept = bytes(raw)
    store = quick_opener()
    store.append("/a", b"instead;")
    store.append("/a", b"and more;")
    expected = seen(store)
    crash(store)
    raw[frame.position + 60] ^= 1  # as if the sector had been read wrongly then
    assert path.exists()
    path.write_bytes(bytes(raw))
    assert kept != bytes(raw)
    shutil.rmtree(folder / "meta.lmdb")
    outcome = check_repair(folder, quick_opener, expected)
    assert not outcome.has_losses


def test_streams_that_may_have_lost_records_can_be_closed(used, folder, quick_opener):
    """Then no offset that somebody may have seen is given out again for other bytes."""
    path, frame = place_of(folder, b"4,5,")
    flip(path, frame.position + RECORD + 20)
    outcome = repair_directory(folder, close_doubtful=True)
    assert outcome.left == []
    store = quick_opener()
    closed = [path for path in used if is_quarantined(store, path)]
    assert len(closed) == outcome.report.closed_count
    assert "/json" in closed
    assert "/late" not in closed  # it went on behind what is missing
    store.append("/late", b"and on")


def is_quarantined(store, path):
    found = store._engine.metadata.find(path)
    return found.quarantine is not None


def test_a_log_older_than_the_rows_may_lack_anything_behind_them(used, folder, quick_opener):
    older = {path: path.read_bytes() for path in (folder / "wal").iterdir()}
    store = quick_opener()
    store.append("/good", b"flushed, and in no log any more;")
    store.flush()
    store.append("/good", b"behind it")
    crash(store)
    shutil.rmtree(folder / "wal")
    (folder / "wal").mkdir()
    for path, content in older.items():
        path.write_bytes(content)
    outcome = repaired(folder)
    assert [(lost.last, lost.where) for lost in outcome.report.missing] == [(0, "wal")]


def test_what_stands_in_a_file_from_an_earlier_use_of_it_is_no_record(chain, folder):
    """Frames are valid at their place only, so those of a recycled file still are."""
    *others, newest = log_files(folder)
    older = max(others, key=lambda path: log_frames(path)[-1].position)
    header = read_file_header(newest.read_bytes()[:4096])
    used = max(frame.position for frame in log_frames(newest)) + 4096
    raw = newest.read_bytes()[:used] + older.read_bytes()[used:]
    assert any(
        raw[at : at + 4] == FRAME_MAGIC and raw[at + 8 : at + 16] == older.read_bytes()[40:48]
        for at in range(used, len(raw), 4096)
    )
    newest.write_bytes(raw)
    found = read_file(PosixDisk(), newest, header.sequence, header.store_id, 0)
    lsns = [record.scanned.lsn for record in found.records]
    assert lsns == [record.header.lsn for record in in_file(newest)]
