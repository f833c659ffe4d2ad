"""Opening a data directory: what is written, and each thing that can be wrong with one."""

import errno
import json
import os

import pytest

from durastream._native.disk import PosixDisk
from durastream.engine.directory import FORMAT_VERSION, open_directory, open_error
from durastream.engine.errors import DirectoryInUse, OpenError, StoreFull, UnknownFormat


def opened(path):
    disk = PosixDisk()
    found = open_directory(disk, path)
    disk.close(found.lock)
    return found


def test_a_new_directory_gets_its_format_and_a_random_id(tmp_path):
    first, second = opened(tmp_path / "deep" / "a"), opened(tmp_path / "b")
    written = json.loads((tmp_path / "deep" / "a" / "FORMAT").read_text())
    assert written == {"format": 1, "store_id": first.store_id.hex(), "name": "durastream"}
    assert len(first.store_id) == 16
    assert first.store_id != second.store_id


def test_opening_again_keeps_the_id(tmp_path):
    assert opened(tmp_path).store_id == opened(tmp_path).store_id


def test_a_second_opener_is_told(tmp_path):
    disk = PosixDisk()
    held = open_directory(disk, tmp_path)
    with pytest.raises(DirectoryInUse, match="already open in another process or store"):
        open_directory(PosixDisk(), tmp_path)
    disk.close(held.lock)
    opened(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    opened(tmp_path)
    newer = {"format": FORMAT_VERSION + 1, "store_id": "0" * 32, "name": "durastream"}
    (tmp_path / "FORMAT").write_text(json.dumps(newer))
    with pytest.raises(UnknownFormat, match="upgrade durastream"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format":1}', '{"format":1,"store_id":"xyz"}', '{"format":"1"}']
)
def test_a_damaged_format_is_refused(tmp_path, content):
    opened(tmp_path)
    (tmp_path / "FORMAT").write_text(content)
    with pytest.raises(UnknownFormat, match="FORMAT"):
        opened(tmp_path)


def test_a_directory_of_others_is_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UnknownFormat, match=r"thesis\.tex"):
        opened(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OpenError, match="must be a directory"):
        opened(tmp_path / "file")
    with pytest.raises(OpenError, match="must be a directory"):
        opened(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOSPC, StoreFull, "the disk is full"),
        (errno.EROFS, OpenError, "read-only"),
        (errno.EACCES, OpenError, "no permission"),
        (errno.EIO, OpenError, "Input/output error"),
    ],
)
def test_system_errors_say_what_to_do(tmp_path, number, kind, text):
    found = open_error(tmp_path, OSError(number, os.strerror(number), "name"))
    assert isinstance(found, kind)
    assert text in str(found)


def test_no_flipped_bit_of_format_goes_unnoticed(tmp_path):
    opened(tmp_path)
    path = tmp_path / "FORMAT"
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        raw = bytearray(content)
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        if names_another_store(raw):
            continue  # another id: every file of the store says so
        with pytest.raises(OpenError):
            opened(tmp_path)


def names_another_store(raw):
    """Whether only the store id differs from what was written, and is one."""
    head, tail = b'{"format":1,"store_id":"', b'","name":"durastream"}\n'
    digits = raw[len(head) : -len(tail)]
    return (
        raw.startswith(head) and raw.endswith(tail) and not set(digits) - set(b"0123456789abcdef")
    )
