"""``MappedFile``: a mapping lives as long as anything refers to it, and no longer."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import PosixDisk
from durastream._native.mapped_file import MappedFile
from support.segments import WatchedDisk


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    return tmp_path / "file"


def mappings_of(path):
    with open("/proc/self/maps") as maps:
        return sum(str(path) in line for line in maps)


def descriptors_of(path):
    targets = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(target.startswith(str(path)) for target in targets)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's /proc")
def test_the_last_view_ends_the_mapping(path):
    file = MappedFile(PosixDisk(), str(path))
    view = memoryview(file)[3:5]
    path.unlink()  # which does not touch it
    del file
    assert (bytes(view), view.readonly) == (b"34", True)
    assert (mappings_of(path), descriptors_of(path)) == (1, 1)
    del view
    assert (mappings_of(path), descriptors_of(path)) == (0, 0)


def test_an_empty_file_has_nothing_to_map(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    file = MappedFile(PosixDisk(), str(tmp_path / "empty"))
    assert (file.size, bytes(memoryview(file))) == (0, b"")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        MappedFile(PosixDisk(), str(tmp_path / "missing"))


@pytest.mark.parametrize("call", ["open", "size"])
def test_a_failure_leaves_no_descriptor(path, call):
    watched = WatchedDisk()
    watched.fail = lambda name, _: errno.EMFILE if name == call else 0
    with pytest.raises(OSError, match="file") as caught:
        MappedFile(DelegatedDisk(watched), str(path))
    assert caught.value.errno == errno.EMFILE
    assert watched.count("close") == watched.count("open") - (call == "open")
