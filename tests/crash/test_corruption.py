"""A few cases of every class of the corruption matrix; benchmarks/corrupt.py runs thousands."""

from __future__ import annotations

import random

import pytest

from corruption import specimen as specimens
from corruption.classes import Harm
from corruption.judge import Judge
from corruption.matrix import Matrix
from corruption.mutation import damage
from corruption.repairing import RepairJudge
from corruption.worker import Worker
from durastream.engine.ranges import RangeReader

SEED = 21
CASES_PER_CLASS = 3


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return Matrix(SEED, tmp_path_factory.mktemp("corruption"))


def test_every_class_is_detected_or_harmless(matrix):
    """Judged in this process: were it to die, the test would."""
    broken = []
    for name in matrix.names:
        for number in range(CASES_PER_CLASS):
            outcome = matrix.run(name, number)
            if outcome["broken"]:
                broken.append((name, number, outcome["what"], outcome["broken"]))
    assert broken == []


def test_a_specimen_is_whole_and_has_every_part(matrix, tmp_path):
    outcome = Judge(matrix.specimen, tmp_path / "data").judge(
        matrix.specimen.files, Harm.NONE, again=True
    )
    assert (outcome.opened, outcome.broken) == ("writable", [])
    kinds = {byte_class.harm for byte_class in matrix.classes.values()}
    assert kinds == set(Harm)
    for name in ("lmdb branch: child", "lmdb value's page: number", "record: sizes",
                 "rewritten record: data", "LINK frame", "watermark frame",
                 "checksums of ends", "log: spare file"):  # fmt: skip
        assert name in matrix.classes


def test_the_same_seed_makes_the_same_bytes(matrix, tmp_path):
    assert specimens.build(SEED, tmp_path / "again").files == matrix.specimen.files


@pytest.mark.parametrize(
    ("promise", "broken_by"),
    [
        ("verify found nothing", "blind"),
        ("instead of", "wrong bytes"),
        ("is missing", "not there"),
    ],
)
def test_the_judge_notices_what_is_wrong(matrix, tmp_path, monkeypatch, promise, broken_by):
    judge = Judge(matrix.specimen, tmp_path / "data")
    if broken_by == "blind":
        monkeypatch.setattr(judge, "_verify", lambda: None)
    elif broken_by == "wrong bytes":
        monkeypatch.setattr("durastream.engine.file_engine.RangeReader.read", _other_bytes)
    else:
        monkeypatch.setattr("durastream.engine.metadata.Metadata.find", lambda *_: None)
    outcome = judge.judge(matrix.specimen.files, Harm.UNREAD)
    assert any(promise in what for what in outcome.broken)


def test_a_hit_in_the_number_of_the_format_is_explained(matrix, tmp_path):
    """FORMAT has no checksum: it may be that of a newer version, which nobody here may touch."""
    files = {**matrix.specimen.files}
    files["FORMAT"] = files["FORMAT"].replace(b'"format":1,', b'"format":3,')
    outcome = Judge(matrix.specimen, tmp_path / "data").judge(files, Harm.STORE)
    assert (outcome.opened, outcome.broken) == ("refused", [])
    for told in (outcome.error, *outcome.findings):
        assert "FORMAT is damaged" in told
    assert RepairJudge(matrix.specimen, tmp_path / "repaired").judge(files, None) == []
    assert (tmp_path / "repaired" / "FORMAT").read_bytes() == files["FORMAT"]


def _other_bytes(reader, start, size_max, *, whole_messages):
    chunk = _read(reader, start, size_max, whole_messages=whole_messages)
    chunk.buffers = [bytes(len(part)) for part in chunk.buffers]
    return chunk


_read = RangeReader.read


def test_a_process_that_dies_or_hangs_is_an_outcome():
    worker = Worker(SEED, silence_max=0.0)
    try:
        assert worker.run("FORMAT", 0)["broken"] == ["the process hangs"]
        worker = Worker(SEED, silence_max=60.0)
        assert worker.run("no such class", 0)["broken"] == ["the process died of 1"]
    finally:
        worker.close()


def test_damage_changes_one_file_within_its_class(matrix):
    rng = random.Random(1)
    for byte_class in matrix.classes.values():
        files, done = damage(matrix.specimen.files, byte_class, rng)
        changed = [name for name in files if files[name] != matrix.specimen.files[name]]
        assert changed == [done.file]
