"""Damage to acknowledged bytes: named, confined to its stream, never served (I6)."""

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from durastream.engine.errors import (
    Damaged,
    OpenError,
    ReadOnly,
    StorageError,
    StreamQuarantined,
)
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.metadata import id_key
from durastream.engine.options import MIB, FileStoreOptions, Limits
from support.damage import log_frames, lose_row, rows_of, write_row
from support.stores import contents, crash, fill_spare

OPTIONS = FileStoreOptions(
    wal_file_size=2 * MIB,
    wal_size_max=8 * MIB,
    flush_age=3600.0,
    sweep_interval=3600.0,
    lmdb_map_size=64 * MIB,
)
MARK = b"the bytes that will be damaged"


def open_store(folder: Path, *, threads: bool = True, **options):
    return FileBackedStreamStore(
        folder,
        limits=Limits(body_size_max=MIB // 2),
        options=replace(OPTIONS, **options),
        threads=threads,
    )


def flip(path: Path, needle: bytes, shift: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    at = raw.index(needle) + shift
    raw[at] ^= 0x40
    path.write_bytes(raw)


def log_file(folder: Path) -> Path:
    return max((folder / "wal").glob("0*.wal"))


@pytest.fixture
def written(tmp_path):
    """A store whose log holds a good stream around the record to be damaged."""
    fill_spare(open_store(tmp_path, threads=False))
    store = open_store(tmp_path)
    store.create("/good")
    store.create("/bad", initial_data=b"before;")
    store.append("/good", b"first;")
    store.append("/bad", MARK)
    store.append("/bad", b"after;")
    store.append("/good", b"second;")
    return store


def check_quarantine(store, served=b"before;"):
    assert bytes(store.read("/good")) == b"first;second;"
    store.append("/good", b"third;")
    result = store.read("/bad")
    assert bytes(result) == served
    assert not result.up_to_date
    with pytest.raises(StreamQuarantined, match=r"/bad, from offset .*7 on: damaged at log record"):
        store.read("/bad", result.next_offset)
    with pytest.raises(StreamQuarantined, match="log record"):
        store.append("/bad", b"x")
    with pytest.raises(StreamQuarantined, match="log record"):
        store.close_stream("/bad")


def test_a_bad_record_body_costs_its_stream_alone(written, tmp_path):
    crash(written)
    flip(log_file(tmp_path), MARK)
    store = open_store(tmp_path)
    assert not store.read_only
    check_quarantine(store)
    assert list((tmp_path / "wal").glob("damaged-*.bin"))
    store.flush()
    store.append("/good", b"!")
    crash(store)
    store = open_store(tmp_path)  # the quarantine is in the row now
    assert bytes(store.read("/bad")) == b"before;"
    with pytest.raises(StreamQuarantined):
        store.append("/bad", b"x")
    assert bytes(store.read("/good")) == b"first;second;third;!"
    store.close()


def test_a_bad_record_header_opens_read_only_and_changes_nothing(written, tmp_path):
    crash(written)
    path = log_file(tmp_path)
    flip(path, MARK, shift=-80)  # within the record's header, before its metadata
    before = path.read_bytes()
    store = open_store(tmp_path)
    assert store.read_only
    assert bytes(store.read("/good")) == b"first;"
    for write in (
        lambda: store.append("/good", b"x"),
        lambda: store.create("/new"),
        lambda: store.delete("/good"),
    ):
        with pytest.raises(ReadOnly, match="durastream verify"):
            write()
    store.close()
    assert path.read_bytes() == before


def test_a_bad_block_of_a_segment_is_named_and_costs_its_stream_alone(written, tmp_path):
    written.flush()
    written.append("/bad", b"unflushed;")
    crash(written)
    segment = next((tmp_path / "segments").glob("*.seg"))
    flip(segment, MARK)
    store = open_store(tmp_path)
    with pytest.raises(Damaged, match=rf"/bad, offset .*: damaged at .*{segment.name}, byte"):
        store.read("/bad")
    with pytest.raises(StreamQuarantined, match=segment.name):
        store.append("/bad", b"x")
    assert bytes(store.read("/good")) == b"first;second;"
    store.append("/good", b"third;")
    store.close()
    store = open_store(tmp_path)
    with pytest.raises(StreamQuarantined):
        store.append("/bad", b"x")
    store.close()


def test_a_segment_whose_index_is_damaged_is_refused_by_name(written, tmp_path):
    written.close()
    segment = next((tmp_path / "segments").glob("*.seg"))
    raw = bytearray(segment.read_bytes())
    raw[-20] ^= 1
    segment.write_bytes(raw)
    with pytest.raises(Damaged, match=segment.name):
        open_store(tmp_path)


def test_a_missing_segment_is_refused_by_name(written, tmp_path):
    written.close()
    segment = next((tmp_path / "segments").glob("*.seg"))
    segment.unlink()
    with pytest.raises(Damaged, match=segment.name):
        open_store(tmp_path)


def test_a_bad_row_costs_its_stream_alone(written, tmp_path):
    written.flush()
    written.close()
    flip(tmp_path / "meta.lmdb" / "data.mdb", b"/bad\xb8")  # within the row, before its type
    store = open_store(tmp_path)
    with pytest.raises(Damaged, match=r"table streams.*meta\.lmdb"):
        store.read("/bad")
    assert bytes(store.read("/good")) == b"first;second;"
    store.append("/good", b"x")
    store.close()


def test_a_log_file_that_is_gone_is_not_taken_for_an_empty_log(written, tmp_path):
    crash(written)
    os.unlink(log_file(tmp_path))
    try:
        store = open_store(tmp_path)
    except (OpenError, Damaged):
        return
    assert store.read_only
    store.close()


def test_a_read_only_store_is_not_flushed(written, tmp_path):
    written.flush()
    written.append("/good", b"third;")
    written.append("/bad", MARK + b" later")
    written.append("/good", b"fourth;")
    crash(written)
    flip(log_file(tmp_path), MARK + b" later", shift=-80)
    before = sorted((tmp_path / "segments").iterdir())
    store = open_store(tmp_path)
    assert store.read_only
    checkpoint = store._engine.metadata.checkpoint()
    assert store.flush() is False
    assert store._engine.metadata.checkpoint() == checkpoint
    store.close()
    assert sorted((tmp_path / "segments").iterdir()) == before


def test_a_bad_row_of_a_stream_that_goes_does_not_stop_flushes(tmp_path):
    store = open_store(tmp_path)
    store.create("/bad")
    store.append("/bad", b"1", producer_id="a-producer", producer_epoch=0, producer_seq=0)
    store.close()
    flip(tmp_path / "meta.lmdb" / "data.mdb", b"\xaaa-producer", shift=3)
    store = open_store(tmp_path)
    store.delete("/bad")
    store.create("/bad", initial_data=b"anew")
    assert store.flush()
    store.close()
    store = open_store(tmp_path)
    assert bytes(store.read("/bad")) == b"anew"
    store._engine.metadata.verify()
    store.close()


@pytest.mark.parametrize("flushed", [False, True])
def test_a_fork_is_served_up_to_its_sources_damage(written, tmp_path, flushed):
    written.create("/fork", forked_from="/bad", initial_data=b"own")
    before_it = written.read("/bad", max_bytes=7).next_offset
    written.create("/early", forked_from="/bad", fork_offset=before_it)
    written.append("/early", b"untouched")
    crash(written)
    flip(log_file(tmp_path), MARK)
    store = open_store(tmp_path)
    if flushed:
        store.flush()
        crash(store)
        store = open_store(tmp_path)
    assert bytes(store.read("/early")) == b"before;untouched"
    result = store.read("/fork")
    assert bytes(result) == b"before;"
    with pytest.raises(StreamQuarantined, match="log record"):
        store.read("/fork", result.next_offset)
    with pytest.raises(StreamQuarantined, match="log record"):
        asyncio.run(store.aio.read("/fork", result.next_offset))
    with pytest.raises(StreamQuarantined, match="log record"):
        store.create(
            "/later", forked_from="/bad", fork_offset=result.next_offset, fork_sub_offset=2
        )
    store.close()


def test_a_fork_whose_sources_row_is_missing_says_so(tmp_path):
    store = open_store(tmp_path)
    store.create("/source", initial_data=b"abc")
    store.create("/fork", forked_from="/source", initial_data=b"own")
    store.close()
    store = open_store(tmp_path)
    rows = store._engine.metadata
    with rows._env.begin(write=True) as txn:
        txn.delete((1).to_bytes(8, "big"), db=rows._streams._db)
    for use in (lambda: store.read("/fork"), lambda: asyncio.run(store.aio.read("/fork"))):
        with pytest.raises(Damaged, match=r"row of stream 1, .* damaged at meta\.lmdb"):
            use()
    with pytest.raises(Damaged, match="row of stream 1"):
        store.delete("/fork")
    store.close()


def test_a_flush_keeps_what_is_intact_behind_damage_in_a_segment(written, tmp_path):
    written.flush()
    crash(written)
    flip(next((tmp_path / "segments").glob("*.seg")), MARK)
    store = open_store(tmp_path)
    store.append("/bad", b"behind the damage;")
    with pytest.raises(Damaged):
        store.read("/bad")
    store.flush()
    newest = max((tmp_path / "segments").glob("*.seg"))
    assert b"behind the damage;" in newest.read_bytes()
    store.close()


def test_a_committed_segment_that_no_row_names_is_not_thrown_away(written, tmp_path):
    written.close()
    segment = next((tmp_path / "segments").glob("*.seg"))
    write_row(tmp_path, "segments", id_key(int(segment.stem)), None)
    with pytest.raises(Damaged, match=rf"no row for {segment.name}"):
        open_store(tmp_path)
    assert segment.exists()


@pytest.mark.parametrize("table", ["streams", "paths", "producers", "deadlines", "segments"])
def test_a_table_that_lost_a_row_is_refused_at_the_next_start(tmp_path, table):
    store = open_store(tmp_path)
    store.create("/a", ttl_seconds=600)
    store.append("/a", b"x", producer_id="p", producer_epoch=0, producer_seq=0)
    store.close()
    with rows_of(tmp_path) as metadata:
        key = next(iter(metadata.scan(table))).key
    lose_row(tmp_path, table, key)
    with pytest.raises(Damaged, match=f"table {table}: 0 rows where 1 were written"):
        open_store(tmp_path)


def test_a_segment_whose_commit_never_came_is_removed(written, tmp_path):
    written.close()
    segment = next((tmp_path / "segments").glob("*.seg"))
    orphan = segment.with_name(f"{99:020d}.seg")
    orphan.write_bytes(segment.read_bytes())
    open_store(tmp_path).close()
    assert not orphan.exists()


def test_lost_rows_are_no_empty_store(written, tmp_path):
    """Without rows the segments would look like left-overs of flushes, and be removed."""
    written.flush()
    written.append("/good", b"third;")
    crash(written)
    shutil.rmtree(tmp_path / "meta.lmdb")
    segments = sorted((tmp_path / "segments").iterdir())
    for _ in range(2):  # LMDB is there the second time, and empty
        with pytest.raises(Damaged, match="durastream repair"):
            open_store(tmp_path)
    assert sorted((tmp_path / "segments").iterdir()) == segments


def test_lost_rows_of_a_log_that_was_recycled_are_no_empty_store(written, tmp_path):
    written.close()
    open_store(tmp_path).close()  # the log begins behind what was flushed
    shutil.rmtree(tmp_path / "meta.lmdb")
    shutil.rmtree(tmp_path / "segments")
    with pytest.raises(Damaged, match="durastream repair"):
        open_store(tmp_path)


def test_segments_newer_than_the_rows_are_not_thrown_away(written, tmp_path):
    written.flush()
    copy = tmp_path.parent / f"{tmp_path.name}-older"
    copy.mkdir()
    written._engine.metadata._env.copy(str(copy))
    written.append("/good", b"third;")
    written.flush()
    crash(written)
    (copy / "data.mdb").replace(tmp_path / "meta.lmdb" / "data.mdb")
    os.unlink(log_file(tmp_path))
    segments = sorted((tmp_path / "segments").iterdir())
    assert len(segments) == 2
    store = open_store(tmp_path)
    assert store.read_only
    store.close()
    assert sorted((tmp_path / "segments").iterdir()) == segments


# -- damage that hides whom it hit ---------------------------------------------------------


def test_a_stream_that_lost_its_last_record_is_not_said_to_be_complete(written, tmp_path):
    written.append("/bad", b"the very last of it")
    written.append("/good", b"third;")
    crash(written)
    flip(log_file(tmp_path), b"the very last of it")
    store = open_store(tmp_path)
    result = store.read("/bad")
    assert bytes(result) == b"before;" + MARK + b"after;"
    assert not result.up_to_date
    with pytest.raises(StreamQuarantined):
        store.read("/bad", result.next_offset)
    with pytest.raises(StreamQuarantined):
        store.wait_for_messages("/bad", result.next_offset, 0)
    store.close()


@pytest.fixture
def cut_off(written, tmp_path):
    """A store whose log is damaged before the creation of a stream, and read-only for it."""
    written.create("/later", initial_data=b"behind the damage")
    written.append("/good", b"third;")
    crash(written)
    flip(log_file(tmp_path), MARK, shift=-80)
    store = open_store(tmp_path)
    assert store.read_only
    yield store
    store.close()


def test_a_damaged_log_does_not_say_that_a_stream_is_complete(cut_off):
    result = cut_off.read("/good")
    assert bytes(result) == b"first;"
    assert not result.up_to_date
    for read in (
        lambda: cut_off.read("/good", result.next_offset),
        lambda: cut_off.read("/good", "now"),
        lambda: cut_off.wait_for_messages("/good", result.next_offset, 0),
        lambda: asyncio.run(cut_off.aio.read("/good", result.next_offset)),
    ):
        with pytest.raises(StreamQuarantined, match="an acknowledged frame is damaged"):
            read()


def test_a_damaged_log_does_not_say_that_a_stream_is_not_there(cut_off):
    for use in (
        lambda: cut_off.read("/later"),
        lambda: cut_off.get("/later"),
        lambda: cut_off.append("/later", b"x"),
        lambda: cut_off.delete("/later"),
        lambda: cut_off.create("/fork", forked_from="/later"),
        lambda: asyncio.run(cut_off.aio.get("/later")),
        cut_off.list,
    ):
        with pytest.raises(ReadOnly, match=r"damaged \(.*byte \d+: "):
            use()


@pytest.mark.parametrize("ends", [False, True])
def test_a_damaged_creation_or_deletion_is_damage_to_the_log(written, tmp_path, ends):
    written.create("/gone", initial_data=b"of a stream that is gone")
    if ends:
        written.flush()
        written.delete("/gone")
    written.append("/good", b"third;")
    crash(written)
    path = log_file(tmp_path)
    if ends:
        record = next(r for f in log_frames(path) for r in f.records if r.header.kind == 3)
        flip(path, record.meta, shift=1)
    else:
        flip(path, b"of a stream that is gone")
    before = path.read_bytes()
    store = open_store(tmp_path)
    assert store.read_only
    with pytest.raises(StorageError, match=r"log record \d+;|of a creation or deletion"):
        contents(store, "/gone")
    store.close()
    assert path.read_bytes() == before


def test_a_path_whose_key_is_damaged_is_not_said_to_be_unknown(written, tmp_path):
    written.flush()
    written.close()
    data = tmp_path / "meta.lmdb" / "data.mdb"
    raw = data.read_bytes()
    key = b"\x00/bad\x92"  # and the beginning of its value
    assert raw.count(key) >= 1
    data.write_bytes(raw.replace(key, b"\x00/bae\x92"))
    store = open_store(tmp_path)
    for use in (lambda: store.read("/bad"), lambda: store.create("/bad")):
        with pytest.raises(Damaged, match="/bad' of table paths, or one beside it"):
            use()
    assert bytes(store.read("/good")) == b"first;second;"
    store.create("/zebra")  # far from it
    store.close()
    open_store(tmp_path).close()


def test_a_path_that_leads_to_no_row_says_so(written, tmp_path):
    written.flush()
    written.close()
    write_row(tmp_path, "streams", id_key(2), None)
    store = open_store(tmp_path)
    with pytest.raises(Damaged, match="the row of stream 2, /bad, is missing"):
        store.read("/bad")
    store.close()


def test_lmdb_of_another_store_is_refused(written, tmp_path):
    written.close()
    other = open_store(tmp_path / "other")
    other.create("/x")
    other.close()
    shutil.copy(tmp_path / "other/meta.lmdb/data.mdb", tmp_path / "meta.lmdb/data.mdb")
    with pytest.raises(Damaged, match="belongs to store"):
        open_store(tmp_path)


def test_a_meta_page_that_leads_to_an_older_commit_is_refused(written, tmp_path):
    """One bit makes the older of LMDB's two meta pages the newer one."""
    written.flush()
    written.close()
    data = tmp_path / "meta.lmdb" / "data.mdb"
    raw = bytearray(data.read_bytes())
    places = [16 + 128, 4096 + 16 + 128]
    numbers = [int.from_bytes(raw[at : at + 8], "little") for at in places]
    older = places[numbers.index(min(numbers))]
    raw[older : older + 8] = (max(numbers) + 1).to_bytes(8, "little")
    data.write_bytes(raw)
    with pytest.raises(Damaged, match="LMDB's"):
        open_store(tmp_path)


def test_damaged_pages_are_refused_before_lmdb_reads_them(written, tmp_path):
    written.flush()
    written.close()
    data = tmp_path / "meta.lmdb" / "data.mdb"
    raw = data.read_bytes()
    node = b"\x00\x00\x00\x08\x00" + id_key(2) + b"\x93"
    assert raw.count(node) >= 1
    data.write_bytes(raw.replace(node, b"\x30" + node[1:]))
    with pytest.raises(Damaged, match=r"LMDB's page \d+: a node reaches .*/data\.mdb, byte \d+"):
        open_store(tmp_path)
