"""A seeded store with everything in it, as a killed process left it, and what it showed.

It is what the corruption matrix damages. Its segments, log and rows are small, but none of the
parts that the format documents name is missing from them; ``classes`` finds them.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durastream._native.delegated_disk import DelegatedDisk
from durastream._native.disk import PosixDisk
from durastream.engine.errors import StorageError
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.options import KIB, MIB, FileStoreOptions, Limits
from durastream.protocol.errors import StreamGone
from support.stores import crash

JSON = "application/json"
PRODUCERS = ("p", "q", "r" * 300)  # no name is longer than the key that it gets
LIMITS = Limits(body_size_max=24 * KIB)
OPTIONS = FileStoreOptions(
    wal_file_size=80 * KIB,
    wal_size_max=4 * MIB,
    slab_size=8 * KIB,
    flush_age=1e9,
    sweep_interval=1e9,
    idle_watermark_delay=0.0,
    lmdb_map_size=16 * MIB,
    reserve_size=0,
)
NOW = 1_700_000_000_000
LATER = NOW + 400_000  # a moment at which the first streams with a TTL are over

Files = dict[str, bytes]  # by name below the data directory


@dataclass
class Shown:
    """What a store shows of one path; ``trouble`` is the first error on the way to its end."""

    state: tuple[Any, ...] | None = None  # None: nothing is there
    messages: list[tuple[bytes, str]] = field(default_factory=list)
    trouble: str = ""
    producers: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return b"".join(data for data, _ in self.messages)


@dataclass
class Specimen:
    """Files and what was visible. ``older`` are earlier moments of the same directory."""

    seed: int
    paths: dict[str, set[str]]  # with the names of their producers
    files: Files = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    shown_before_newest: dict[str, Shown] = field(default_factory=dict)
    checkpoint: tuple[int, int] = (0, 0)  # the log's file and the position in it
    newest_path: str = ""  # of the record in the newest frame
    ended: dict[str, list[bytes]] = field(default_factory=dict)  # what deleted streams held
    older: list[Files] = field(default_factory=list)
    shown_then: list[dict[str, Shown]] = field(default_factory=list)  # at those moments
    retries: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # acknowledged appends
    sources: dict[int, int] = field(default_factory=dict)  # stream id of a fork: its source's
    names: dict[int, str] = field(default_factory=dict)  # stream id: path

    def ever_held(self, path: str, data: bytes) -> bool:
        """Whether a stream at this path ever began so, as far as was remembered."""
        moments = [self.shown, *self.shown_then]
        held = [shown[path].data for shown in moments if path in shown]
        return any(known.startswith(data) for known in held + self.ended.get(path, []))

    def heirs(self, stream_ids: set[int]) -> set[int]:
        """The streams, and all that inherit from them."""
        found = set(stream_ids)
        while more := {fork for fork, source in self.sources.items() if source in found} - found:
            found |= more
        return found


def open_store(folder: Path, now: int = LATER) -> FileBackedStreamStore:
    """Open without threads: nothing happens by itself. Raises: StorageError."""
    return FileBackedStreamStore(
        folder, limits=LIMITS, options=OPTIONS, threads=False, clock=lambda: now
    )


def read_files(folder: Path) -> Files:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("LOCK", "lock.mdb")
    }


def write_files(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for parent in ("wal", "segments", "meta.lmdb"):
        (folder / parent).mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def observe(store: FileBackedStreamStore, paths: dict[str, set[str]]) -> dict[str, Shown]:
    """Everything that users can see of these paths, and of the producers named with each."""
    return {path: observe_path(store, path, producers) for path, producers in paths.items()}


def observe_path(store: FileBackedStreamStore, path: str, producers: set[str]) -> Shown:
    shown = Shown()
    try:
        found = store.get(path)
        if found is None:
            return shown
        shown.state = (
            found.content_type, found.current_offset, found.earliest_offset, found.closed,
            found.closed_by, found.last_seq, found.ttl_seconds, found.expires_at,
            found.forked_from, found.fork_offset, found.fork_sub_offset, found.ref_count,
            found.soft_deleted, found.incarnation,
        )  # fmt: skip
        if found.soft_deleted:
            return shown
        for name in producers:
            shown.producers[name] = epoch_of(store, path, name)
        read_all(store, path, shown)
    except StreamGone:
        shown.trouble = "gone"
    except StorageError as error:
        shown.trouble = f"{type(error).__name__}: {error}"
    return shown


def read_all(store: FileBackedStreamStore, path: str, shown: Shown) -> None:
    at = None
    while True:
        result = store.read(path, at)
        shown.messages += [(bytes(message.data), message.offset) for message in result.messages]
        at = result.next_offset
        if result.up_to_date:
            return


def epoch_of(store: FileBackedStreamStore, path: str, name: str) -> Any:
    try:
        return store.get_producer_epoch(path, name)
    except StorageError as error:
        return f"{type(error).__name__}: {error}"


# -- how it is made ------------------------------------------------------------------------


class SeededDisk:
    """The real disk, but for the numbers and the time that it hands out."""

    def __init__(self, seed: int) -> None:
        self._disk = PosixDisk()
        self._rng = random.Random(f"disk {seed}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def pwrite(self, fd: int, data: bytes, position: int) -> int:
        self._disk.pwrite(fd, data, position)
        return len(data)

    def map(self, fd: int, size: int) -> bytes:
        return self._disk.pread(fd, size, 0)

    def random(self) -> int:
        return self._rng.getrandbits(64)

    def wall_ms(self) -> int:
        return NOW


class Builder:
    """Fills a store in ``folder``; every number comes from the seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.disk = DelegatedDisk(SeededDisk(seed))
        self.folder = folder
        self.now = NOW
        self.store = self._open()
        self.specimen = Specimen(seed, {})
        self.sequences: dict[tuple[str, str], int] = {}

    def _open(self) -> FileBackedStreamStore:
        return FileBackedStreamStore(
            self.folder,
            limits=LIMITS,
            options=OPTIONS,
            threads=False,
            disk=self.disk,
            clock=lambda: self.now,
        )

    def build(self) -> Specimen:
        specimen = self.specimen
        specimen.paths |= {"/never": {"p"}, "/s/010x": {"p"}}
        self.first_streams()
        self.remember()
        self.forks_and_deletions()
        self.remember()
        if self.specimen.seed % 3 == 0:
            self.store.compact(everything=True)
        self.behind_the_checkpoint()
        specimen.shown_before_newest = observe(self.store, specimen.paths)
        self.newest()
        specimen.shown = observe(self.store, specimen.paths)
        self.note_streams()
        crash(self.store)
        specimen.files = read_files(self.folder)
        assert not any(shown.trouble not in ("", "gone") for shown in specimen.shown.values())
        return specimen

    def remember(self) -> None:
        """Files as a copy would have them that was made now, and what is visible."""
        self.specimen.older.append(read_files(self.folder))
        self.specimen.shown_then.append(observe(self.store, self.specimen.paths))

    def create(self, path: str, **arguments: Any) -> None:
        self.store.create(path, **arguments)
        self.specimen.paths.setdefault(path, {"p"})

    def delete(self, path: str) -> None:
        shown = observe_path(self.store, path, set())
        self.specimen.ended.setdefault(path, []).append(shown.data)
        self.store.delete(path)
        self.specimen.retries = [item for item in self.specimen.retries if item[0] != path]
        for known, producer in list(self.sequences):
            if known == path:
                del self.sequences[known, producer]

    def body(self, path: str, size: int) -> bytes:
        """Bytes that tell whose they are; a JSON array of messages for every third stream."""
        text = f"{path[:40]}:{self.rng.randrange(10**9)};" * (size // 20 + 1)
        if self.is_json(path):
            return b"[" + b",".join(b'"%s"' % text[n : n + 40].encode() for n in (0, 7, 9)) + b"]"
        return text[:size].encode()

    def is_json(self, path: str) -> bool:
        return path.startswith("/s/") and int(path[3:6]) % 3 == 0

    def append(self, path: str, size: int = 60, producer: str | None = None) -> None:
        arguments: dict[str, Any] = {"data": self.body(path, size)}
        if producer is not None:
            sequence = self.sequences.get((path, producer), -1) + 1
            self.sequences[path, producer] = sequence
            self.specimen.paths[path].add(producer)
            arguments |= {
                "producer_id": producer,
                "producer_epoch": 2,
                "producer_seq": sequence,
            }
            self.specimen.retries = [
                (known, retry)
                for known, retry in self.specimen.retries
                if (known, retry["producer_id"]) != (path, producer)
            ] + [(path, arguments)]
        self.store.append(path, **arguments)

    def first_streams(self) -> None:
        """Two segments, tables with branch pages, one stream of several blocks."""
        for number in range(60):
            path = f"/s/{number:03d}"
            self.create(
                path,
                content_type=JSON if self.is_json(path) else "application/octet-stream",
                ttl_seconds=(300 if number == 50 else 86400) if number % 5 == 0 else None,
                expires_at="2099-01-01T00:00:00Z" if number % 20 == 7 else None,
                initial_data=self.body(path, 40),
            )
            if number % 2:
                self.append(path, producer=PRODUCERS[number % 3])
            if number % 11 == 3:
                self.store.close_stream(path)
            if number == 30:
                self.store.flush()
        self.create("/long/" + "x" * 1400, content_type="text/" + "y" * 700)
        self.create("/long/" + "x" * 1400 + "z", initial_data=b"a neighbour of a long name")
        self.store.append("/s/020", b"with a Stream-Seq", seq="000017")
        self.create("/big")
        self.create("/short", retention_bytes=300)
        for _ in range(5):
            self.append("/short", 100)
        for _ in range(7):
            self.append("/big", 20_000)
        self.store.flush()

    def forks_and_deletions(self) -> None:
        """Forks of live, soft-deleted and long-named streams, deletions, an expiry, a segment."""
        long = "/long/" + "x" * 1400
        self.store.append(long, b"inherited")
        self.create(long + "/fork", forked_from=long, initial_data=b"own")  # a row of a page
        for number in range(6):
            source = f"/s/{20 + number:03d}"
            at = self.store.read(source, max_bytes=40).next_offset if number % 2 else None
            fork = f"/fork/{number}"
            self.create(fork, forked_from=source, fork_offset=at)
            if not self.is_json(source):
                self.store.append(fork, b"the fork's own")
        self.create("/fork/of/fork", forked_from="/fork/5", initial_data=b"own, too")
        for path in ("/s/022", "/s/025", "/fork/5", "/s/030", "/s/031", "/s/032"):
            self.delete(path)
        self.create("/s/031", initial_data=b"[]" if self.is_json("/s/031") else b"another one")
        self.now = LATER  # /s/050 is over
        self.store.sweep()
        for number in range(44, 60):
            self.append_open(f"/s/{number:03d}", producer="p")
            if number == 50:
                self.remember()  # in the log's file in which the checkpoint will lie
        self.store.flush()

    def append_open(self, path: str, **arguments: Any) -> None:
        found = self.store.get(path)
        if found is not None and not found.closed and not found.soft_deleted:
            self.append(path, **arguments)

    def behind_the_checkpoint(self) -> None:
        """A stretch of the log with everything in it, over several files.

        With an odd seed it begins with a recovery file that holds rewritten frames, with an
        even one in the file in which the checkpoint lies.
        """
        for number in range(6):
            self.append_open(f"/s/{number:03d}", producer="q")
        if self.specimen.seed % 2:
            crash(self.store)
            self.store = self._open()
        for number in range(8):
            if number in (1, 7):
                self.prove()
                self.remember()
            self.append("/big", 18_000 + number)
            self.append_open(f"/s/{40 + number:03d}", producer=PRODUCERS[number % 3])
        self.create("/new", ttl_seconds=3600, initial_data=b"unflushed")
        self.create("/new/fork", forked_from="/new", initial_data=b"own")
        self.create("/new/fork/of/old", forked_from="/s/026")
        self.delete("/new")
        self.delete("/s/033")
        self.create("/s/033", initial_data=b"[]")
        self.delete("/s/034")
        self.store.append("/s/035", b"a close with data", close=True)
        self.store.touch_access("/s/045")
        self.prove()

    def prove(self) -> None:
        while self.store._engine.log.commit_step(idle=True):
            pass

    def newest(self) -> None:
        """One frame that nothing proves."""
        self.specimen.newest_path = "/s/056"
        self.append("/s/056", 200, producer="p")
        while self.store._engine.log.prepare_spare_step():
            pass

    def note_streams(self) -> None:
        engine = self.store._engine
        states = [row.state for row in engine.metadata.rows()]
        states += [entry.reserved for entry in engine.catalog.entries.values()]
        states += [entry.origin for entry in engine.catalog.entries.values()]
        checkpoint = engine.checkpoint
        self.specimen.checkpoint = checkpoint.file_seq, checkpoint.position
        for state in states:
            if state is not None:
                self.specimen.names[state.stream_id] = state.path
                if state.source_id is not None:
                    self.specimen.sources[state.stream_id] = state.source_id


def build(seed: int, folder: Path) -> Specimen:
    return Builder(seed, folder).build()
