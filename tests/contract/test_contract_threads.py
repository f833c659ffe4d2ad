"""Writers side by side: everything is kept once, in some order, and one wins where one must."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from durastream.protocol.errors import SequenceConflict, StreamClosed, StreamExists

WRITERS = 8
EACH = 25


def together(task):
    """Run ``task(number)`` in WRITERS threads that begin at the same time."""
    barrier = threading.Barrier(WRITERS)

    def run(number):
        barrier.wait()
        return task(number)

    with ThreadPoolExecutor(max_workers=WRITERS) as pool:
        return list(pool.map(run, range(WRITERS)))


def test_appends_are_all_kept_whole_and_in_each_writers_order(blocking_store):
    blocking_store.create("/s")

    def write(writer):
        return [
            blocking_store.append("/s", b"%d:%d;" % (writer, number)).offset
            for number in range(EACH)
        ]

    offsets = [offset for those in together(write) for offset in those]
    assert len(set(offsets)) == WRITERS * EACH
    messages = blocking_store.read("/s").messages
    assert [message.offset for message in messages] == sorted(offsets)
    for writer in range(WRITERS):
        own = [m.data for m in messages if m.data.startswith(b"%d:" % writer)]
        assert own == [b"%d:%d;" % (writer, number) for number in range(EACH)]


def test_exactly_one_of_equal_seqs_wins(blocking_store):
    blocking_store.create("/s")

    def write(writer):
        won = []
        for number in range(EACH):
            try:
                blocking_store.append("/s", b"%d;" % writer, seq=f"{number:04}")
                won.append(number)
            except SequenceConflict:
                pass
        return won

    won = sorted(number for those in together(write) for number in those)
    assert len(won) == len(set(won))
    assert won[-1] == EACH - 1
    assert bytes(blocking_store.read("/s")).count(b";") == len(won)


def test_a_producers_batch_is_kept_once(blocking_store):
    blocking_store.create("/s")

    def write(_):
        return [
            blocking_store.append(
                "/s", b"%d;" % number, producer_id="p", producer_epoch=0, producer_seq=number
            ).producer.status
            for number in range(EACH)
        ]

    statuses = together(write)
    for number in range(EACH):
        row = [those[number] for those in statuses]
        assert row.count("accepted") == 1
        assert row.count("duplicate") == WRITERS - 1
    assert bytes(blocking_store.read("/s")) == b"".join(b"%d;" % n for n in range(EACH))


def test_nothing_is_appended_behind_a_close(blocking_store):
    blocking_store.create("/s")

    def write(writer):
        kept = 0
        for number in range(EACH):
            if writer == 0 and number == EACH // 2:
                return kept, blocking_store.close_stream("/s").final_offset
            try:
                blocking_store.append("/s", b"x")
                kept += 1
            except StreamClosed:
                break
        return kept, None

    outcomes = together(write)
    kept = sum(count for count, _ in outcomes)
    final = next(offset for _, offset in outcomes if offset is not None)
    result = blocking_store.read("/s")
    assert result.size == kept
    assert (result.next_offset, result.closed) == (final, True)


def test_one_of_many_creates_makes_the_stream(blocking_store):
    made = together(lambda _: blocking_store.create("/s", ttl_seconds=60))
    assert sum(stream.created for stream in made) == 1
    assert len({stream.incarnation for stream in made}) == 1

    def conflict(number):
        try:
            return blocking_store.create("/t", ttl_seconds=number + 1).created
        except StreamExists:
            return False

    assert sum(together(conflict)) == 1


def test_forks_made_and_deleted_side_by_side_leave_no_reference(blocking_store):
    blocking_store.create("/s", initial_data=b"abc")

    def fork(writer):
        for number in range(EACH):
            path = f"/f{writer}-{number}"
            blocking_store.create(path, forked_from="/s")
            assert bytes(blocking_store.read(path)) == b"abc"
            blocking_store.delete(path)

    together(fork)
    assert blocking_store.get("/s").ref_count == 0
    assert blocking_store.list() == ["/s"]


def test_readers_see_prefixes(blocking_store):
    blocking_store.create("/s")
    whole = b"".join(b"%d;" % number for number in range(4 * EACH))

    def run(number):
        if number == 0:
            for count in range(4 * EACH):
                blocking_store.append("/s", b"%d;" % count)
            return
        seen = 0
        while seen < len(whole):
            result = blocking_store.read("/s")
            assert whole.startswith(bytes(result))
            assert result.size >= seen
            seen = result.size

    together(run)


@pytest.mark.parametrize("streams", [20])
def test_streams_do_not_mix(blocking_store, streams):
    paths = [f"/s{number}" for number in range(streams)]
    for path in paths:
        blocking_store.create(path)

    def write(writer):
        for path in paths:
            blocking_store.append(path, f"{writer}@{path};".encode())

    together(write)
    for path in paths:
        parts = bytes(blocking_store.read(path)).decode().split(";")[:-1]
        assert sorted(parts) == sorted(f"{writer}@{path}" for writer in range(WRITERS))
