"""Export and import of streams: nothing of them is lost, and nothing that is there is changed."""

from __future__ import annotations

import json
from array import array

import pytest
from click.testing import CliRunner

from durastream.cli import main
from durastream.cli.export_source import open_source
from durastream.engine.errors import OpenError
from durastream.engine.file_store import FileBackedStreamStore
from durastream.engine.transfer_format import Appended, StreamLine, read_list
from durastream.protocol.errors import OffsetGone, StreamNotFound
from durastream.protocol.state import ClosedBy, ProducerState
from support.backups import shown, verified
from support.damage import flip, populate
from support.stores import SMALL_LIMITS, SMALL_STORE


@pytest.fixture
def store(opener):
    store = opener()
    populate(store)
    store.append("/good", b"with a sequence;", seq="s-1")
    store.append("/json", b'[ {"b" : 1.0} , "x,y" ]')
    store.create("/closed", content_type="application/json")
    closing = {"producer_id": "writer", "producer_epoch": 2, "producer_seq": 0}
    store.append("/closed", b"[1,2,3]", close=True, **closing)
    store.append("/bad", b"large" * 300_000)
    return store


@pytest.fixture
def other(tmp_path, clock):
    stores = []

    def open_other():
        found = FileBackedStreamStore(
            tmp_path / "other", limits=SMALL_LIMITS, options=SMALL_STORE, clock=clock
        )
        stores.append(found)
        return found

    yield open_other
    for found in stores:
        found.close()


def run(work):
    for _ in work.run():
        pass
    return work


def export(store, folder, paths=None):
    return run(store.exporting(folder, paths)).lines


def import_from(folder, store):
    return run(store.importing(read_list(folder))).result


def test_everything_comes_along(store, other, tmp_path):
    lines = export(store, tmp_path / "files")
    assert [line.path for line in lines] == store.list()
    target = other()
    result = import_from(tmp_path / "files", target)
    assert sorted(result.imported) == store.list()
    assert result.size == sum(line.size for line in lines)
    for _ in range(2):  # before and after recovery
        assert shown(target) == shown(store)
        for path in store.list():
            old, new = store.get(path), target.get(path)
            for name in ("created_at", "ttl_seconds", "expires_at", "closed_by", "earliest_offset"):
                assert getattr(new, name) == getattr(old, name), (path, name)
        target.close()
        verified(tmp_path / "other")
        target = other()


def test_producers_go_on(store, other, tmp_path):
    export(store, tmp_path / "files")
    target = other()
    import_from(tmp_path / "files", target)
    for found in (store, target):
        for seq, status in ((0, "duplicate"), (1, "duplicate"), (3, "sequence_gap")):
            tuples = {"producer_id": "writer", "producer_epoch": 1, "producer_seq": seq}
            assert found.append("/good", b"?", **tuples).producer.status == status
        again = {"producer_id": "writer", "producer_epoch": 2, "producer_seq": 0}
        assert found.append("/closed", b"[1,2,3]", close=True, **again).producer.status == (
            "duplicate"
        )


def test_ends_of_messages_and_appends_come_along(store, other, tmp_path):
    export(store, tmp_path / "files")
    target = other()
    import_from(tmp_path / "files", target)
    for found in (store, target):
        whole = found.read("/json")
        assert len(whole.messages) == 2
        fork = found.create(
            "/json-fork",
            forked_from="/json",
            fork_offset=whole.messages[0].offset,
            fork_sub_offset=1,
        )
        assert bytes(found.read("/json-fork")) == b'1,{"a":2},{"b" : 1.0},'
        assert fork.created


def test_a_fork_is_exported_whole(store, other, tmp_path):
    export(store, tmp_path / "files", ["/fork-of-fork"])
    target = other()
    import_from(tmp_path / "files", target)
    assert bytes(target.read("/fork-of-fork")) == bytes(store.read("/fork-of-fork"))
    assert target.list() == ["/fork-of-fork"]


def test_many_messages_a_chunk(opener, other, tmp_path):
    store = opener()
    store.create("/many", content_type="application/json")
    store.append("/many", b"[%b]" % b",".join(b"%d" % n for n in range(400_000)))
    store.append("/many", b"[%b]" % b",".join(b'"%d"' % n for n in range(100)))
    (line,) = export(store, tmp_path / "files")
    assert line.message_count == 400_100
    target = other()
    import_from(tmp_path / "files", target)
    assert shown(target) == shown(store)


def test_an_export_is_no_access(opener, clock, tmp_path):
    store = opener()
    store.create("/brief", ttl_seconds=100, initial_data=b"data")
    before = store.get("/brief").last_accessed_at
    clock.advance(seconds=50)
    (line,) = export(store, tmp_path / "files")
    assert store.get("/brief").last_accessed_at == line.last_accessed_at == before


def test_time_goes_on_in_an_export(opener, other, clock, tmp_path):
    store = opener()
    store.create("/brief", ttl_seconds=100, initial_data=b"data")
    export(store, tmp_path / "files")
    clock.advance(seconds=101)
    result = import_from(tmp_path / "files", other())
    assert [(note.path, note.text) for note in result.refused] == [("/brief", "its time is over")]


def test_a_stream_that_is_another_one_is_left_alone(store, other, tmp_path):
    export(store, tmp_path / "files", ["/good", "/json", "/closed"])
    target = other()
    import_from(tmp_path / "files", target)
    again = import_from(tmp_path / "files", target)
    assert (len(again.present), again.imported, again.refused) == (3, [], [])
    target.append("/json", b"3")
    target.delete("/good")
    target.create("/good", initial_data=b"my own")
    result = import_from(tmp_path / "files", target)
    assert {note.path: note.text.partition(":")[0] for note in result.refused} == {
        "/good": "another stream is there",
        "/json": "a longer stream is there",
    }
    assert bytes(target.read("/good")) == b"my own"
    assert result.present == ["/closed"]


class Made:
    """A stream that is made up."""

    note = ""

    def __init__(self, appends, **fields):
        self.made = appends
        self.line = StreamLine(
            path="/made", content_type="text/plain", created_at=1, last_accessed_at=1, **fields
        )

    def check(self):
        pass

    def appends(self):
        for data in self.made:
            yield Appended(data, array("I", [len(data)]))


@pytest.mark.parametrize(
    ("appends", "why"),
    [
        ([b"first", b"other", b"more"], "a stream with other bytes"),
        ([b"first", b"secondary"], "a shorter stream"),
    ],
)
def test_a_stream_with_other_bytes_is_left_alone(other, appends, why):
    target = other()
    run(target.importing([Made([b"first", b"second"[:5]])]))
    result = run(target.importing([Made(appends)])).result
    assert result.refused[0].text.startswith(why)
    assert bytes(target.read("/made")) == b"firstsecon"


def test_an_import_that_was_cut_short_goes_on(other):
    whole = Made(
        [b"one;", b"two;", b"three;"],
        closed=True,
        closed_by=ClosedBy("p", 1, 7),
        last_seq="z",
        producers={"p": ProducerState(1, 7, 5), "q": ProducerState(4, 2, 5)},
    )
    target = other()
    for count in (1, 2, 3):
        steps = target.importing([whole]).run()
        for _ in range(count):
            next(steps)
        steps.close()
        target.close()
        target = other()
    assert not target.get("/made").closed
    result = run(target.importing([whole])).result
    assert result.imported == ["/made"]
    assert bytes(target.read("/made")) == b"one;two;three;"
    stream = target.get("/made")
    assert (stream.closed, stream.closed_by, stream.last_seq) == (True, ClosedBy("p", 1, 7), "z")
    assert target.get_producer_epoch("/made", "q") == 4
    assert run(target.importing([whole])).result.present == ["/made"]


def test_a_trimmed_stream_keeps_its_offsets(other, tmp_path):
    target = other()
    run(target.importing([Made([b"late"], earliest=1000)]))
    for number in range(2):
        stream = target.get("/made")
        assert stream.earliest_offset.endswith("1000")
        assert stream.current_offset.endswith("1004")
        assert bytes(target.read("/made", stream.earliest_offset)) == b"late"
        with pytest.raises(OffsetGone):
            target.read("/made", stream.earliest_offset.replace("1000", "0999"))
        (line,) = export(target, tmp_path / f"files-{number}")
        assert (line.earliest, line.size) == (1000, 4)
        target.close()
        target = other()


def test_retention_goes_on(opener, other, clock, tmp_path):
    store = opener()
    store.create("/aged", retention_seconds=1600, retention_bytes=1000)
    for number in range(5):
        store.append("/aged", b"%d;" % number)
        clock.advance(seconds=200)
    export(store, tmp_path / "files")
    target = other()
    import_from(tmp_path / "files", target)
    for _ in range(2):
        old, new = (found._engine.reserved_view("/aged").state for found in (store, target))
        assert (new.retention, new.marks) == (old.retention, old.marks)
        assert len(new.marks) == 5
        target.close()
        target = other()
    clock.advance(seconds=1000)
    for found in (store, target):
        found.sweep()
        assert bytes(found.read("/aged", found.get("/aged").earliest_offset)) == b"2;3;4;"


def test_damage_in_an_export_is_found_before_anything_is_imported(store, other, tmp_path):
    lines = export(store, tmp_path / "files", ["/good", "/json", "/until"])
    flip(tmp_path / "files" / lines[0].file, 3)
    (tmp_path / "files" / lines[1].file).with_suffix(".ends").unlink()
    target = other()
    result = import_from(tmp_path / "files", target)
    assert [note.path for note in result.damaged] == ["/good", "/json"]
    assert "not what was exported" in result.damaged[0].text
    assert target.list() == result.imported == ["/until"]


def test_a_store_in_use_is_exported_from_a_copy(store, tmp_path):
    scratch = tmp_path / "scratch"
    with open_source(store.path, scratch) as source:
        assert source.path == scratch / "data"
        export(source, tmp_path / "files")
    assert not scratch.exists()
    assert len(read_list(tmp_path / "files")) == 6


def test_refusals(store, tmp_path):
    with pytest.raises(StreamNotFound):
        export(store, tmp_path / "files", ["/none"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OpenError, match="is not empty"):
        export(store, tmp_path / "full")
    with pytest.raises(OpenError, match="no export is here"):
        read_list(tmp_path / "full")


# -- the commands --------------------------------------------------------------------------


def durastream(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_export_and_import_as_commands(store, tmp_path):
    store.close()
    exported = durastream("export", store.path, "/good", "/json", tmp_path / "files")
    assert exported.exit_code == 0
    assert "2 streams, 7 messages, 57 B" in exported.stdout
    imported = durastream("import", tmp_path / "files", tmp_path / "new")
    assert imported.exit_code == 0
    assert "2 streams imported, 57 B\n" in imported.stdout
    again = json.loads(durastream("import", tmp_path / "files", tmp_path / "new", "--json").stdout)
    assert (again["present"], again["imported"]) == (["/good", "/json"], [])
    (line, *_) = read_list(tmp_path / "files")
    flip(tmp_path / "files" / line.line.file, 0)
    damaged = durastream("import", tmp_path / "files", tmp_path / "newer")
    assert damaged.exit_code == 6
    assert "damaged  /good\n" in damaged.stdout
    assert "NOT IMPORTED: 1 stream;" in damaged.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["export", "{data}", "{tmp}/f"], 2, "streams are wanted, or --all"),
        (["export", "{data}", "/good", "--all", "{tmp}/f"], 2, "streams are wanted, or --all"),
        (["export", "http://127.0.0.1:1/", "--all", "{tmp}/f"], 2, "name them"),
        (["export", "http://127.0.0.1:1/", "x", "{tmp}/f"], 1, "Connection refused"),
        (["export", "{data}", "/none", "{tmp}/f"], 1, "/none"),
        (["export", "{tmp}/none", "--all", "{tmp}/f"], 1, "no FORMAT file"),
        (["import", "{tmp}", "{tmp}/new"], 1, "no export is here"),
    ],
)
def test_commands_that_cannot_be_done(store, tmp_path, arguments, status, message):
    store.close()
    result = durastream(*(a.format(data=store.path, tmp=tmp_path) for a in arguments))
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
