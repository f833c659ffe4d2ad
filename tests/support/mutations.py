"""Bytes changed in a few places at once, and sealed again, so that checksums agree with the lie.

A mutation is a list of steps, which can be kept as JSON: what found a bug stays in tests/corpus.
Checksums find accidents; sealed mutations show that readers do not depend on them for their own
safety: whatever the bytes say, no access beyond them, no endless loop, no other error than the
documented ones.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from durastream._native.checksum import xxh64

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
PAGE = 4096
BLOCK = 64 * 1024
U64 = 2**64 - 1

Step = list[Any]  # kind and its arguments; positions count modulo the size
Mutation = dict[str, Any]  # {"steps": [...], "sealed": bool}

# -- drawing -------------------------------------------------------------------------------

positions = st.integers(0, 2**20) | st.integers(0, 256) | st.integers(PAGE, PAGE + 256)
telling = [0, 1, 2, 3, 7, 8, 63, 64, 96, 4095, 4096, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
values = st.sampled_from([*telling, 2**32, 2**60, 2**63 - 1, 2**63, U64 - 7, U64]) | st.integers(
    0, U64
)


def _number(position: int, size: int, value: int) -> Step:
    return ["write", position, (value % 2 ** (8 * size)).to_bytes(size, "little").hex()]


steps = st.one_of(
    # Fields are aligned, so most numbers are, too.
    st.builds(_number, positions.map(lambda at: at & ~3), st.sampled_from([2, 4, 8]), values),
    st.builds(_number, positions, st.just(1), values),
    st.builds(lambda at, data: ["write", at, data.hex()], positions, st.binary(max_size=64)),
    st.builds(lambda at: ["cut", at], positions),
    st.builds(lambda data: ["grow", data.hex()], st.binary(min_size=1, max_size=200)),
    st.builds(lambda a, b, n: ["copy", a, b, n], positions, positions, st.integers(1, PAGE)),
    st.builds(lambda at, n: ["zero", at, n], positions, st.integers(1, PAGE)),
)


def mutations(count_max: int = 4) -> st.SearchStrategy[Mutation]:
    return st.fixed_dictionaries(
        {"steps": st.lists(steps, min_size=1, max_size=count_max), "sealed": st.booleans()}
    )


def kept(folder: str) -> list[Any]:
    """What is in the corpus, for ``pytest.param``: each entry with its name."""
    found = sorted((CORPUS / folder).glob("*.json"))
    assert found, f"no corpus in {folder}"
    return [json.loads(path.read_text()) for path in found]


# -- changing ------------------------------------------------------------------------------


def mutated(content: bytes, changes: list[Step]) -> bytes:
    raw = bytearray(content)
    for kind, *arguments in changes:
        _STEPS[kind](raw, *arguments)
    return bytes(raw)


def _write(raw: bytearray, position: int, data: str) -> None:
    octets = bytes.fromhex(data)
    if raw:
        start = position % len(raw)
        raw[start : start + len(octets)] = octets[: len(raw) - start]


def _cut(raw: bytearray, position: int) -> None:
    del raw[position % (len(raw) + 1) :]


def _grow(raw: bytearray, data: str) -> None:
    raw += bytes.fromhex(data)


def _copy(raw: bytearray, source: int, target: int, size: int) -> None:
    if raw:
        start = source % len(raw)
        _write(raw, target, raw[start : start + size].hex())


def _zero(raw: bytearray, position: int, size: int) -> None:
    _write(raw, position, bytes(size).hex())


_STEPS = {"write": _write, "cut": _cut, "grow": _grow, "copy": _copy, "zero": _zero}

# -- sealing -------------------------------------------------------------------------------


def _seal(raw: bytearray, start: int, end: int, at: int, seed: int) -> None:
    """Put the checksum of [start, end) at ``at``, if all of it is within the bytes."""
    if 0 <= start <= end <= len(raw) and 0 <= at <= len(raw) - 8:
        struct.pack_into("<Q", raw, at, xxh64(bytes(raw[start:end]), seed % 2**64))


def sealed_segment(content: bytes) -> bytes:
    """Every checksum of docs/format-segment.md computed anew, as far as the fields lead."""
    raw = bytearray(content)
    if len(raw) < PAGE + 128:
        return content
    _seal(raw, 0, PAGE - 8, PAGE - 8, 0)
    seed = struct.unpack_from("<Q", raw, PAGE - 8)[0]
    foot = len(raw) - 128
    struct.pack_into("<Q", raw, foot + 16, seed)
    index, count = struct.unpack_from("<QQ", raw, foot + 24)
    for entry in range(index, min(index + 96 * count, foot), 96):
        _seal_extent(raw, entry, seed)
    _seal(raw, foot, foot + 120, foot + 120, 0)
    return bytes(raw)


def _seal_extent(raw: bytearray, entry: int, seed: int) -> None:
    if entry + 96 > len(raw):
        return
    _, base, end, position, count, row_size = struct.unpack_from("<QQQQQI", raw, entry)
    at = position + 96
    for size in ((end - base + 7) & ~7, 8 * count):
        if not 0 <= size <= len(raw) - at:
            break
        checksums = at + size
        for number, start in enumerate(range(at, at + size, BLOCK)):
            _seal(raw, start, min(start + BLOCK, at + size), checksums + 8 * number, seed + start)
        at = checksums + 8 * -(-size // BLOCK)
    _seal(raw, at, at + row_size, entry + 48, seed)
    _seal(raw, entry, entry + 88, entry + 88, seed)


def sealed_wal(content: bytes) -> bytes:
    """Every checksum of docs/format-wal.md computed anew, as far as the fields lead."""
    raw = bytearray(content)
    _seal(raw, 0, 120, 120, 0)
    for frame in range(PAGE, len(raw) - 64, PAGE):
        if raw[frame : frame + 4] == b"DSFM":
            for record, size in _records(raw, frame):
                _seal(raw, record + 64, record + size, record + 56, 0)
                _seal(raw, record + 8, record + 64, record, 0)
            _seal(raw, frame, frame + 56, frame + 56, frame)
    return bytes(raw)


def _records(raw: bytearray, frame: int) -> Iterator[tuple[int, int]]:
    size, count = struct.unpack_from("<II", raw, frame + 32)
    record, end = frame + 64, min(frame + 64 + size, len(raw))
    for _ in range(min(count, 1000)):
        if record + 64 > end:
            return
        record_size = struct.unpack_from("<I", raw, record + 32)[0]
        if not 64 <= record_size <= end - record:
            record_size = 64
        yield record, record_size
        record += record_size
