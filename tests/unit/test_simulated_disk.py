"""The simulated disk is as cruel as a real one may be, and no more: what was synced stays."""

import os

import pytest

from simulation.content import PAGE_SIZE, SECTOR_SIZE
from simulation.disk import FITTING, SimulatedDisk

SEEDS = range(300)


def disk_with_file():
    disk = SimulatedDisk()
    disk.make_directory("/")
    fd = disk.open("/f", os.O_CREAT | os.O_RDWR)
    disk.pwrite(fd, b"s" * PAGE_SIZE, 0)
    disk.sync(fd)
    disk.sync_directory("/")
    return disk, fd


def contents_after_crashes(disk):
    return {disk.crash(seed).files()["/f"] for seed in SEEDS}


def test_what_was_synced_stays_and_what_was_not_survives_in_any_way():
    disk, fd = disk_with_file()
    assert contents_after_crashes(disk) == {b"s" * PAGE_SIZE}
    disk.pwrite(fd, b"w" * 2 * PAGE_SIZE, PAGE_SIZE)
    found = contents_after_crashes(disk)
    assert {content[:PAGE_SIZE] for content in found} == {b"s" * PAGE_SIZE}
    rests = {content[PAGE_SIZE:] for content in found}
    assert {b"", b"w" * 2 * PAGE_SIZE, bytes(2 * PAGE_SIZE)} <= rests
    pages = {rest[at : at + SECTOR_SIZE] for rest in rests for at in range(0, 8192, SECTOR_SIZE)}
    assert any(set(page) - set(b"w\0") for page in pages), "nothing was scribbled"
    assert any(
        b"w" in rest[:PAGE_SIZE] and bytes(SECTOR_SIZE) in rest[:PAGE_SIZE] for rest in rests
    )


def test_overlapping_writes_survive_in_any_order():
    disk, fd = disk_with_file()
    disk.pwrite(fd, b"1" * PAGE_SIZE, 0)
    disk.pwrite(fd, b"2" * PAGE_SIZE, 0)
    assert {b"1" * PAGE_SIZE, b"2" * PAGE_SIZE, b"s" * PAGE_SIZE} <= contents_after_crashes(disk)


def test_what_was_cut_off_does_not_come_back_once_the_cut_is_there():
    disk, fd = disk_with_file()
    disk.pwrite(fd, b"1" * PAGE_SIZE, PAGE_SIZE)
    disk.truncate(fd, 0)
    disk.sync(fd)
    assert contents_after_crashes(disk) == {b""}


def test_a_write_to_a_synced_page_may_ruin_all_of_it_and_no_other():
    disk, fd = disk_with_file()
    disk.pwrite(fd, b"t" * PAGE_SIZE, PAGE_SIZE)
    disk.sync(fd)
    disk.pwrite(fd, b"x", PAGE_SIZE + 10)
    found = contents_after_crashes(disk)
    assert {content[:PAGE_SIZE] for content in found} == {b"s" * PAGE_SIZE}
    assert any(content[-1:] != b"t" for content in found)


def test_names_survive_in_any_subset_until_their_directory_is_synced():
    disk, _ = disk_with_file()
    disk.make_directory("/d")
    disk.close(disk.open("/g", os.O_CREAT | os.O_RDWR))
    disk.rename("/f", "/h")
    found = {(frozenset(after.files()), after.exists("/d")) for after in map(disk.crash, SEEDS)}
    names = [{"/f"}, {"/h"}, {"/f", "/g"}, {"/g", "/h"}]
    assert found == {(frozenset(n), made) for n in names for made in (True, False)}
    disk.sync_directory("/")
    for after in map(disk.crash, SEEDS):
        assert set(after.files()) == {"/g", "/h"}
        assert after.exists("/d")


def test_a_lost_directory_takes_along_what_is_in_it():
    disk, _ = disk_with_file()
    disk.make_directory("/d")
    disk.close(disk.open("/d/x", os.O_CREAT | os.O_RDWR))
    disk.sync_directory("/d")
    found = {(after.exists("/d"), after.exists("/d/x")) for after in map(disk.crash, SEEDS)}
    assert found == {(True, True), (False, False)}


def test_a_killed_process_leaves_the_page_cache_and_loses_its_lock():
    disk, fd = disk_with_file()
    disk.lock(fd)
    disk.pwrite(fd, b"x", 0)
    after = disk.kill()
    again = after.open("/f", os.O_RDWR)
    after.lock(again)
    assert after.pread(again, 1, 0) == b"x"
    assert b"s" * PAGE_SIZE in contents_after_crashes(after), "it became durable"
    with pytest.raises(OSError, match="power loss"):
        disk.pwrite(fd, b"y", 0)


def test_a_sync_that_lost_its_data_succeeds_the_next_time():
    disk, fd = disk_with_file()
    disk.pwrite(fd, b"x", 0)
    disk.faults = {disk.call_count + 1: "lost sync"}
    with pytest.raises(OSError, match="error"):
        disk.sync(fd)
    disk.sync(fd)
    assert disk.pread(fd, 1, 0) == b"x"
    assert contents_after_crashes(disk) == {b"s" * PAGE_SIZE}


def names_after_crashes(disk):
    return {tuple(disk.crash(seed).files()) for seed in SEEDS}


def test_a_directory_whose_sync_forgot_is_written_when_it_changes_once_more():
    disk, _ = disk_with_file()
    disk.rename("/f", "/g")
    disk.faults = {disk.call_count + 1: "lost sync"}
    with pytest.raises(OSError, match="error"):
        disk.sync_directory("/")
    disk.sync_directory("/")
    assert names_after_crashes(disk) == {("/f",), ("/g",)}, "nothing was left to write"
    disk.open("/h", os.O_CREAT | os.O_RDWR)
    disk.sync_directory("/")
    assert names_after_crashes(disk) == {("/g", "/h")}


def test_a_full_disk_takes_what_there_is_room_for():
    disk, fd = disk_with_file()
    disk.capacity = disk.used + 100
    assert disk.pwrite(fd, b"x" * 200, PAGE_SIZE) == 100
    for grow in (
        lambda: disk.pwrite(fd, b"x", PAGE_SIZE + 100),
        lambda: disk.allocate(fd, 0, 2 * PAGE_SIZE),
        lambda: disk.open("/g", os.O_CREAT | os.O_RDWR),
    ):
        with pytest.raises(OSError, match="No space left"):
            grow()
    assert disk.pwrite(fd, b"y" * 200, PAGE_SIZE - 100) == 200, "what is there can be overwritten"
    disk.truncate(fd, PAGE_SIZE)
    assert disk.pwrite(fd, b"x" * 200, PAGE_SIZE) == 100


@pytest.mark.parametrize("operation", ["open", "sync_directory", "rename"])
def test_any_fault_that_fits_is_drawn(operation):
    calls = {
        "open": lambda disk: disk.open("/f", os.O_RDWR),
        "sync_directory": lambda disk: disk.sync_directory("/"),
        "rename": lambda disk: disk.rename("/f", "/g"),
    }
    codes = set()
    for seed in range(100):
        disk, _ = disk_with_file()
        disk.rng.seed(seed)
        disk.faults = {disk.call_count + 1: "any"}
        with pytest.raises(OSError, match=r".") as caught:
            calls[operation](disk)
        codes.add(caught.value.errno)
    assert codes == {code for code in FITTING[operation] if isinstance(code, int)}
