"""Logs of any bytes: scanned and recovered, or found damaged; nothing is made up, nothing hangs."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.wal_scan import WalScan
from durastream._native.wal_types import Checkpoint
from durastream.engine.wal_py import WalError, read_frames
from simulation.logs import (
    DIRECTORY,
    FILE_SIZE,
    STORE_ID,
    Writer,
    new_disk,
    open_log,
    wal_path,
)
from support.fuzzing import examples
from support.mutations import kept, mutated, mutations, sealed_wal

FRAMES_MAX = 10 * FILE_SIZE // 4096
REFUSALS = (OSError, ValueError)
checkpoints = st.none() | st.builds(
    Checkpoint, st.integers(0, 40), st.integers(0, 4), st.integers(0, 2 * FILE_SIZE)
)


class Named(dict):
    """Files by name; a failing test has no use for their bytes."""

    def __repr__(self):
        return "the original"


@pytest.fixture(scope="module")
def original() -> dict[str, bytes]:
    """Two files, linked: small frames, frames of several records, one of several pages."""
    target = new_disk()
    log, _, _ = open_log(target)
    writer = Writer(log)
    for number in range(14):
        for stream_id in range(1, 2 + number % 3):
            writer.append(stream_id, b"%d,%d;" % (stream_id, number) * (1 + 900 * (number == 5)))
        log.commit_step()
        log.commit_step(idle=True)
    log.close()
    files = target.files()
    assert len(files) == 2
    return Named(files)


@pytest.fixture(scope="module")
def records(original):
    found, data = replay_of(original, None)
    return Named(found=found, data=data)


def disk_of(files):
    target = new_disk()
    for path, content in files.items():
        fd = target.open(path, 0o102)
        target.pwrite(fd, content, 0)
        target.close(fd)
    return target


def replay_of(files, checkpoint):
    """What recovery hands out, and then that it can be used and does the same again."""
    target = disk_of(files)
    log, recovery, replay = open_log(target, checkpoint)
    found = list(replay.records), {i: replay.data(i) for i in replay.tails}
    if not recovery.damage:
        log.stage(1, 99, 0, b"more", b"data")
        assert log.commit_step()
    log.close()
    return found


def examine(files, checkpoint, right):
    """``right``: the records that there were; nothing else may come out. None: anything may."""
    with suppress(*REFUSALS):
        scan = WalScan(DelegatedDisk(disk_of(files)), DIRECTORY, STORE_ID, checkpoint)
        for count, _ in enumerate(scan):
            assert count < FRAMES_MAX
    with suppress(WalError):
        for content in files.values():
            read_frames(content)
    with suppress(*REFUSALS):
        found, data = replay_of(files, checkpoint)
        if right is not None:
            assert set(found) <= set(right["found"])
            assert all(piece in right["data"][stream_id] for stream_id, piece in data.items())


@examples(250)
@given(mutation=mutations(), which=st.integers(1, 2), checkpoint=checkpoints)
def test_mutated_logs(original, records, mutation, which, checkpoint):
    content = mutated(original[wal_path(which)], mutation["steps"])
    if mutation["sealed"]:
        content = sealed_wal(content)
    files = {**original, wal_path(which): content}
    examine(files, checkpoint, None if mutation["sealed"] else records)


@examples(60)
@given(contents=st.lists(st.binary(max_size=9000), min_size=1, max_size=3), checkpoint=checkpoints)
def test_any_bytes_as_logs(contents, checkpoint):
    examine(
        {wal_path(n): content for n, content in enumerate(contents, 1)},
        checkpoint,
        {"found": [], "data": {}},
    )


@examples(60)
@given(kept_files=st.sets(st.integers(1, 2)), names=st.permutations([1, 2]), size=st.integers(0))
def test_files_lost_and_exchanged(original, records, kept_files, names, size):
    files = {
        wal_path(name): original[wal_path(which)][: size % (2 * FILE_SIZE)]
        for which, name in zip([1, 2], names, strict=True)
        if which in kept_files
    }
    examine(files, None, records)


@pytest.mark.parametrize("number", range(len(kept("wal"))))
def test_what_was_found_once(original, number):
    mutation = kept("wal")[number]
    files = {name: mutated(content, mutation["steps"]) for name, content in original.items()}
    if mutation["sealed"]:
        files = {name: sealed_wal(content) for name, content in files.items()}
    examine(files, None, None)


def test_sealing_makes_checksums_agree(original, records):
    """Else the sealed mutations would all be refused at once, and show nothing."""
    assert {name: sealed_wal(content) for name, content in original.items()} == original
    content = bytearray(original[wal_path(1)])
    content[content.index(b"1,0;")] = ord("X")
    _, data = replay_of({**original, wal_path(1): sealed_wal(bytes(content))}, None)
    assert data[1] == b"X" + records["data"][1][1:]
