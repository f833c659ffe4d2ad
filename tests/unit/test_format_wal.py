"""docs/format-wal.md, the golden file and both readers say the same, to the byte."""

from __future__ import annotations

import re
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.tail import Tail
from durastream.engine.wal_py import FileHeader, WalError, read_file_header, read_frames
from simulation.disk import SimulatedDisk
from simulation.logs import PAGE, Replay, Writer, new_disk, open_log, small_log, wal_path

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "wal-1.wal"
DOCUMENT = TESTS.parent / "docs" / "format-wal.md"
OPTIONS = {"file_size": 4 * PAGE, "slab_size": PAGE}


def written() -> SimulatedDisk:
    """The document's example: one frame of two records, then the frame that proves it."""
    target = new_disk(seed=1)
    log, _, _ = open_log(target, **OPTIONS)
    tail = Tail(0)
    log.stage(1, 7, 0, b"made", b'{"a":1},2,', array("I", [8, 2]), tail)
    log.stage(2, 7, 10, b"closed", None, None, tail)
    log.commit_step()
    target.advance(1)
    log.commit_step(idle=True)
    log.close()
    return target


def test_the_writer_still_writes_the_golden_file() -> None:
    assert written().files()[wal_path(1)] == GOLDEN.read_bytes()


def test_the_documents_example_is_the_golden_file() -> None:
    example = DOCUMENT.read_text().split("## Example")[1]
    rows = re.findall(r"^(\d+) +((?:[0-9a-f]{2} ){7,15}[0-9a-f]{2})", example, re.MULTILINE)
    content = bytearray(GOLDEN.stat().st_size)
    for position, row in rows:
        octets = bytes.fromhex(row)
        content[int(position) : int(position) + len(octets)] = octets
    assert len(rows) > 20
    assert bytes(content) == GOLDEN.read_bytes()


def test_the_twin_reads_the_golden_file() -> None:
    header, (first, second) = read_frames(GOLDEN.read_bytes())
    assert (header.kind, header.sequence, header.size) == (2, 1, 4 * PAGE)
    data, close = first.records
    assert (data.header.lsn, data.header.stream_id, data.header.base) == (1, 7, 0)
    assert (data.message_sizes, data.meta, data.data) == ((8, 2), b"made", b'{"a":1},2,')
    assert (close.header.lsn, close.meta, close.data) == (2, b"closed", b"")
    assert (second.header.flags, second.header.watermark, second.records) == (2, 2, [])


def test_recovery_reads_the_golden_file() -> None:
    target = new_disk()
    fd = target.open(wal_path(1), 0o100 | 2)
    target.pwrite(fd, GOLDEN.read_bytes(), 0)
    log, replay = small_log(DelegatedDisk(target), **OPTIONS), Replay()
    recovery = log.recover(None, replay)
    assert replay.records == [(1, 1, 7, b"made"), (2, 2, 7, b"closed")]
    assert (recovery.proven_lsn, log.next_lsn) == (2, 3)


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.binary(min_size=1, max_size=300), st.booleans()),
        max_size=20,
    )
)
def test_the_twin_reads_whatever_is_written(appends: list[tuple[int, bytes, bool]]) -> None:
    target = new_disk()
    log, _, _ = open_log(target)
    writer = Writer(log)
    for stream_id, data, commit in appends:
        sizes = array("I", [1] * len(data)) if len(data) % 2 else None
        writer.append(stream_id, data, sizes)
        if commit:
            log.commit_step()
    log.commit_step()
    _, frames = read_frames(target.files()[wal_path(1)])
    records = [record for frame in frames for record in frame.records]
    assert [(r.header.stream_id, r.data) for r in records] == [a[:2] for a in appends]
    assert all(sum(record.message_sizes) == len(record.data) for record in records)


@pytest.mark.parametrize("offset", range(0, 128))
def test_every_byte_of_the_file_header_is_covered(offset: int) -> None:
    page = bytearray(GOLDEN.read_bytes()[:PAGE])
    page[offset] ^= 1
    with pytest.raises(WalError):
        read_file_header(bytes(page))


def test_the_header_has_no_field_that_the_twin_does_not_know() -> None:
    header = read_file_header(GOLDEN.read_bytes()[:PAGE])
    assert isinstance(header, FileHeader)
    assert GOLDEN.read_bytes()[128:PAGE] == bytes(PAGE - 128)
