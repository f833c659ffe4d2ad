"""The walk over LMDB's pages: nothing that a flip changes gets past it, and it always ends."""

import os
import random
import shutil
import struct
from contextlib import contextmanager

import lmdb
import pytest

from durastream._native.checksum import xxh64
from durastream._native.disk import PosixDisk
from durastream._native.lmdb_pages import check_pages
from durastream._native.lmdb_types import Doubt, PagesDamaged
from durastream.engine.errors import Damaged
from durastream.engine.metadata_file import check_commit

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


@pytest.mark.parametrize("txn_id", [0, 1 << 40])
def test_pages_that_no_transaction_can_have_freed_are_damage(tmp_path, txn_id):
    """LMDB would use those of transaction 0 and go on listing them as free."""
    write(tmp_path, 8)
    raw = bytearray((tmp_path / "data.mdb").read_bytes())
    page = 4096 * root_page(tmp_path, tree=0)
    key = page + struct.unpack_from("<H", raw, page + 16)[0] + 8
    assert 0 < struct.unpack_from("<Q", raw, key)[0] < 100
    struct.pack_into("<Q", raw, key, txn_id)
    (tmp_path / "data.mdb").write_bytes(raw)
    with pytest.raises(PagesDamaged, match=r"free pages|not in order"):
        check(tmp_path)


def test_a_missing_file_is_not_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        check(tmp_path)


@pytest.fixture
def busy(tmp_path):
    """An environment that goes on committing, and what does it."""
    write(tmp_path, 8)
    with lmdb.open(str(tmp_path), max_dbs=8) as env:
        few = env.open_db(b"few")

        def commit():
            with env.begin(write=True) as txn:
                for key in (b"new", os.urandom(8)):
                    txn.put(key, stored("few", key, os.urandom(2000)), db=few)

        yield env, commit


def test_a_pinned_commit_is_checked_beside_the_next_one(tmp_path, busy):
    env, commit = busy
    path = str(tmp_path / "data.mdb")
    commit()
    with env.begin() as pinned:
        before = check_pages(DISK, path, pinned.id())
        commit()
        assert check_pages(DISK, path, pinned.id()) == before
        assert check(tmp_path).tables["few"].row_count == before.tables["few"].row_count + 1
        commit()
        with pytest.raises(PagesDamaged, match="two commits came since"):
            check_pages(DISK, path, pinned.id())


def test_a_look_that_lost_the_race_is_taken_again(tmp_path, busy):
    env, commit = busy
    looks = []

    @contextmanager
    def pin():
        with env.begin() as txn:
            looks.append(txn.id())
            if len(looks) < 3:
                commit()
                commit()
            yield txn.id()

    assert check_commit(tmp_path / "data.mdb", pin).txn_id == looks[-1]
    assert len(looks) == 3


def test_damage_is_there_at_every_look(tmp_path, busy):
    env, _ = busy
    flip(tmp_path / "data.mdb", env.stat()["psize"] * root_page(tmp_path))

    @contextmanager
    def pin():
        with env.begin() as txn:
            yield txn.id()

    with pytest.raises(Damaged, match="bears the number of another page"):
        check_commit(tmp_path / "data.mdb", pin)


def root_page(folder, tree: int = 1) -> int:
    """That of the tree of free pages, or of tables (1), as the newer meta page names it."""
    raw = (folder / "data.mdb").read_bytes()
    newer = max((0, 1), key=lambda page: struct.unpack_from("<Q", raw, 4096 * page + 144))
    return int(struct.unpack_from("<Q", raw, 4096 * newer + 80 + 48 * tree)[0])


def flip(path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))
