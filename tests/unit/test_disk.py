"""The disk seam: the real disk, and one in Python behind the same table."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import Disk, PosixDisk
from simulation.disk import SimulatedDisk


@pytest.fixture(params=["posix", "delegated"])
def disk_and_root(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    if request.param == "posix":
        return PosixDisk(), str(tmp_path)
    disk = DelegatedDisk(SimulatedDisk())
    disk.make_directory("root")
    return disk, "root"


def create(disk: Disk, path: str) -> int:
    return disk.open(path, os.O_RDWR | os.O_CREAT)


def test_files_and_names(disk_and_root: tuple[Disk, str]) -> None:
    disk, root = disk_and_root
    fd = create(disk, f"{root}/a")
    disk.pwrite(fd, b"hello", 3)
    disk.sync(fd)
    assert disk.size(fd) == 8
    assert disk.pread(fd, 100, 0) == b"\0\0\0hello"
    assert disk.pread(fd, 2, 4) == b"el"
    disk.allocate(fd, 0, 8192)
    assert disk.size(fd) == 8192
    disk.truncate(fd, 4)
    assert disk.pread(fd, 100, 0) == b"\0\0\0h"
    disk.close(fd)
    disk.rename(f"{root}/a", f"{root}/b")
    create(disk, f"{root}/c")
    disk.sync_directory(root)
    assert disk.list_directory(root) == ["b", "c"]
    disk.unlink(f"{root}/b")
    assert not disk.exists(f"{root}/b")
    assert disk.exists(f"{root}/c")


def test_directories(disk_and_root: tuple[Disk, str]) -> None:
    disk, root = disk_and_root
    disk.make_directory(f"{root}/d")
    assert disk.exists(f"{root}/d")
    with pytest.raises(FileExistsError):
        disk.make_directory(f"{root}/d")


def test_errors_carry_errno_and_name(disk_and_root: tuple[Disk, str]) -> None:
    disk, root = disk_and_root
    path = f"{root}/missing"
    for call in (lambda: disk.open(path), lambda: disk.unlink(path)):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert caught.value.filename == path
    with pytest.raises(OSError, match="descriptor 99999") as closed:
        disk.size(99999)
    assert closed.value.errno == errno.EBADF


def test_a_lock_is_held_by_one_descriptor(disk_and_root: tuple[Disk, str]) -> None:
    disk, root = disk_and_root
    first, second = create(disk, f"{root}/LOCK"), create(disk, f"{root}/LOCK")
    disk.lock(first)
    disk.lock(first)
    with pytest.raises(BlockingIOError, match="LOCK"):
        disk.lock(second)
    disk.close(first)
    disk.lock(second)


def test_clocks_and_chance() -> None:
    disk = PosixDisk()
    assert disk.wall_ms() > 1_600_000_000_000
    assert disk.monotonic_ns() <= disk.monotonic_ns()
    assert len({disk.random() for _ in range(8)}) == 8


def test_writes_go_on_after_short_ones() -> None:
    target = SimulatedDisk()
    target.make_directory("d")
    disk = DelegatedDisk(target)
    fd = create(disk, "d/a")
    target.faults = {target.call_count + 1 + call: "short" for call in range(3)}
    disk.pwrite(fd, bytes(range(100)), 5)
    assert disk.pread(fd, 100, 5) == bytes(range(100))
    assert [operation for operation, _ in target.trace].count("pwrite") == 4


class Broken:
    """A target whose every answer is wrong."""

    def open(self, path: str, flags: int) -> int:
        raise ZeroDivisionError("a bug of the simulator")

    def pwrite(self, fd: int, data: bytes, position: int) -> int:
        return 0

    def pread(self, fd: int, size: int, position: int) -> bytes:
        return bytes(size + 1)

    def sync(self, fd: int) -> None:
        raise OSError(errno.ENOSPC, "full")


def test_a_bug_of_the_target_is_kept_and_reads_as_an_io_error() -> None:
    disk = DelegatedDisk(Broken())  # type: ignore[arg-type]
    with pytest.raises(OSError, match="x") as caught:
        disk.open("x")
    assert caught.value.errno == errno.EIO
    assert isinstance(disk.error, ZeroDivisionError)


def test_wrong_answers_of_the_target_do_no_harm() -> None:
    disk = DelegatedDisk(Broken())  # type: ignore[arg-type]
    with pytest.raises(OSError, match="descriptor 3") as stuck:
        disk.pwrite(3, b"data", 0)
    assert stuck.value.errno == errno.EIO
    assert disk.error is None
    with pytest.raises(OSError, match="descriptor 3"):
        disk.pread(3, 10, 0)
    assert isinstance(disk.error, ValueError)
    with pytest.raises(OSError, match="descriptor 3") as full:
        disk.sync(3)
    assert full.value.errno == errno.ENOSPC
