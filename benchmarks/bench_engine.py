"""The engine against plain Python: appends, offset look-ups, reads.

    python -m pytest benchmarks/bench_engine.py

Method. Every row of a group does the same work, on the same disk, in the same run; quote the
ratios within a group, not the figures: milliseconds belong to one machine and one moment. All
appends are durable before they are acknowledged. ``pure`` is ``pure_store.py``, the store that
one writes first; ``raw`` is the cost of the disk itself, one pwrite and one fdatasync of a page
in a file whose space was allocated and written before. What is read lies in the page cache and
was read once before, as in a running server: these are costs of the processor. Results are
checked, outside of what is timed.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from array import array
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy
import pytest

from durastream._native.offset_index import OffsetIndex
from durastream.engine import offset_index_py
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import FileStoreOptions
from durastream.protocol.offset import format_offset
from pure_store import PureFileStore

BATCH = 1000
MESSAGE = b"m" * 100
READ_COUNT = 64 * 1024  # messages of the stream that is read: 64 MiB
READ_MESSAGE = bytes(range(256)) * 4
URL = "/v1/stream/bench"


@pytest.fixture
def store(tmp_path):
    with FileBackedStreamStore(tmp_path / "store") as opened:
        opened.create(URL)
        yield opened


@pytest.fixture
def pure(tmp_path):
    opened = PureFileStore(tmp_path / "pure")
    opened.create("bench")
    yield opened
    opened.close()


# -- durable appends -----------------------------------------------------------------------


class TestThousandAppends:
    """1,000 acknowledgements of 100 B each. Group: a thousand durable appends."""

    @pytest.fixture(autouse=True)
    def group(self, benchmark):
        benchmark.group = f"{BATCH} durable appends of {len(MESSAGE)} B"

    def test_engine_in_flight_at_once(self, benchmark, store):
        async def append_all():
            append = store.aio.append
            await asyncio.gather(*[append(URL, MESSAGE) for _ in range(BATCH)])

        with asyncio.Runner() as runner:
            benchmark.pedantic(lambda: runner.run(append_all()), rounds=20, warmup_rounds=2)
        assert store.get(URL).current_offset == format_offset(22 * BATCH * len(MESSAGE))

    def test_engine_from_32_threads(self, benchmark, store):
        with ThreadPoolExecutor(32) as pool:
            benchmark.pedantic(
                lambda: list(pool.map(lambda _: store.append(URL, MESSAGE), range(BATCH))),
                rounds=10,
                warmup_rounds=1,
            )

    def test_engine_one_json_batch(self, benchmark, store):
        """One append of 1,000 messages: one acknowledgement."""
        url, body = f"{URL}/json", b"[" + b",".join([b'"' + MESSAGE[2:] + b'"'] * BATCH) + b"]"
        store.create(url, content_type="application/json")
        benchmark.pedantic(lambda: store.append(url, body), rounds=20, warmup_rounds=2)

    def test_pure_one_by_one(self, benchmark, pure):
        def append_all():
            for _ in range(BATCH):
                pure.append("bench", MESSAGE)

        benchmark.pedantic(append_all, rounds=3)

    def test_pure_one_batch(self, benchmark, pure):
        """One fsync for all: what a caller gets who can collect a batch first."""
        messages = [MESSAGE] * BATCH
        benchmark.pedantic(lambda: pure.append_batch("bench", messages), rounds=20, warmup_rounds=2)


class TestOneAppend:
    """A lone writer pays one sync. Group: one durable append."""

    @pytest.fixture(autouse=True)
    def group(self, benchmark):
        benchmark.group = f"one durable append of {len(MESSAGE)} B"

    def test_engine(self, benchmark, store):
        benchmark.pedantic(store.append, (URL, MESSAGE), rounds=300, warmup_rounds=20)

    def test_pure(self, benchmark, pure):
        benchmark.pedantic(pure.append, ("bench", MESSAGE), rounds=300, warmup_rounds=20)

    def test_raw(self, benchmark, tmp_path):
        file = os.open(tmp_path / "raw", os.O_RDWR | os.O_CREAT)
        os.pwrite(file, bytes(4096 * 400), 0)
        os.fsync(file)
        pages = iter(range(400))

        def write():
            os.pwrite(file, MESSAGE.ljust(4096, b"\0"), 4096 * next(pages))
            os.fdatasync(file)

        benchmark.pedantic(write, rounds=300, warmup_rounds=20)
        os.close(file)

    def test_raw_in_another_thread(self, benchmark, tmp_path):
        """Handed to a thread and back, as every engine must that has a committer."""
        file = os.open(tmp_path / "raw", os.O_RDWR | os.O_CREAT)
        os.pwrite(file, bytes(4096 * 400), 0)
        os.fsync(file)
        pages = iter(range(400))
        wanted, done = SimpleQueue(), SimpleQueue()

        def commit():
            while (page := wanted.get()) is not None:
                os.pwrite(file, MESSAGE.ljust(4096, b"\0"), 4096 * page)
                os.fdatasync(file)
                done.put(page)

        def write():
            wanted.put(page := next(pages))
            assert done.get() == page

        committer = threading.Thread(target=commit)
        committer.start()
        benchmark.pedantic(write, rounds=300, warmup_rounds=20)
        wanted.put(None)
        committer.join()
        os.close(file)


# -- offset look-ups -----------------------------------------------------------------------


class TestLookUps:
    """Which message holds a position: 1,000 random ones among a million messages."""

    @pytest.fixture(autouse=True)
    def positions(self, benchmark):
        benchmark.group = f"{BATCH} offset look-ups among 1,000,000 messages"
        rng = random.Random(7)
        self.ends = array("Q", (100 * number << 1 | 1 for number in range(1, 1_000_001)))
        self.wanted = array("Q", [rng.randrange(100_000_000) for _ in range(BATCH)])
        self.found = array("q", bytes(8 * BATCH))
        yield
        assert self.found.tolist() == [position // 100 for position in self.wanted]

    def test_native_one_call(self, benchmark):
        index = OffsetIndex(self.ends)
        benchmark(lambda: index.look_up(self.wanted, self.found))

    def test_python_loop(self, benchmark):
        index = offset_index_py.OffsetIndex(self.ends)
        benchmark(lambda: index.look_up(self.wanted, self.found))

    def test_numpy(self, benchmark):
        """searchsorted over the same array, viewed: for scale."""
        ends = numpy.frombuffer(self.ends, dtype=numpy.uint64)
        wanted = numpy.frombuffer(self.wanted, dtype=numpy.uint64)
        found = numpy.frombuffer(self.found, dtype=numpy.int64)

        def look_up():
            found[:] = numpy.searchsorted(
                ends, wanted << numpy.uint64(1) | numpy.uint64(1), "right"
            )

        benchmark(look_up)


# -- reads ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Both stores with the same 64 MiB stream; the engine's lies in segments."""
    directory = tmp_path_factory.mktemp("filled")
    options = FileStoreOptions(flush_size=8 * 1024 * 1024)
    with FileBackedStreamStore(directory / "store", options=options) as store:
        store.create(URL)
        for _ in range(READ_COUNT // 256):
            asyncio.run(append_many(store, 256))
    pure = PureFileStore(directory / "pure")
    pure.create("bench")
    for _ in range(READ_COUNT // 1024):
        pure.append_batch("bench", [READ_MESSAGE] * 1024)
    with FileBackedStreamStore(directory / "store") as store:  # reopened: nothing is in the log
        yield store, pure
    pure.close()


async def append_many(store, count):
    await asyncio.gather(*[store.aio.append(URL, READ_MESSAGE) for _ in range(count)])


class TestCatchUp:
    """The whole stream of 64 MiB, chunk by chunk."""

    @pytest.fixture(autouse=True)
    def group(self, benchmark):
        benchmark.group = "catch-up: 64 MiB in appends of 1 KiB"

    @pytest.mark.parametrize(
        "take", [lambda r: r.size, lambda r: len(bytes(r))], ids=["views", "copied"]
    )
    def test_engine(self, benchmark, filled, take):
        """As it comes, views of the mapping that nobody has touched; and copied into bytes."""
        store, _ = filled

        def read():
            offset, size = "-1", 0
            while True:
                result = store.read(URL, offset)
                offset, size = result.next_offset, size + take(result)
                if result.up_to_date:
                    return size

        assert benchmark.pedantic(read, rounds=10, warmup_rounds=1) == 64 * 1024 * 1024

    def test_pure_whole_file(self, benchmark, filled):
        _, pure = filled
        read = benchmark.pedantic(pure.read_all, ("bench",), rounds=5, warmup_rounds=1)
        assert len(read) == READ_COUNT

    def test_pure_message_by_message(self, benchmark, filled):
        _, pure = filled
        read = benchmark.pedantic(pure.read, ("bench",), rounds=3)
        assert len(read) == READ_COUNT


class TestRandomReads:
    """1,000 reads of 4 KiB, each from another append on."""

    @pytest.fixture(autouse=True)
    def starts(self, benchmark):
        benchmark.group = f"{BATCH} random reads of 4 KiB in 64 MiB"
        rng = random.Random(11)
        self.appends = [rng.randrange(READ_COUNT - 4) for _ in range(BATCH)]

    def test_engine(self, benchmark, filled):
        store, _ = filled
        offsets = [format_offset(append * len(READ_MESSAGE)) for append in self.appends]

        def read():
            return [store.read(URL, offset, max_bytes=4096).size for offset in offsets]

        assert benchmark.pedantic(read, rounds=20, warmup_rounds=1) == [4096] * BATCH

    def test_pure(self, benchmark, filled):
        _, pure = filled
        offsets = [append * (4 + len(READ_MESSAGE)) for append in self.appends]

        def read():
            return [len(pure.read("bench", offset, 4)) for offset in offsets]

        assert benchmark.pedantic(read, rounds=20, warmup_rounds=1) == [4] * BATCH
