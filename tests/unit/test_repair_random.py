"""Damage at random, several places at once: a repair never invents, never hides, never gives up.

``DURASTREAM_REPAIR_SEEDS=n`` tries more of it.
"""

from __future__ import annotations

import os
import random
import re
import shutil

import pytest

from durastream.engine.errors import UnknownFormat
from durastream.engine.repair_run import repair_directory
from support.repair import damage_codes, seen_of

SEEDS = int(os.environ.get("DURASTREAM_REPAIR_SEEDS", "25"))


def harm(folder, rng):
    """Damage one to three places; what was done."""
    done = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
        path = rng.choice([path for path in files if path.name not in ("LOCK", "lock.mdb")])
        raw = bytearray(path.read_bytes())
        at = rng.randrange(max(1, len(raw.rstrip(b"\0"))))
        kind = rng.choice(["flip", "flip", "zero", "noise", "page", "cut", "gone"])
        done.append((kind, path.name, at))
        if kind == "gone":
            path.unlink()
            continue
        if kind == "flip":
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del raw[at:]
        else:
            size = {"zero": 512, "noise": 64, "page": 4096}[kind]
            size = len(raw[at : at + size])
            raw[at : at + size] = bytes(size) if kind == "zero" else rng.randbytes(size)
        path.write_bytes(raw)
    return done


def check_outcome(outcome, store, before, done):
    """What the report does not name is as it was; what it names shows no other bytes."""
    report = outcome.report
    named = {loss.stream_id for loss in report.losses} if report is not None else set()
    nobody_knows = report is not None and bool(report.missing)
    paths = set(store.list())
    assert nobody_knows or not paths - before.keys(), done
    for path, expected in before.items():
        stream = store.get(path) if path in paths else None
        if stream is None or stream.incarnation != expected[2]:
            assert nobody_knows or expected[2] in named, (done, path)
            continue
        found = seen_of(store, path)
        assert expected[-2].startswith(found[-2]), (done, path)
        assert found == expected or nobody_knows or expected[2] in named, (done, path)


def is_of_a_newer_version(folder):
    """A flipped bit of FORMAT can say so: then nothing is touched."""
    path = folder / "FORMAT"
    return path.exists() and re.match(rb'{"format":[2-9],', path.read_bytes()) is not None


@pytest.mark.parametrize("first", range(1, 1 + SEEDS, 5))
def test_damage_at_random(used, folder, quick_opener, tmp_path, first):
    whole = tmp_path / "whole"
    folder.rename(whole)
    for seed in range(first, first + 5):
        shutil.copytree(whole, folder)
        done = [seed, *harm(folder, random.Random(seed))]
        if is_of_a_newer_version(folder):
            with pytest.raises(UnknownFormat):
                repair_directory(folder)
            shutil.rmtree(folder)
            continue
        outcome = repair_directory(folder)
        assert outcome.left == [], done
        assert damage_codes(folder) <= {"quarantine"}, done
        store = quick_opener()
        assert not store.read_only
        check_outcome(outcome, store, used, done)
        store.create("/brand-new")
        store.close()
        shutil.rmtree(folder)
