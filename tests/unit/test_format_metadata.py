"""The bytes promised by docs/format-metadata.md."""

import re
from pathlib import Path

import pytest

from durastream._native.checksum import xxh64
from durastream.engine.errors import Damaged
from durastream.engine.metadata import (
    Checkpoint,
    Metadata,
    SegmentEntry,
    StreamChange,
    name_key,
)
from durastream.engine.records import (
    AppendMeta,
    CreateMeta,
    Kind,
    Row,
    SegmentRow,
    decode_meta,
    decode_row,
    decode_segment_row,
    encode,
    segment_row,
)
from durastream.protocol.state import ClosedBy, ProducerState, StreamState

MAP_SIZE = 64 * 1024 * 1024
DOCUMENT = Path(__file__).parents[2] / "docs" / "format-metadata.md"


def state(stream_id=1, path="/v1/stream/a", **fields):
    return StreamState(stream_id, path, "text/plain", 1000, 1000, **fields)


def change(found, lsn=1, producers=None, path=None):
    row = encode(Row(found, lsn))
    return StreamChange(found.stream_id, path or found.path, found, row, producers or {})


def removal(found, lsn=2):
    return StreamChange(found.stream_id, found.path, None, encode(Row(None, lsn)), {})


def checkpoint(lsn=1):
    return Checkpoint(lsn, 1, 4096, 7, 2)


@pytest.fixture
def metadata(tmp_path):
    found = Metadata(tmp_path / "meta.lmdb", map_size=MAP_SIZE)
    yield found
    found.close()


def test_documented_example_of_an_append():
    lines = re.findall(r"^    ((?:[0-9a-f]{2} ?)+) {2,}", DOCUMENT.read_text(), re.MULTILINE)
    documented = bytes.fromhex("".join(lines))
    assert encode(AppendMeta(1_700_000_000_000)) == documented
    assert decode_meta(Kind.APPEND, documented) == AppendMeta(1_700_000_000_000)


def test_documented_fields_of_a_state_are_in_order():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert [name for _, name in rows] == list(StreamState.__struct_fields__)
    assert [int(number) for number, _ in rows] == list(range(len(rows)))


def test_kinds_are_numbered_as_documented():
    rows = re.findall(r"^\| (\d) \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {name.upper(): int(number) for number, name in rows} == {k.name: k for k in Kind}


def test_structures_come_back():
    full = state(closed=True, closed_by=ClosedBy("p", 1, 2), last_seq="x", ttl_seconds=3)
    row = Row(full, 9)
    assert decode_row(encode(row)) == row
    assert decode_meta(Kind.CREATE, encode(CreateMeta(full))) == CreateMeta(full)
    for producers in ({}, {"p": ProducerState(1, 2, 3)}):
        encoded = segment_row(encode(row), producers)
        assert encoded == encode(SegmentRow(row, producers))
        assert decode_segment_row(encoded) == SegmentRow(row, producers)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="9 is not a valid Kind"):
        decode_meta(9, b"\x90")


def test_rows_are_found_by_path_and_id(metadata):
    found = state()
    metadata.commit(checkpoint(), [change(found, producers={"p": ProducerState(0, 4, 5)})])
    assert metadata.find(found.path) == Row(found, 1)
    assert metadata.row(1) == Row(found, 1)
    assert metadata.producer(1, "p") == ProducerState(0, 4, 5)
    assert metadata.producer(1, "q") is None
    assert metadata.checkpoint() == checkpoint()


def test_recreation_in_one_commit_binds_the_path_to_the_new_stream(metadata):
    old, new = state(1), state(2)
    metadata.commit(checkpoint(), [change(old, producers={"p": ProducerState(0, 0, 0)})])
    metadata.commit(checkpoint(2), [removal(old), change(new, 2)])
    assert metadata.find(old.path) == Row(new, 2)
    assert metadata.row(1) is None
    assert metadata.producer(1, "p") is None
    metadata.verify()


def test_long_names_with_equal_beginnings_are_told_apart(metadata):
    first, second = state(1, "/" + "x" * 1000 + "1"), state(2, "/" + "x" * 1000 + "2")
    metadata.commit(checkpoint(), [change(first), change(second)])
    assert metadata.find(first.path).state.stream_id == 1
    assert metadata.find(second.path).state.stream_id == 2
    assert len(name_key(first.path)) <= 511 - 8


def test_deadlines_follow_the_rows(metadata):
    found = state(ttl_seconds=10)  # ends at 11,000
    metadata.commit(checkpoint(), [change(found), change(state(2, "/b", expires_at_ms=500))])
    assert metadata.due(500, 10) == [(500, 2)]
    assert metadata.due(11_000, 10) == [(500, 2), (11_000, 1)]
    assert metadata.due(11_000, 1, after=(500, 2)) == [(11_000, 1)]
    assert metadata.due(11_000, 1, after=(11_000, 1)) == []
    later = state(ttl_seconds=20)
    metadata.commit(checkpoint(2), [change(later), removal(state(2, "/b"))])
    assert metadata.due(11_000, 10) == []
    assert metadata.due(21_000, 10) == [(21_000, 1)]
    metadata.verify()


def test_segments_are_listed_in_order(metadata):
    for number in (2, 1):
        metadata.commit(checkpoint(), [], SegmentEntry(number, 0, 0, 5, 100))
    assert [entry.number for entry in metadata.segments()] == [1, 2]


def test_sums_survive_reopening_and_catch_a_lost_row(tmp_path):
    path = tmp_path / "meta.lmdb"
    first = Metadata(path, map_size=MAP_SIZE)
    first.commit(checkpoint(), [change(state(n, f"/{n}")) for n in range(1, 50)])
    first.commit(checkpoint(), [removal(state(7, "/7"))])
    first.close()
    again = Metadata(path, map_size=MAP_SIZE)
    again.verify()
    with again._env.begin(write=True) as txn:
        txn.delete((9).to_bytes(8, "big"), db=again._streams._db)
    with pytest.raises(Damaged, match="47 rows where 48"):
        again.verify()
    again.close()


def test_a_flipped_bit_in_a_row_is_damage_of_that_row_alone(metadata):
    metadata.commit(checkpoint(), [change(state(1)), change(state(2, "/b"))])
    key = (1).to_bytes(8, "big")
    with metadata._env.begin(write=True) as txn:
        stored = bytearray(txn.get(key, db=metadata._streams._db))
        stored[3] ^= 1
        txn.put(key, bytes(stored), db=metadata._streams._db)
    with pytest.raises(Damaged, match="table streams"):
        metadata.row(1)
    assert metadata.row(2) is not None


def test_checksums_are_those_of_the_document(metadata):
    metadata.commit(checkpoint(), [change(state())])
    key = (1).to_bytes(8, "big")
    with metadata._env.begin() as txn:
        stored = bytes(txn.get(key, db=metadata._streams._db))
    value = encode(Row(state(), 1))
    expected = xxh64(b"streams\x00" + (8).to_bytes(2, "little") + key + value)
    assert stored == value + expected.to_bytes(8, "little")


def test_a_file_cut_short_is_refused_before_it_is_mapped(tmp_path):
    path = tmp_path / "meta.lmdb"
    first = Metadata(path, map_size=MAP_SIZE)
    first.commit(checkpoint(), [change(state(n, f"/{n}")) for n in range(1, 5000)])
    first.close()
    data = path / "data.mdb"
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    with pytest.raises(Damaged, match=r"cut short: damaged at byte \d+ of \d+"):
        Metadata(path, map_size=MAP_SIZE)


def test_a_file_without_meta_pages_is_refused(tmp_path):
    path = tmp_path / "meta.lmdb"
    path.mkdir()
    (path / "data.mdb").write_bytes(bytes(8192))
    with pytest.raises(Damaged, match="no meta page"):
        Metadata(path, map_size=MAP_SIZE)
