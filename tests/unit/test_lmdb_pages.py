"""The walk over LMDB's pages: nothing that a flip changes gets past it, and it always ends."""

import os
import random
import shutil

import lmdb
import pytest

from durastream._native.checksum import xxh64
from durastream._native.disk import PosixDisk
from durastream._native.lmdb_pages import check_pages
from durastream._native.lmdb_types import Doubt, PagesDamaged

TABLES = ("few", "many")
DISK = PosixDisk()


def stored(table: str, key: bytes, value: bytes) -> bytes:
    prefix = table.encode() + b"\x00" + len(key).to_bytes(2, "little")
    return value + xxh64(prefix + key + value).to_bytes(8, "little")


def write(folder, seed: int, commit_count: int = 6, row_count: int = 60) -> None:
    """Commits that insert, overwrite and delete rows, small ones and some with own pages."""
    rng = random.Random(seed)
    with lmdb.open(str(folder), map_size=1 << 26, max_dbs=8, sync=False) as env:
        tables = {name: env.open_db(name.encode()) for name in TABLES}
        for _ in range(commit_count):
            with env.begin(write=True) as txn:
                for _ in range(row_count):
                    name = rng.choice(TABLES)
                    key = b"%03d" % rng.randrange(200) + bytes(rng.choice([0, 20, 200]))
                    if rng.random() < 0.4:
                        txn.delete(key, db=tables[name])
                    else:
                        value = rng.randbytes(rng.choice([0, 9, 150, 1200, 5000]))
                        txn.put(key, stored(name, key, value), db=tables[name])


def rows(folder) -> dict[str, list[tuple[bytes, bytes]]]:
    with lmdb.open(str(folder), max_dbs=8, readonly=True, lock=False) as env:
        tables = {name: env.open_db(name.encode(), create=False) for name in TABLES}
        with env.begin() as txn:
            return {name: list(txn.cursor(db)) for name, db in tables.items()}


def check(folder):
    return check_pages(DISK, str(folder / "data.mdb"))


@pytest.mark.parametrize("seed", range(8))
def test_every_page_of_a_whole_file_is_accounted_for(tmp_path, seed):
    write(tmp_path, seed, commit_count=40)
    pages = check(tmp_path)
    for name, found in rows(tmp_path).items():
        total = sum(int.from_bytes(value[-8:], "little") for _, value in found)
        assert pages.tables[name] == (len(found), total % 2**64, [])
    assert pages.size == os.path.getsize(tmp_path / "data.mdb")
    with lmdb.open(str(tmp_path), max_dbs=8, readonly=True, lock=False) as env:
        assert pages.txn_id == env.info()["last_txnid"]


def test_no_flip_that_changes_what_lmdb_reads_goes_unnoticed(tmp_path):
    """Every byte of the meta pages' fields, and a sample of the rest."""
    write(tmp_path, 1, commit_count=3)
    path, expected, whole = tmp_path / "data.mdb", rows(tmp_path), check(tmp_path)
    content = path.read_bytes()
    rng = random.Random(2)
    places = [*range(160), *range(4096, 4096 + 160)]
    places += [rng.randrange(len(content)) for _ in range(2000)]
    unnoticed = 0
    with path.open("r+b", buffering=0) as file:
        for place in places:
            os.pwrite(file.fileno(), bytes([content[place] ^ 1 << rng.randrange(8)]), place)
            try:
                if check(tmp_path) == whole:
                    unnoticed += 1
                    assert rows(tmp_path) == expected, place
            except PagesDamaged:
                pass
            os.pwrite(file.fileno(), content[place : place + 1], place)
    assert unnoticed < 0.7 * len(places)  # space that nothing uses, and the older meta page


def test_a_damaged_row_is_told_with_its_neighbours(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=8) as env:
        db = env.open_db(b"few")
        with env.begin(write=True) as txn:
            for key in (b"a", b"b", b"d", b"e", b"f"):
                wrong = key in (b"b", b"d", b"f")
                txn.put(key, stored("few", b"other" if wrong else key, b"value"), db=db)
    assert check(tmp_path).tables["few"].doubts == [Doubt(b"a", b"e", 2), Doubt(b"e", None, 1)]


def test_a_row_too_short_for_a_checksum_is_damaged(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=8) as env:
        db = env.open_db(b"few")
        with env.begin(write=True) as txn:
            txn.put(b"a", b"short", db=db)
    assert check(tmp_path).tables["few"].doubts == [Doubt(None, None, 1)]


def test_random_pages_neither_kill_nor_hang(tmp_path):
    write(tmp_path, 3)
    path = tmp_path / "data.mdb"
    content = path.read_bytes()
    rng = random.Random(4)
    found = 0
    for _ in range(200):
        raw = bytearray(content)
        first = 4096 * rng.randrange(len(raw) // 4096) + rng.randrange(0, 64)
        size = rng.choice([8, 64, 4000])
        raw[first : first + size] = rng.randbytes(size)
        path.write_bytes(raw[: len(content)])
        try:
            check(tmp_path)
        except PagesDamaged:
            found += 1
    assert found > 20  # the rest hit pages that nothing uses, or values


@pytest.mark.parametrize("size", [0, 100, 4096, 8192, 20480])
def test_a_file_cut_short_is_damaged(tmp_path, size):
    write(tmp_path, 5)
    os.truncate(tmp_path / "data.mdb", size)
    with pytest.raises(PagesDamaged):
        check(tmp_path)


@pytest.mark.parametrize("last_page", [0, 2**64 - 1])
def test_an_impossible_last_page_is_damage(tmp_path, last_page):
    """It says how much memory the walk takes: two meta pages are the least."""
    write(tmp_path, 1)
    with open(tmp_path / "data.mdb", "r+b") as file:
        for page in (0, 1):
            file.seek(4096 * page + 136)
            file.write(last_page.to_bytes(8, "little"))
    with pytest.raises(PagesDamaged, match=r"last page|more pages than the file has"):
        check(tmp_path)


def test_the_pages_of_another_commit_are_damaged(tmp_path):
    """A meta page restored from an older copy: its transaction is not one of the last two."""
    write(tmp_path, 6, commit_count=2)
    old = (tmp_path / "data.mdb").read_bytes()
    shutil.copy(tmp_path / "data.mdb", tmp_path / "old")
    write(tmp_path, 7, commit_count=4)
    raw = bytearray((tmp_path / "data.mdb").read_bytes())
    raw[:4096] = old[:4096]
    (tmp_path / "data.mdb").write_bytes(raw)
    with pytest.raises(PagesDamaged, match="the last two commits"):
        check(tmp_path)


def test_a_missing_file_is_not_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        check(tmp_path)
