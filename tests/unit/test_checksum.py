"""XXH64 of our own against PyPI's xxhash."""

from __future__ import annotations

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from durastream._native.checksum import xxh64

SEEDS = st.integers(0, 2**64 - 1)


@given(st.binary(max_size=300), SEEDS)
def test_agrees_with_the_reference(data: bytes, seed: int) -> None:
    assert xxh64(data, seed) == xxhash.xxh64_intdigest(data, seed)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 1_000_003])
def test_agrees_on_large_data(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    assert xxh64(data[:size], 7) == xxhash.xxh64_intdigest(data[:size], 7)


def test_does_not_depend_on_alignment() -> None:
    data = bytes(range(200))
    for start in range(9):
        view = memoryview(bytes(start) + data)[start:]
        assert xxh64(view) == xxhash.xxh64_intdigest(data)


def test_known_value_of_nothing() -> None:
    assert xxh64(b"") == 0xEF46DB3751D8E999


def test_refuses_what_is_not_contiguous_bytes() -> None:
    with pytest.raises(TypeError):
        xxh64("text")  # type: ignore[arg-type]
    with pytest.raises(BufferError, match="contiguous"):
        xxh64(memoryview(bytes(10))[::2])
