"""Backups and restores of a file store: what is in them, what is refused, what goes on later."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import PosixDisk
from durastream.engine.backup import Backup
from durastream.engine.backup_log import LogMoved, require_unmoved, walk_log
from durastream.engine.backup_snapshot import NothingStored, ProcessSnapshot
from durastream.engine.backup_target import open_target
from durastream.engine.errors import BackupDamaged, DirectoryInUse, OpenError, UnknownFormat
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.metadata import SegmentEntry
from durastream.engine.options import KIB, MIB
from durastream.engine.restore import Restore
from support.backups import back_up, check, restore, shown, verified
from support.damage import flip, flip_at, log_file_with, picture, populate, segment_files
from support.segments import WatchedDisk
from support.stores import SMALL_LIMITS, SMALL_STORE, crash


@pytest.fixture
def store(opener):
    store = opener()
    populate(store)
    store.flush()
    store.append("/good", b"third;", producer_id="writer", producer_epoch=1, producer_seq=2)
    return store


@pytest.fixture
def target(tmp_path):
    return tmp_path / "backups"


def open_restored(path, clock):
    return FileBackedStreamStore(path, limits=SMALL_LIMITS, options=SMALL_STORE, clock=clock)


def finish(steps):
    for _ in steps:
        pass


# -- what a restore point holds ------------------------------------------------------------


def test_a_store_in_use_is_backed_up_and_restored(store, target, tmp_path, clock):
    before = shown(store)
    result = back_up(store.path, target)
    store.append("/good", b"later;")
    assert (result.point.stream_count, result.copied_segment_count) == (6, 1)
    restore(target, tmp_path / "restored")
    verified(tmp_path / "restored")
    with open_restored(tmp_path / "restored", clock) as restored:
        assert shown(restored) == before
        again = restored.append(
            "/good", b"third;", producer_id="writer", producer_epoch=1, producer_seq=2
        )
        assert again.producer.status == "duplicate"
        restored.append("/good", b"goes on;")
        restored.flush()
        assert bytes(restored.read("/good")) == b"first;second;third;goes on;"
    verified(tmp_path / "restored")


def test_the_engine_has_it_as_a_call(store, target, tmp_path, clock):
    assert store.backup(target).kept_segment_count == 0
    result = store.backup(str(target), keep=1)
    assert (result.kept_segment_count, len(result.pruned)) == (1, 1)


def test_the_source_is_not_changed(store, target):
    crash(store)
    before = picture(store.path)
    back_up(store.path, target)
    after = picture(store.path)
    before.pop("meta.lmdb/lock.mdb"), after.pop("meta.lmdb/lock.mdb")
    assert after == before


def test_each_restore_point_is_a_moment(store, target, tmp_path, clock):
    moments = []
    for number in range(4):
        store.append("/json", b"%d" % number)
        if number % 2:
            store.flush()
        moments.append((back_up(store.path, target).point.id, shown(store)))
    assert not check(target).is_damaged
    for point, before in moments:
        restore(target, tmp_path / point, point)
        verified(tmp_path / point)
        with open_restored(tmp_path / point, clock) as restored:
            assert shown(restored) == before


def test_segments_are_copied_once_and_shared(store, target):
    first = back_up(store.path, target)
    store.append("/bad", b"more")
    store.flush()
    second = back_up(store.path, target)
    assert (second.copied_segment_count, second.kept_segment_count) == (1, 1)
    assert second.copied_size < second.point.size - segment_files(store.path)[0].stat().st_size / 2
    shared = {f.stored for f in first.point.files} & {f.stored for f in second.point.files}
    assert len(shared) == 1
    assert len(segment_files(target)) == 2


def test_what_lies_before_the_checkpoint_in_the_log_is_left_out(opener, target, tmp_path, clock):
    store = opener()
    store.create("/a")
    for _ in range(40):
        store.append("/a", os.urandom(64 * KIB))
    store.flush()
    store.append("/a", b"behind it")
    log = [f for f in back_up(store.path, target).point.files if f.name.startswith("wal/")]
    assert sum(file.stored_size for file in log) < 256 * KIB  # of more than 2 MiB
    restore(target, tmp_path / "restored")
    verified(tmp_path / "restored")
    with open_restored(tmp_path / "restored", clock) as restored:
        assert shown(restored) == shown(store)


def test_a_log_of_several_files(opener, target, tmp_path, clock):
    store = opener(wal_size_max=128 * MIB, flush_size=64 * MIB)
    store.create("/a")
    for _ in range(5):
        store.append("/a", os.urandom(3 * MIB))
    log = [f for f in back_up(store.path, target).point.files if f.name.startswith("wal/")]
    assert len(log) >= 2
    restore(target, tmp_path / "restored")
    with open_restored(tmp_path / "restored", clock) as restored:
        assert restored.get("/a").current_offset == store.get("/a").current_offset


# -- a store that moves on meanwhile -------------------------------------------------------


class Moving(ProcessSnapshot):
    """Between the snapshot of the rows and the copy of the log, the store goes on."""

    def __init__(self, directory, store, moves):
        super().__init__(directory)
        if moves:
            moves.pop()(store, self.head)


def roll_the_log(store, head):
    for _ in range(8):
        store.append("/bad", os.urandom(3 * MIB))
        store.flush()
        while store._engine.log.prepare_spare_step():
            pass


def lose_a_segment(store, head):
    head.segments.append(SegmentEntry(99, 0, 0, 0, 4096))


def compact(store, head):
    store.append("/bad", b"something new")
    store.flush()
    store.compact(everything=True)
    assert head.segments[0].number not in {s.number for s in store._engine.segments}


@pytest.mark.parametrize("move", [roll_the_log, lose_a_segment, compact])
def test_what_moves_away_is_looked_for_again(store, target, tmp_path, clock, move):
    moves = [move, move]
    result = back_up(store.path, target, snapshot=lambda rows: Moving(rows, store, moves))
    assert result.attempt_count == 3
    restore(target, tmp_path / "restored")
    verified(tmp_path / "restored")
    with open_restored(tmp_path / "restored", clock) as restored:
        assert shown(restored) == shown(store)


def without_a_file(store, number):
    """A disk where the log's file that is opened as the ``number``th has just been recycled."""
    disk, opened = WatchedDisk(), []

    def fail(name, _):
        path = str(disk.calls[-1][1][:1])
        if name == "open" and f"{store.path}/wal" in path:
            opened.append(path)
            return errno.ENOENT if len(opened) == number else 0
        return 0

    disk.fail = fail
    return disk, opened


def test_a_file_of_the_log_that_is_gone_whenever_it_is_opened_is_looked_for_again(store, tmp_path):
    number = 1
    while True:
        disk, opened = without_a_file(store, number)
        result = back_up(store.path, tmp_path / f"backups-{number}", disk=DelegatedDisk(disk))
        if len(opened) < number:
            break
        assert result.attempt_count == 2
        number += 1
    assert number > 4


def test_a_log_that_was_recycled_is_noticed_though_it_looks_whole(store, clock):
    disk, wal, checkpoint = PosixDisk(), store.path / "wal", store._engine.checkpoint
    store_id = store._engine.directory.store_id
    extent = walk_log(disk, wal, store_id, checkpoint)
    require_unmoved(disk, wal, store_id, extent.parts)
    roll_the_log(store, None)
    with pytest.raises(LogMoved):
        require_unmoved(disk, wal, store_id, extent.parts)


# -- interrupted ---------------------------------------------------------------------------


def test_an_interrupted_backup_goes_on(store, target):
    store.append("/until", os.urandom(2 * MIB))
    store.flush()
    steps = Backup(store.path, target).run()
    while len(segment_files(target)) < 1:
        next(steps)
    steps.close()
    assert check(target).points == []
    first = {path: path.stat().st_ino for path in segment_files(target)}
    back_up(store.path, target)
    for path, inode in first.items():
        assert path.stat().st_ino == inode, "copied a second time"
    assert not check(target).is_damaged


def test_what_an_interrupted_backup_left_is_proven_before_it_is_used(store, target):
    store.append("/bad", b"for a second segment")
    store.flush()
    steps = Backup(store.path, target).run()
    while len(segment_files(target)) < 1:
        next(steps)
    steps.close()
    flip(segment_files(target)[0], 10_000)
    back_up(store.path, target)
    assert not check(target).is_damaged


def test_an_interrupted_restore_goes_on(store, target, tmp_path, clock):
    back_up(store.path, target)
    directory = tmp_path / "restored"
    steps = Restore(target, directory).run()
    while not list((directory / "wal").glob("0*.wal")):
        next(steps)
    steps.close()
    with pytest.raises(UnknownFormat, match="an unfinished restore"):
        open_restored(directory, clock)
    assert restore(target, directory).kept_file_count == 2
    with open_restored(directory, clock) as restored:
        assert shown(restored) == shown(store)


def test_an_unfinished_restore_of_another_point_is_not_mixed(store, target, tmp_path):
    first = back_up(store.path, target).point.id
    back_up(store.path, target)
    steps = Restore(target, tmp_path / "restored", first).run()
    next(steps)
    steps.close()
    with pytest.raises(OpenError, match=f"unfinished restore of {first}"):
        restore(target, tmp_path / "restored")
    restore(target, tmp_path / "restored", first)


# -- old restore points --------------------------------------------------------------------


def test_old_restore_points_go_and_what_only_they_needed(store, target):
    points = []
    for _ in range(4):
        store.append("/bad", b"more")
        points.append(back_up(store.path, target, keep=2).point.id)
    assert [point.id for point in check(target).points] == points[-2:]
    assert {path.name for path in (target / "points").iterdir()} == {
        name for point in points[-2:] for name in (point, f"{point}.json")
    }
    (target / "segments" / "00000000000000000007-0000000000000000.seg").write_bytes(b"unneeded")
    back_up(store.path, target, keep=1)
    assert len(segment_files(target)) == 1


# -- damage --------------------------------------------------------------------------------


def refused(source, target):
    with pytest.raises(BackupDamaged) as caught:
        back_up(source, target)
    assert check(target).points == []
    return caught.value


def test_damage_in_a_segment_is_named_and_not_copied(store, target):
    store.close()
    flip(segment_files(store.path)[0], 20_000)
    error = refused(store.path, target)
    assert error.where.startswith("segments/00000000000000000001.seg, byte ")
    assert segment_files(target) == []


def test_damage_in_the_log_is_named(store, target):
    store.append("/bad", b"another")
    crash(store)
    flip_at(log_file_with(store.path, b"third;"), b"third;")
    error = refused(store.path, target)
    assert "body of record" in str(error)
    assert error.where.startswith("wal/")


def test_damage_in_the_rows_is_named(store, target):
    store.close()
    file = store.path / "meta.lmdb/data.mdb"
    raw = file.read_bytes()
    assert b"/fork-of-fork" in raw
    file.write_bytes(raw.replace(b"/fork-of-fork", b"/fork-of-fori"))
    assert refused(store.path, target).where == "meta.lmdb/data.mdb"


def test_rows_that_kill_their_reader_are_named(store, target):
    store.close()
    os.truncate(store.path / "meta.lmdb/data.mdb", 8192)
    assert refused(store.path, target).where == "meta.lmdb/data.mdb"


def test_a_missing_segment_is_named(store, target):
    store.close()
    segment_files(store.path)[0].unlink()
    assert "a segment is missing" in str(refused(store.path, target))


def test_a_store_damaged_later_keeps_the_good_copy(store, target, tmp_path):
    back_up(store.path, target)
    flip(segment_files(store.path)[0], 20_000)
    back_up(store.path, target)
    restore(target, tmp_path / "restored")
    verified(tmp_path / "restored")


def stored_files(target):
    return sorted(p for p in target.rglob("*") if p.is_file() and p.name not in ("LOCK", "BACKUP"))


def damage(file, how):
    if how == "flip":
        flip(file, file.stat().st_size // 2)
    elif how == "cut":
        os.truncate(file, file.stat().st_size - 1)
    else:
        file.unlink()


def test_damage_in_the_backup_is_found_and_never_restored(store, target, tmp_path):
    point = back_up(store.path, target).point.id
    files = [str(file.relative_to(target)) for file in stored_files(target)]
    cases = [(file, how) for file in files for how in ("flip", "cut", "remove")]
    cases.remove((f"points/{point}.json", "remove"))  # then the restore point does not exist
    assert len(cases) == 11
    for number, (file, how) in enumerate(cases):
        copy, directory = tmp_path / f"copy-{number}", tmp_path / f"restored-{number}"
        shutil.copytree(target, copy)
        damage(copy / file, how)
        (finding,) = check(copy).findings
        assert (finding.file, finding.points) == (file, [point])
        with pytest.raises(BackupDamaged) as caught:
            restore(copy, directory)
        assert caught.value.where == file
        assert not (directory / "FORMAT").exists()


def test_a_damaged_manifest_stops_what_would_remove_files(store, target):
    back_up(store.path, target)
    back_up(store.path, target)
    manifest = sorted((target / "points").glob("*.json"))[0]
    flip(manifest, 100)
    with pytest.raises(BackupDamaged, match=f"points/{manifest.name}; to go on without"):
        back_up(store.path, target, keep=1)
    manifest.unlink()
    back_up(store.path, target, keep=1)
    assert not check(target).is_damaged


# -- refusals ------------------------------------------------------------------------------


def test_places_that_will_not_do(store, target, tmp_path, opener):
    with pytest.raises(OpenError, match="lies in the data directory"):
        back_up(store.path, store.path / "backups")
    with pytest.raises(OpenError, match="no FORMAT file"):
        back_up(tmp_path / "nothing", target)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OpenError, match="not a folder of backups"):
        back_up(store.path, tmp_path / "full")
    with pytest.raises(OpenError, match="no backups are here"):
        check(tmp_path / "full")
    back_up(store.path, target)
    with pytest.raises(OpenError, match="choose an empty or new directory"):
        restore(target, tmp_path / "full")
    with pytest.raises(OpenError, match="holds a store"):
        restore(target, store.path)
    with pytest.raises(OpenError, match="no restore point 1999"):
        restore(target, tmp_path / "new", "1999")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="at least 1"):
        Backup(store.path, target, keep=0)


def test_a_target_belongs_to_one_store(store, target, tmp_path, clock):
    back_up(store.path, target)
    other = tmp_path / "other"
    open_restored(other, clock).close()
    with pytest.raises(OpenError, match="backups of another store"):
        back_up(other, target)


def test_one_at_a_time(store, target):
    back_up(store.path, target)
    busy = pytest.raises(DirectoryInUse, match="another backup or restore")
    with open_target(PosixDisk(), target), busy:
        back_up(store.path, target)


def test_a_directory_without_a_store(tmp_path, target, store):
    empty = tmp_path / "empty"
    (empty / "meta.lmdb").mkdir(parents=True)
    (empty / "FORMAT").write_bytes((store.path / "FORMAT").read_bytes())
    with pytest.raises((NothingStored, OpenError)):
        back_up(empty, target)


def test_histories_that_parted_share_a_target(store, target, tmp_path, clock):
    """A restored store goes on with the numbers of segments that the lost history used."""
    back_up(store.path, target)
    restore(target, tmp_path / "restored")
    store.append("/bad", b"one history")
    store.flush()
    one = back_up(store.path, target).point.id
    with open_restored(tmp_path / "restored", clock) as other:
        other.append("/bad", b"another history")
        other.flush()
        two = back_up(other.path, target).point.id
        expected = {one: shown(store), two: shown(other)}
    assert not check(target).is_damaged
    for point, content in expected.items():
        restore(target, tmp_path / point, point)
        with open_restored(tmp_path / point, clock) as restored:
            assert shown(restored) == content
