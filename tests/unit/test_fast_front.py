"""The compiled front end alone: no answer leaves before what it says is durable (I1, I4)."""

import asyncio
from types import SimpleNamespace

import pytest

from durastream.engine.file_store import FileBackedStreamStore
from durastream.server.app import create_app
from durastream.server.fast_front import FastFront
from durastream.server.http_patience import HttpOptions
from support.wire import request_bytes

PATH = "/v1/stream/a"
POST = request_bytes("POST", PATH, b"abc", content_type="application/octet-stream")


class Transport:
    """Keeps what is written."""

    def __init__(self):
        self.written = b""

    def write(self, data):
        self.written += data

    def is_closing(self):
        return False

    @property
    def answers(self):
        return self.written.count(b"HTTP/1.1 204")


@pytest.fixture
def store(tmp_path):
    store = FileBackedStreamStore(path=tmp_path)
    store.create(PATH)
    store._engine.stop_committing()  # from here on the test commits
    yield store
    store.close()


def serve(store):
    app = create_app(store)
    state = SimpleNamespace(default_headers=[], connections=set(), tasks=set(), total_requests=0)
    config = SimpleNamespace(limit_concurrency=None, timeout_keep_alive=75)
    front = FastFront(app, HttpOptions(), None, config, state, asyncio.get_running_loop())
    connection, transport = front.connect(), Transport()
    connection.connection_made(transport)
    return front, connection, transport


def test_an_answer_waits_for_its_own_commit(store):
    async def main():
        front, connection, transport = serve(store)
        log = store._engine.log
        connection.data_received(POST)
        await asyncio.sleep(0.02)
        assert transport.answers == 0
        assert log.commit_step()
        connection.data_received(POST)  # logged before the loop hears of that commit
        await asyncio.sleep(0.02)
        assert transport.answers == 1
        assert log.commit_step()
        await asyncio.sleep(0.02)
        assert transport.answers == 2
        assert transport.written.rstrip().endswith(b"0000000000000006")
        front.close()

    asyncio.run(main())


def test_a_read_behind_an_append_waits_for_it(store):
    async def main():
        front, connection, transport = serve(store)
        connection.data_received(POST + request_bytes("GET", PATH)[:20])
        await asyncio.sleep(0.02)
        assert transport.written == b""
        assert store._engine.log.commit_step()
        await asyncio.sleep(0.02)
        connection.data_received(request_bytes("GET", PATH)[20:])
        assert transport.written.endswith(b"\r\n\r\nabc")
        front.close()

    asyncio.run(main())
