"""Section 17: limits, and a store that was closed."""

from __future__ import annotations

import pytest

from durastream.engine.errors import StoreClosed
from durastream.engine.options import Limits
from durastream.protocol.errors import InvalidJson, TooLarge

LIMITS = Limits(
    body_size_max=100,
    path_size_max=20,
    content_type_size_max=40,
    producer_id_size_max=10,
    seq_size_max=10,
    fork_depth_max=3,
    json_depth_max=4,
)


@pytest.fixture
def store(open_store):
    store = open_store(limits=LIMITS)
    store.create("/s")
    return store


def test_a_body_at_the_limit_passes_and_above_it_does_not(store):
    assert store.append("/s", bytes(100)).appended
    with pytest.raises(TooLarge, match="101"):
        store.append("/s", bytes(101))
    with pytest.raises(TooLarge, match="101"):
        store.create("/t", initial_data=bytes(101))
    assert store.list() == ["/s"]


def test_a_body_too_large_is_refused_before_the_stream_is_looked_for(store):
    with pytest.raises(TooLarge):
        store.append("/missing", bytes(101))


@pytest.mark.parametrize("path", ["/" + "x" * 20, "/" + "é" * 10])
def test_a_long_path_is_refused(store, path):
    with pytest.raises(TooLarge):
        store.create(path)
    with pytest.raises(TooLarge):
        store.create("/f", forked_from=path)
    assert store.create("/" + "é" * 9).created


def test_long_texts_are_refused(store):
    with pytest.raises(TooLarge):
        store.create("/t", content_type="text/plain; " + "x" * 40)
    with pytest.raises(TooLarge):
        store.append("/s", b"x", seq="x" * 11)
    with pytest.raises(TooLarge):
        store.append("/s", b"x", producer_id="é" * 6, producer_epoch=0, producer_seq=0)
    assert store.append(
        "/s", b"x", seq="x" * 10, producer_id="é" * 5, producer_epoch=0, producer_seq=0
    ).appended


def test_a_chain_of_forks_is_limited(store):
    for number in range(3):
        store.create(f"/{number}", forked_from=f"/{number - 1}" if number else "/s")
    with pytest.raises(TooLarge, match="3 forks"):
        store.create("/3", forked_from="/2")
    assert store.get("/2").ref_count == 0
    assert store.create("/other", forked_from="/1").created


def test_nesting_is_limited(store):
    store.create("/j", content_type="application/json")
    store.append("/j", b"[[[[1]]]]")
    with pytest.raises(InvalidJson, match="4 levels"):
        store.append("/j", b'[[[{"a":[]}]]]')


def test_a_closed_store_says_so(open_store):
    store = open_store()
    store.create("/s")
    store.close()
    store.close()
    for use in (
        lambda: store.create("/t"),
        lambda: store.append("/s", b"x"),
        lambda: store.read("/s"),
        lambda: store.get("/s"),
        lambda: store.list(),
        lambda: store.delete("/s"),
        lambda: store.wait_for_messages("/s", "-1", 0),
    ):
        with pytest.raises(StoreClosed):
            use()
