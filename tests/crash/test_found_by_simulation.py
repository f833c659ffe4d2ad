"""What the simulator found (tests/crash/test_simulator.py), each as the few steps that it takes."""

import contextlib
import errno
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import lmdb
import pytest

from durastream._native.delegated_disk import DelegatedDisk
from durastream.engine.errors import OpenError, StorageError, StoreFull, StoreStalled
from durastream.engine.memory_store import StreamStore
from durastream.engine.verify import Verification
from durastream.engine.waiting import ThreadWaiter
from simulation.stores import LIMITS, Clock, abandon, new_disk, open_store
from simulation.workload import Operation, outcome_of

TTL = 1000  # seconds
CHANGED = "/data/segments/changed.tmp"
FORMAT_SYNC = 12  # the call of a first opening that makes the name durable
MERGE_CALLS = 22  # of a merge of two segments, up to the sync of their directory
NOT_LOGGED = 1000 * TTL // 16 - 1  # ms after an access: the next one is only remembered


class Machine:
    """One store on one disk, with a power switch."""

    def __init__(self, folder, seed=1):
        self.disk = new_disk(seed)
        self.clock = Clock()
        self.metadata = folder / f"{seed}.lmdb"
        self.store = None

    def open(self):
        self.store = open_store(self.disk, self.metadata, self.clock)
        return self.store

    def end(self, disk):
        if self.store is not None:
            abandon(self.store)
        self.disk, self.store = disk, None

    def verify(self):
        verification = Verification(Path("/data"), DelegatedDisk(self.disk), self.metadata)
        for _ in verification.run():
            pass
        return [str(finding) for finding in verification.report.findings]

    def lose_power(self):
        self.end(self.disk.crash())
        return self.open()

    def close(self):
        self.store.close()
        self.end(self.disk.kill())
        return self.open()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_fork_is_read_while_its_end_and_that_of_its_source_wait_for_the_disk(machine):
    store = machine.open()
    store.create("/source", initial_data=b"inherited,")
    store.create("/fork", forked_from="/source", initial_data=b"own")
    store.delete("/source")
    staged = Operation("delete", "/fork").stage(store)
    assert bytes(store.read("/fork")) == b"inherited,own"
    store._engine.wait_durable(staged.lsn)
    assert outcome_of(lambda: store.read("/fork")) == "StreamNotFound"


def date_after(clock, seconds):
    return datetime.fromtimestamp(clock.now // 1000 + seconds, UTC).isoformat()


def fill_log(store, path):
    while True:
        store.append(path, bytes(20_000))


def test_an_expired_source_is_gone_though_its_end_cannot_be_logged(machine):
    store = machine.open()
    store.create("/a", expires_at=date_after(machine.clock, 1))
    store.create("/fork", forked_from="/a")
    machine.disk.capacity = machine.disk.used
    with pytest.raises(StoreStalled):
        fill_log(store, "/fork")
    machine.clock.advance(1000)
    assert store.get("/a").soft_deleted
    assert outcome_of(lambda: store.append("/a", b"x")) == "StreamGone"
    assert outcome_of(lambda: store.create("/b", forked_from="/a")) == "ForkSourceGone"
    with pytest.raises(StoreFull):  # nothing can be logged, neither an end nor a beginning
        store.create("/a")


def test_that_a_stream_is_over_is_told_once_it_was_durable(machine):
    engine = machine.open()._engine
    arguments = {"expires_at": date_after(machine.clock, 1)}
    staged = Operation("create", "/a", arguments).stage(machine.store)
    machine.clock.advance(1000)
    engine.operations.write_refusal = StoreFull("nothing can be logged")
    outcome = engine.attempt(lambda seen: engine.operations.visible(seen, "/a"))
    assert outcome.result() is None
    assert outcome.lsn == staged.lsn


def test_a_waiting_reader_does_not_show_others_what_a_date_has_ended(machine):
    store = machine.open()
    store.create("/a", expires_at=date_after(machine.clock, 1))
    engine, waiter = store._engine, ThreadWaiter()
    at = store.read("/a", "now")
    assert engine.run(lambda seen: engine.park(seen, "/a", at, waiter))
    machine.clock.advance(1000)
    engine.attempt(lambda seen: engine.operations.current(seen, "/a"))  # logged, not yet durable
    assert engine.log.staged_lsn > engine.log.durable_lsn
    assert outcome_of(lambda: store.read("/a")) == "StreamNotFound"


def access(machine):
    """An access that no record tells of; when it was."""
    machine.clock.advance(NOT_LOGGED)
    machine.store.read("/a")
    return machine.clock.now


def test_an_access_after_an_orderly_end_outlives_a_crash(machine):
    machine.open().create("/a", ttl_seconds=TTL)
    machine.close()
    accessed_at = access(machine)
    assert machine.lose_power().get("/a").last_accessed_at >= accessed_at


def test_an_access_after_a_crash_outlives_an_orderly_end(machine):
    machine.open().create("/a", ttl_seconds=TTL)
    machine.store.flush()
    machine.lose_power()
    accessed_at = access(machine)
    assert machine.close().get("/a").last_accessed_at >= accessed_at


def test_a_crash_makes_an_access_later_by_one_interval_at_most(machine):
    machine.open().create("/a", ttl_seconds=TTL)
    machine.store.flush()
    accessed_at = machine.clock.now
    machine.store.create("/fork", forked_from="/a")  # a record that names it, and no access
    assert machine.lose_power().get("/a").last_accessed_at <= accessed_at + NOT_LOGGED + 1


def killed_at(folder, call):
    """A machine whose first process was killed while it opened; None if it was open by then."""
    machine = Machine(folder, call)
    machine.disk.crash_at = machine.disk.call_count + call
    try:
        machine.open()
    except (OpenError, OSError):
        machine.end(machine.disk.kill())
        return machine
    return None


def test_what_a_killed_process_made_is_made_durable_by_the_next(tmp_path):
    call = 1
    while machine := killed_at(tmp_path, call):
        machine.open().create("/a", initial_data=b"acknowledged")
        for _ in range(3):
            assert bytes(machine.lose_power().read("/a")) == b"acknowledged", f"call {call}"
        call += 1
    assert call > 15


def test_nothing_is_made_in_a_directory_before_it_is_known_as_a_store(tmp_path):
    for crash in range(1, 20):
        for seed in range(4):
            machine = Machine(tmp_path, 100 * crash + seed)
            machine.disk.faults = {FORMAT_SYNC: "lost sync"}
            with pytest.raises(OpenError):
                machine.open()
            assert machine.disk.met == [("sync_directory", "lost sync")]
            machine.end(machine.disk.kill())
            machine.disk.crash_at = crash
            with contextlib.suppress(OpenError, OSError):
                machine.open()
            machine.lose_power().create("/a")
            machine.end(machine.disk.kill())


def syncs_of_spares(folder):
    machine = Machine(folder)
    machine.open().create("/a")
    before = len(machine.disk.trace)
    machine.store._maintenance._prepare_spare()
    calls = list(enumerate(machine.disk.trace, 1))[before:]
    machine.end(machine.disk.kill())
    return [number for number, (name, _) in calls if name == "sync"]


@pytest.mark.parametrize("fails_on", range(4))  # calls behind the sync
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_spare_whose_sync_failed_is_filled_again(tmp_path, fails_on, is_killed):
    calls = syncs_of_spares(tmp_path)
    assert calls
    for call in calls:
        for seed in range(2, 10):
            machine = Machine(tmp_path, 100 * call + seed)
            store = machine.open()
            store.create("/a")
            machine.disk.faults = {call: "lost sync"}
            machine.disk.faults |= {call + each: errno.EIO for each in range(1, fails_on + 1)}
            store._maintenance._prepare_spare()
            assert machine.disk.met[0] == ("sync", "lost sync")
            machine.disk.faults = {}
            if is_killed:
                machine.end(machine.disk.kill())
                store = machine.open()
            store._maintenance._prepare_spare()
            store.append("/a", b"acknowledged")  # in the spare, now that there is one
            store = machine.lose_power()
            assert not store.read_only
            assert bytes(store.read("/a")) == b"acknowledged"
            machine.end(machine.disk.kill())


def test_a_checkpoint_counts_no_stream_whose_creation_is_behind_it(machine):
    store = machine.open()
    store.create("/a")
    Operation("create", "/b").stage(store)
    store.flush()  # as of the creation of /a
    store._engine.wait_durable(store._engine.log.staged_lsn)
    machine.end(machine.disk.crash())
    assert machine.verify() == []


def end_of_a_fork(store, clock):
    """What creating the path of a source says once its last fork, the source asked for, is over."""
    store.create("/source")
    store.create("/fork", forked_from="/source", ttl_seconds=1)
    store.delete("/source")
    clock.advance(1000)
    return outcome_of(lambda: store.create("/source", forked_from="/fork"))


def test_a_creation_is_decided_on_what_the_end_of_its_source_leaves(machine):
    assert end_of_a_fork(machine.open(), machine.clock) == "ForkSourceNotFound"
    in_memory = StreamStore(limits=LIMITS, clock=machine.clock)
    assert end_of_a_fork(in_memory, machine.clock) == "ForkSourceNotFound"


def test_an_access_is_seen_though_one_at_the_same_time_came_before_the_stream_was(machine):
    store = machine.open()
    producer = {"producer_id": "p", "producer_epoch": 0, "producer_seq": 0}
    Operation("create", "/a", {"ttl_seconds": TTL}).stage(store)
    Operation("append", "/a", {"data": b"x", **producer}).stage(store)
    machine.clock.advance(10)
    Operation("append", "/a", {"data": b"x", **producer}).stage(store)  # a duplicate, so an access
    store._engine.wait_durable(store._engine.log.staged_lsn)
    store.read("/a")
    assert store.get("/a").last_accessed_at == machine.clock.now


def test_a_merge_takes_a_number_that_a_failed_flush_has_left_a_file_of(machine):
    store = machine.open()
    for _ in range(2):
        store.create("/a", initial_data=b"x")
        store.delete("/a")
        store.flush()
    store.create("/a")
    with monkeypatched_commit(store, lmdb.DiskError("as it happens")):
        assert not store._maintenance.try_flush()
    store._maintenance.compactor.settle(everything=True)
    assert len(store._engine.segments) == 1
    store.flush()
    assert machine.close().list() == ["/a"]


def fill_and_flush(store, name):
    """Some appends, rolls and flushes, whatever fails; the paths that were acknowledged."""
    acknowledged = []
    with contextlib.suppress(StorageError):
        for number in range(4):
            store.create(f"/{name}{number}", initial_data=b"x" * 20_000)
            acknowledged.append(f"/{name}{number}")
            store._maintenance._prepare_spare()
            if number % 2:
                store._maintenance.try_flush()
    return acknowledged


def directory_syncs(folder):
    machine = Machine(folder)
    fill_and_flush(machine.open(), "a")
    own = [("sync_directory", path) for path in ("/data", "/data/wal", "/data/segments")]
    return [number for number, call in enumerate(machine.disk.trace, 1) if call in own]


def test_a_directory_whose_sync_failed_and_forgot_loses_nothing(tmp_path):
    calls = directory_syncs(tmp_path)
    assert len(calls) >= 6
    for call in calls:
        for seed in range(4):
            (folder := tmp_path / f"{call}.{seed}").mkdir()
            machine, acknowledged = Machine(folder, seed), []
            machine.disk.faults = {call: "lost sync"}
            with contextlib.suppress(OpenError):
                acknowledged = fill_and_flush(machine.open(), "a")
            machine.end(machine.disk.kill())
            acknowledged += fill_and_flush(machine.open(), "b")
            for _ in range(2):
                store = machine.lose_power()
                assert set(acknowledged) <= set(store.list()), f"call {call}, seed {seed}"
            machine.end(machine.disk.kill())


def test_what_a_merge_has_unlinked_does_not_come_back_after_its_sync_forgot(tmp_path):
    for crash in range(1, 20):
        for seed in range(4):
            (folder := tmp_path / f"{crash}.{seed}").mkdir()
            machine = Machine(folder, seed)
            store = machine.open()
            for path in ("/a", "/b"):
                store.create(path, initial_data=b"x")
                store.flush()
            last = len(machine.disk.trace) + MERGE_CALLS
            machine.disk.faults = {last: "lost sync"}
            with pytest.raises(OSError, match="segments"):
                store.compact(everything=True)
            machine.disk.crash_at = last + crash
            with contextlib.suppress(OSError, StorageError):
                store.compact(everything=True)
            assert machine.lose_power().list() == ["/a", "/b"], f"call {crash}, seed {seed}"
            machine.end(machine.disk.kill())


def forget_at_next(machine, operation, path):
    """Behind the next such call another thread's sync of the directory fails, and forgets it."""
    disk, engine = machine.disk, machine.store._engine
    call = getattr(disk, operation)

    def calling(*arguments):
        call(*arguments)
        if path in arguments:
            setattr(disk, operation, call)
            disk.faults = {disk.call_count + 1: "lost sync"}
            with contextlib.suppress(OSError):
                engine.disk.sync_directory(engine.directory.segments)

    setattr(disk, operation, calling)


def test_a_flush_is_not_forgotten_with_the_sync_of_another_thread(machine):
    store = machine.open()
    store.create("/a", initial_data=b"acknowledged")
    forget_at_next(machine, "rename", "/data/segments/00000000000000000001.seg")
    assert not store._maintenance.try_flush()
    assert store._maintenance.try_flush()
    for _ in range(4):
        assert bytes(machine.lose_power().read("/a")) == b"acknowledged"


def test_what_a_merge_unlinks_is_not_forgotten_with_the_sync_of_another_thread(tmp_path):
    for seed in range(4):
        machine = Machine(tmp_path, seed)
        store = machine.open()
        for path in ("/a", "/b", "/c"):
            store.create(path, initial_data=b"x")
            store.flush()
        store.compact(everything=True)
        store.create("/d")
        store.flush()
        forget_at_next(machine, "unlink", CHANGED)
        with pytest.raises(OSError, match="segments"):
            store.compact(everything=True)
        store.compact(everything=True)
        assert machine.lose_power().list() == ["/a", "/b", "/c", "/d"]
        machine.end(machine.disk.kill())


def merge_twice(store):
    for path in ("/a", "/b", "/c"):
        store.create(path, initial_data=b"x")
        store.flush()
        store.compact(everything=True)


def test_a_file_that_only_changes_a_directory_is_a_leftover(tmp_path):
    before = Machine(tmp_path, 1)
    merge_twice(before.open())
    machine = Machine(tmp_path, 2)
    machine.disk.faults = {before.disk.trace.index(("unlink", CHANGED)) + 1: errno.EIO}
    store = machine.open()
    with pytest.raises(OSError, match=r"changed\.tmp"):
        merge_twice(store)
    store.close()
    machine.end(machine.disk.kill())
    assert CHANGED in machine.disk.files()
    assert all("cut short" in finding for finding in machine.verify())
    machine.open()
    assert CHANGED not in machine.disk.files()
    before.end(before.disk.kill())


def evict_all(store):
    store.flush()
    for _ in range(4):
        with store._engine.lock:
            store._engine.catalog.evict(store._engine.checkpoint.lsn, 0, 100)
    assert not store._engine.catalog.entries


def test_the_access_of_a_reader_that_outlasts_an_eviction_takes_nothing_back(machine):
    store = machine.open()
    store.create("/a", ttl_seconds=TTL, initial_data=b"first,")
    store.flush()
    engine = store._engine
    entry, view = engine.run(lambda seen: engine.view(seen, "/a"))
    evict_all(store)
    store.append("/a", b"second")
    machine.clock.advance(NOT_LOGGED + 1)
    assert engine.read_view(entry, view, None, 100, may_wait=True).size == 6  # and so an access
    engine.wait_durable(engine.log.staged_lsn)
    store.flush()
    assert bytes(machine.lose_power().read("/a")) == b"first,second"


def test_an_access_between_two_evictions_is_remembered(machine):
    store = machine.open()
    store.create("/a", ttl_seconds=TTL, initial_data=b"first,")
    store.flush()
    engine = store._engine
    entry, view = engine.run(lambda seen: engine.view(seen, "/a"))
    evict_all(store)
    machine.clock.advance(NOT_LOGGED)
    engine.read_view(entry, view, None, 100, may_wait=True)
    del entry, view
    assert store.get("/a").last_accessed_at == machine.clock.now


def test_a_stream_stays_trimmed_though_it_was_evicted_meanwhile(machine):
    store = machine.open()
    store.create("/a", retention_bytes=1, initial_data=b"first,")
    store.append("/a", b"second")
    operations = store._engine.operations
    entry, _ = store._engine.run(lambda seen: operations.to_trim(1))
    evict_all(store)
    store.get("/a")
    store._engine.run(lambda seen: operations.trim(seen, entry, len(b"first,")))
    store.append("/a", b"third")
    store.flush()
    assert bytes(store.read("/a")) == b"secondthird"
    assert bytes(machine.close().read("/a")) == b"secondthird"


@contextmanager
def monkeypatched_commit(store, error):
    """LMDB refuses every commit meanwhile."""

    def refuse(*arguments):
        raise error

    metadata = store._engine.metadata
    commit, metadata.commit = metadata.commit, refuse
    yield
    metadata.commit = commit
