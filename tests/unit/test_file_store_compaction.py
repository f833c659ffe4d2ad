"""What compaction keeps, drops and survives, on a real disk: seen through the store."""

import errno
import logging
import time
from dataclasses import replace

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.compaction import is_removed, merged_row
from durastream.engine.errors import Damaged, StreamQuarantined
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.needs import Need, Needs, follow, need_of
from durastream.engine.records import Row, decode_segment_row, encode, segment_row
from durastream.engine.verify import Verification
from durastream.protocol.state import ProducerState, StreamState
from support.damage import flip_at
from support.segments import WatchedDisk
from support.stores import SMALL_LIMITS, SMALL_STORE, contents, crash

A, B, C = "/v1/stream/a", "/v1/stream/b", "/v1/stream/c"
MIB = 1024 * 1024


def segments(store):
    return store._engine.segments


def verify(path):
    verification = Verification(path)
    for _ in verification.run():
        pass
    assert verification.report.findings == []


def files(path):
    return sorted(file.name for file in (path / "segments").iterdir())


def row_in(segment, stream_id):
    for _, _, index in segment.extents_of(stream_id):
        if segment.extent(index).row_size:
            return decode_segment_row(segment.row(index))
    return None


# -- what is kept --------------------------------------------------------------------------


def test_many_segments_become_one_and_everything_is_there(opener, leave, tmp_path):
    store = opener()
    store.create(A, content_type="application/json")
    store.create(B)
    for number in range(5):
        store.append(A, b'[1, {"n": %d}]' % number, producer_id=f"p{number % 2}",
                     producer_epoch=0, producer_seq=number // 2)  # fmt: skip
        store.append(B, bytes([number]) * 100_000)
        store.flush()
    messages = store.read(A).messages
    store.compact(everything=True)
    assert len(segments(store)) == 1
    assert segments(store)[0].extent_count == 2
    leave(store)
    assert len(files(tmp_path / "data")) in (1, 2)
    verify(tmp_path / "data")
    store = opener()
    assert contents(store, B) == b"".join(bytes([number]) * 100_000 for number in range(5))
    assert store.read(A).messages == messages
    retried = store.append(A, b"6", producer_id="p1", producer_epoch=0, producer_seq=1)
    assert retried.producer.status == "duplicate"
    assert [store.get_producer_epoch(A, name) for name in ("p0", "p1")] == [0, 0]
    row = row_in(store._engine.segments[-1], 1)
    assert {name: state.last_seq for name, state in row.producers.items()} == {"p0": 2, "p1": 1}


def test_the_number_of_segments_is_kept(opener):
    store = opener(segment_count_max=3)
    store.create(A)
    for number in range(20):
        store.append(A, b"%d," % number)
        store.flush()
        store.compact()
        assert len(segments(store)) <= 3
    assert contents(store, A) == b"".join(b"%d," % number for number in range(20))


def test_what_is_deleted_gives_its_space_back(opener, tmp_path):
    store = opener()
    store.create(A, initial_data=b"a" * MIB)
    store.create(B, initial_data=b"b" * 2 * MIB)
    store.flush()
    store.delete(B)
    store.flush()
    before = store.space
    assert (before.segment_count, before.pinned_size) == (2, 0)
    assert before.size > 3 * MIB > before.dead_size > 2 * MIB
    store.compact()
    assert sum(segment.data_size for segment in segments(store)) == MIB
    assert store.space.size < before.size - 2 * MIB
    assert store.space.dead_size == 0
    assert contents(store, A) == b"a" * MIB


def test_estimates_of_dead_bytes_survive_a_crash(opener, leave):
    store = opener()
    store.create(A, initial_data=b"a" * MIB)
    store.flush()
    store.delete(A)
    store.flush()
    before = {number: entry.dead_size for number, entry in store._engine.listed.items()}
    assert max(before.values()) > MIB
    leave(store)
    found = opener()._engine.listed
    assert {number: found[number].dead_size for number in before} == before


def test_what_retention_gives_up_comes_back_unless_a_fork_needs_it(opener, tmp_path):
    store = opener()
    store.create(A, initial_data=b"a" * MIB, retention_bytes=MIB)
    store.append(A, b"b" * MIB)
    store.create(B, forked_from=A, fork_offset=store.read(A, max_bytes=1).next_offset)
    store.flush()
    store.append(A, b"c" * MIB)
    store.append(A, b"d" * MIB)
    store.sweep()
    store.flush()
    store.compact(everything=True)
    assert contents(store, A) == b"d" * MIB
    assert contents(store, B) == b"a" * MIB
    assert segments(store)[0].data_size == 4 * MIB, "with what lies between the two needs"
    store.delete(B)
    store.append(A, b"e" * MIB)
    store.sweep()
    store.flush()
    store.compact(everything=True)
    assert segments(store)[0].data_size == MIB
    assert contents(store, A) == b"e" * MIB
    store.close()
    verify(tmp_path / "data")


def test_what_is_dead_on_arrival_is_counted(opener):
    store = opener()
    store.create(A, retention_bytes=1)
    for _ in range(3):
        store.append(A, b"x" * MIB)
    store.sweep()
    store.flush()
    (entry,) = store._engine.listed.values()
    assert entry.dead_size == 2 * MIB
    store.compact()
    assert segments(store)[0].data_size == MIB


def test_forks_keep_what_they_inherited_and_no_more(opener, tmp_path):
    store = opener()
    store.create(A, initial_data=b"a" * MIB)
    at = store.append(A, b"b" * MIB).offset
    store.append(A, b"c" * 3 * MIB)
    store.create(B, forked_from=A, fork_offset=at, initial_data=b"own")
    store.create(C, forked_from=B)
    store.delete(A)
    store.delete(B)
    store.flush()
    store.compact(everything=True)
    assert segments(store)[0].data_size == 2 * MIB + 3
    assert contents(store, C) == b"a" * MIB + b"b" * MIB + b"own"
    store.close()
    verify(tmp_path / "data")
    store = opener()
    assert contents(store, C) == b"a" * MIB + b"b" * MIB + b"own"
    store.delete(C)
    store.flush()
    store.compact(everything=True)
    assert segments(store)[0].data_size == 0


def test_a_source_that_changed_after_its_forks_were_looked_for_is_kept_whole(opener):
    store = opener()
    store.create(A, initial_data=b"a" * 100)
    store.create(B, forked_from=A)
    store.delete(A)
    store.flush()
    needs = Needs(store._engine.metadata)
    assert needs.is_doubtful(1)
    assert needs.of([1, 2, 99]) == {1: Need(0, 100), 2: Need(100, 100)}
    list(needs.look_for_forks(store._engine.checkpoint.lsn - 1))
    assert needs.of([1]) == {1: Need(0, 100)}


def test_needs_follow_chains_of_forks():
    def state(stream_id, base=0, tail=0, **more):
        return StreamState(stream_id, f"/{stream_id}", "x", 0, 0, tail=tail, base=base, **more)

    root = state(1, 0, 1000, ref_count=2, soft_deleted=True, earliest=300)
    middle = state(2, 500, 600, source_id=1, soft_deleted=True, ref_count=1)
    last = state(3, 550, 900, source_id=2, earliest=200)
    other = state(4, 400, 450, source_id=1, earliest=420)
    states = {x.stream_id: x for x in (root, middle, last, other)}
    inherited = {}
    for fork in states.values():
        follow(fork, states.get, inherited)
    assert inherited == {1: (200, 500), 2: (500, 550)}
    assert need_of(root, inherited) == (200, 500)
    assert need_of(middle, inherited) == (500, 550)
    assert need_of(last, inherited) == (550, 900)
    assert need_of(other, inherited) == (420, 450)
    assert need_of(state(5, soft_deleted=True), inherited) == (0, 0)


def test_a_removal_is_remembered_as_long_as_an_older_segment_holds_of_it(opener):
    store = opener()
    store.create(A, initial_data=b"a")
    store.flush()
    store.create(B, initial_data=b"b")
    store.flush()
    store.delete(A)
    store.delete(B)
    store.flush()
    compactor = store._maintenance.compactor
    compactor._begin(segments(store)[::-1][1:3])
    while compactor.is_working:
        compactor._advance()
    newest, oldest = segments(store)
    assert row_in(newest, 1).row.state is None
    assert (row_in(newest, 2), newest.extent_count) == (None, 1)
    assert row_in(oldest, 1).row.state is not None
    store.compact(everything=True)
    assert segments(store)[0].extent_count == 0


def test_a_row_that_vanished_is_no_proof_that_its_stream_was_removed(opener):
    store = opener()
    store.create(A, initial_data=b"a" * 1000)
    store.create(B, forked_from=A)
    store.flush()
    metadata = store._engine.metadata
    metadata.rows_of = lambda stream_ids: ({}, set())
    store.compact(everything=True)
    del metadata.rows_of
    assert contents(store, A) == b"a" * 1000
    store.delete(A)
    store.flush()
    needs, rows_from = Needs(metadata), metadata.rows_from
    metadata.rows_from = lambda *of: {k: row for k, row in rows_from(*of).items() if k == 1}
    list(needs.look_for_forks(store._engine.checkpoint.lsn))
    assert needs.of([1]) == {1: Need(0, 1000)}
    del metadata.rows_from
    list(needs.look_for_forks(store._engine.checkpoint.lsn))
    assert needs.of([1]) == {1: Need(0, 1000)}
    assert not needs.is_doubtful(1)


def test_rows_are_merged_newest_first():
    def row(lsn, **producers):
        state = StreamState(1, "/a", "x", 0, 0, tail=lsn)
        states = {name: ProducerState(0, seq, 5) for name, seq in producers.items()}
        return segment_row(encode(Row(state, lsn)), states)

    merged = decode_segment_row(merged_row([row(1, p=1, q=1), row(2), row(3, q=7)]))
    assert (merged.row.lsn, merged.row.state.tail) == (3, 3)
    assert {name: state.last_seq for name, state in merged.producers.items()} == {"p": 1, "q": 7}
    assert merged_row([row(1), row(2)]) == row(2)
    assert merged_row([]) == b""
    assert is_removed(segment_row(encode(Row(None, 3)), {}))
    assert not is_removed(row(1))


# -- readers -------------------------------------------------------------------------------


def test_what_a_reader_holds_stays_until_it_lets_go(opener, tmp_path):
    store = opener()
    store.create(A, initial_data=b"a" * MIB)
    store.flush()
    store.append(A, b"b")
    store.flush()
    held = store.read(A)
    size = sum(segment.size for segment in segments(store))
    store.compact(everything=True)
    assert len(files(tmp_path / "data")) == 1
    reaper = store._engine.reaper
    reaper.reap()
    assert reaper.pinned_size == size
    assert bytes(held)[:MIB] == b"a" * MIB
    del held
    assert (reaper.pinned_size, reaper.reap()) == (0, 2)


def test_a_view_from_before_is_read_to_its_end(opener):
    store = opener()
    store.create(A, initial_data=b"a" * 1000)
    store.flush()
    entry, view = store._engine.run(lambda seen: store._engine.view(seen, A))
    store.append(A, b"b")
    store.flush()
    store.compact(everything=True)
    assert bytes(store._engine.read_files(entry, view, None, MIB)) == b"a" * 1000


# -- trouble -------------------------------------------------------------------------------


def test_damage_stays_where_it_is_and_hits_its_own_stream_only(opener, tmp_path, caplog):
    store = opener()
    store.create(A, initial_data=b"a" * MIB)
    store.create(B, initial_data=b"before;the damaged bytes")
    store.flush()
    store.append(A, b"more")
    store.flush()
    crash(store)
    flip_at(tmp_path / "data" / "segments" / f"{1:020d}.seg", b"the damaged bytes")
    store = opener()
    with caplog.at_level(logging.ERROR):
        store.compact(everything=True)
    assert len(segments(store)) == 2
    assert len(files(tmp_path / "data")) == 2
    assert "segment 1 cannot be merged and stays" in caplog.text
    with pytest.raises(StreamQuarantined):
        store.append(B, b"x")
    with pytest.raises((Damaged, StreamQuarantined)):
        store.read(B)
    store.append(A, b"on")
    assert contents(store, A) == b"a" * MIB + b"moreon"
    for _ in range(3):
        store.append(A, b"!")
        store.flush()
    store.compact()
    assert len(segments(store)) == 5, "within its bound"
    store.delete(B)
    store.flush()
    store.compact(everything=True)
    assert len(segments(store)) == 1
    assert contents(store, A) == b"a" * MIB + b"moreon!!!"


@pytest.fixture
def mostly_dead(tmp_path):
    """A store with a reserve and 3 MiB that a merge would free; its disk, where the reserve is."""
    disk = WatchedDisk()
    store = FileBackedStreamStore(
        tmp_path / "data", limits=SMALL_LIMITS, disk=DelegatedDisk(disk), threads=False,
        options=replace(SMALL_STORE, reserve_size=4 * MIB),
    )  # fmt: skip
    reserve = tmp_path / "data" / "reserve"
    store._maintenance._reserve.fill()
    assert reserve.exists()
    store.create(A, initial_data=b"a" * MIB)
    store.create(B, initial_data=b"b" * 3 * MIB)
    store.flush()
    store.delete(B)
    store.flush()
    yield store, disk, reserve
    disk.fail = lambda name, number: 0
    store.close()


def test_a_merge_that_cannot_be_made_gives_the_reserve_back(mostly_dead):
    store, disk, reserve = mostly_dead

    def full_then_unreadable(name, number):
        if reserve.exists():
            return errno.ENOSPC if name == "pwrite" else 0
        return errno.EIO if name == "pread" else 0

    disk.fail = full_then_unreadable
    store.compact()
    assert not reserve.exists()
    disk.fail = lambda name, number: 0
    store._maintenance.step()
    assert reserve.exists()
    assert not store._engine.disk_is_full


def test_a_full_disk_gives_up_its_reserve_for_a_merge_that_frees_space(mostly_dead):
    store, disk, reserve = mostly_dead

    def full(name, number):
        return errno.ENOSPC if name == "pwrite" and reserve.exists() else 0

    disk.fail = full
    store.compact()
    assert sum(segment.data_size for segment in segments(store)) == MIB
    disk.fail = lambda name, number: 0
    assert contents(store, A) == b"a" * MIB


def test_trouble_is_said_once_and_ends(opener, caplog):
    store = opener(segment_count_max=2)
    store.create(A)
    for _ in range(3):
        store.append(A, b"x")
        store.flush()
    compactor, metadata = store._maintenance.compactor, store._engine.metadata
    commit = metadata.commit

    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    metadata.commit = fail
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            store.compact()
    metadata.commit = commit
    store.compact()
    assert len(segments(store)) <= 2
    said = [r.message for r in caplog.records if r.name == "durastream.compaction"]
    assert said == [
        "compaction failed and is tried again: [Errno 5] Input/output error",
        "compaction works again",
    ]
    assert compactor._retry_delay == 1.0


def test_small_merges_go_first_while_a_large_one_is_under_way(opener, tmp_path):
    store = opener(segment_count_max=3)
    compactor = store._maintenance.compactor
    compactor.stop()  # its thread: here it does steps only when told
    store.create(A, initial_data=b"a" * MIB)
    store.create(B)
    store.flush()
    store.append(A, b"a" * MIB)
    store.flush()
    assert compactor._begin_all()
    for _ in range(4):
        compactor.step()
    expected, deepest = b"", 1
    for number in range(20):
        expected += b"%d," % number
        store.append(B, b"%d," % number)
        store.flush()
        while len(compactor._groups()) > 3:
            compactor.step()
            deepest = max(deepest, len(compactor._running))
        assert len(segments(store)) <= 9, "those allowed, and inputs of merges under way"
    assert deepest > 1
    assert contents(store, B) == expected
    store.compact()
    assert len(segments(store)) <= 3
    assert contents(store, A) == b"a" * 2 * MIB
    assert contents(store, B) == expected
    store.close()
    verify(tmp_path / "data")
    assert len(files(tmp_path / "data")) == len(store._engine.listed)


def test_a_merge_that_a_close_cuts_short_leaves_no_file(opener, tmp_path):
    store = opener()
    store.create(A)
    store.close()
    for steps in range(1, 12):
        store = opener()
        store.append(A, b"x")
        store.flush()
        compactor = store._maintenance.compactor
        compactor._begin_all()
        for _ in range(steps):
            compactor.step()
        store.close()
        verify(tmp_path / "data")
        assert len(files(tmp_path / "data")) == len(store._engine.listed)


def test_it_goes_on_by_itself(tmp_path):
    options = replace(SMALL_STORE, segment_count_max=2)
    with FileBackedStreamStore(tmp_path / "data", limits=SMALL_LIMITS, options=options) as store:
        store.create(A)
        for _ in range(8):
            store.append(A, b"x")
            store.flush()
        deadline = time.monotonic() + 20
        while len(segments(store)) > 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(segments(store)) <= 2
        assert contents(store, A) == b"x" * 8
