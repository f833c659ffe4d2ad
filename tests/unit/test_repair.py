"""Repair of rows, of nothing at all, and who may not be repaired."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from durastream.engine.errors import DirectoryInUse, OpenError, UnknownFormat
from durastream.engine.metadata import id_key
from durastream.engine.repair import Repair
from durastream.engine.repair_run import repair_directory
from support.damage import (
    change_state,
    flip,
    lose_row,
    picture,
    populate,
)
from support.repair import check_repair, damage_codes, seen
from support.stores import crash

GOOD, BAD, JSON = 1, 2, 3  # stream ids


def harm_log(folder):
    """Damage a record: of the stream /bad, which is nowhere else."""
    for path in (folder / "wal").glob("0*.wal"):
        raw = path.read_bytes()
        if b"after;" in raw:
            flip(path, raw.index(b"after;"))


# -- nothing to do -------------------------------------------------------------------------


def test_a_whole_store_is_left_alone(used, folder):
    picture_before = picture(folder)
    outcome = repair_directory(folder)
    assert (outcome.report, outcome.found, outcome.is_done) == (None, [], False)
    assert picture(folder) == picture_before


def test_a_dry_run_changes_nothing(used, folder):
    harm_log(folder)
    picture_before = picture(folder)
    outcome = repair_directory(folder, may_change=False)
    assert outcome.report.has_losses
    assert not outcome.is_done
    assert picture(folder) == picture_before


def test_who_does_not_approve_keeps_everything(used, folder):
    harm_log(folder)
    picture_before = picture(folder)
    assert not repair_directory(folder, approve=lambda found, report: False).is_done
    assert picture(folder) == picture_before


def test_a_store_in_use_is_refused(used, folder, quick_opener):
    store = quick_opener()
    with pytest.raises(DirectoryInUse):
        repair_directory(folder)
    store.append("/good", b"still at work")


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(UnknownFormat):
        repair_directory(tmp_path)
    with pytest.raises(UnknownFormat):
        Repair(tmp_path / "none").__enter__()


# -- rows ----------------------------------------------------------------------------------


def lose_rows(folder):
    shutil.rmtree(folder / "meta.lmdb")


def cut_rows(folder):
    os.truncate(folder / "meta.lmdb" / "data.mdb", 8192)


def flip_row(folder):
    raw = (folder / "meta.lmdb" / "data.mdb").read_bytes()
    for found in re.finditer(rb"/until", raw):
        flip(folder / "meta.lmdb" / "data.mdb", found.start() + 1)


def vanish_row(folder):
    lose_row(folder, "streams", id_key(JSON))


def vanish_segment(folder):
    lose_row(folder, "segments", id_key(1))


def falsify_row(folder):
    change_state(folder, GOOD, tail=3)


def falsify_references(folder):
    change_state(folder, BAD, ref_count=7)


@pytest.mark.parametrize(
    "harm",
    [lose_rows, cut_rows, flip_row, vanish_row, vanish_segment, falsify_row, falsify_references],
)
def test_rows_are_rebuilt_from_segments_and_log(used, folder, quick_opener, harm):
    harm(folder)
    assert damage_codes(folder)
    outcome = check_repair(folder, quick_opener, used)
    assert not outcome.has_losses
    kept = folder / outcome.report.folder / "meta.lmdb"
    assert kept.exists() == (harm is not lose_rows)


def test_an_older_copy_of_the_rows_is_no_guide(quick_opener, folder, tmp_path):
    store = quick_opener()
    populate(store)
    store.flush()
    crash(store)
    shutil.copytree(folder / "meta.lmdb", tmp_path / "older")
    store = quick_opener()
    store.delete("/json")
    store.append("/good", b"third;", producer_id="writer", producer_epoch=4, producer_seq=0)
    store.create("/new", initial_data=b"new")
    expected = seen(store)
    store.flush()
    crash(store)
    shutil.rmtree(folder / "meta.lmdb")
    shutil.copytree(tmp_path / "older", folder / "meta.lmdb")
    outcome = check_repair(folder, quick_opener, expected)
    assert not outcome.has_losses


def test_rows_of_another_store_are_no_guide(used, folder, quick_opener, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    shutil.rmtree(folder)
    store = quick_opener()
    store.create("/alien", initial_data=b"alien")
    store.flush()
    store.append("/alien", b"!")
    crash(store)
    for name in ("wal", "segments", "FORMAT"):
        target = folder / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        (shutil.copytree if name != "FORMAT" else shutil.copy)(other / name, target)
    outcome = check_repair(folder, quick_opener, used)
    assert not outcome.has_losses


def test_rows_that_kill_their_reader_are_rebuilt(used, folder, quick_opener):
    path = folder / "meta.lmdb" / "data.mdb"
    raw = bytearray(path.read_bytes())
    for page in range(2 * 4096, len(raw), 4096):
        raw[page + 10 : page + 16] = b"\xff" * 6  # where a page says what it is, and how full
    path.write_bytes(raw)
    outcome = repair_directory(folder)
    assert outcome.is_done
    assert outcome.left == []
    assert not outcome.has_losses
    store = quick_opener()
    assert seen(store) == used


def test_a_copy_without_a_lock_is_locked_all_the_same(used, folder, quick_opener):
    (folder / "LOCK").unlink()
    harm_log(folder)
    before = picture(folder)
    assert repair_directory(folder, may_change=False).report is not None
    assert picture(folder) == before
    with Repair(folder), pytest.raises(DirectoryInUse):
        quick_opener()
    with Repair(folder, may_change=False) as repair:
        (folder / "LOCK").unlink()
    with Repair(folder, may_change=False) as repair, pytest.raises(OpenError):
        list(repair.run())
