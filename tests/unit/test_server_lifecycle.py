"""DurableStreamServer: on a loop, on a thread, with stores of its own and of others."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request

import pytest

from durastream import DurableStreamServer, DurableStreamTestServer, StreamStore
from durastream.server.sockets import AddressError


def put(server, name: str, data: bytes = b"") -> int:
    request = urllib.request.Request(
        f"{server.base_url}/v1/stream/{name}", data, {"content-type": "text/plain"}, method="PUT"
    )
    with urllib.request.urlopen(request) as answer:
        return answer.status


def get(server, name: str) -> bytes:
    with urllib.request.urlopen(f"{server.url}/v1/stream/{name}") as answer:
        return answer.read()


def test_a_server_on_a_thread():
    with DurableStreamTestServer() as server:
        assert server.port != 0
        assert server.base_url == server.url == f"http://127.0.0.1:{server.port}"
        assert put(server, "a", b"data") == 201
        assert get(server, "a") == b"data"
        assert server.store.list() == ["/v1/stream/a"]
        server.clear()
        with pytest.raises(urllib.error.HTTPError) as error:
            get(server, "a")
        error.value.close()
        assert error.value.code == 404
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url


def test_a_server_on_the_running_loop():
    async def scenario():
        server = DurableStreamServer(port=0)
        base_url = await server.start()
        assert base_url == server.base_url
        with pytest.raises(RuntimeError, match="already"):
            await server.start()
        assert await asyncio.to_thread(put, server, "a") == 201
        await server.stop()
        await server.stop()
        async with DurableStreamServer(port=0) as second:
            assert await asyncio.to_thread(put, second, "a") == 201

    asyncio.run(scenario())


def test_a_given_store_survives_its_server():
    store = StreamStore()
    for status in (201, 200):
        with DurableStreamTestServer(store=store) as server:
            assert put(server, "a") == status
    assert store.has("/v1/stream/a")
    store.close()


def test_a_data_directory_keeps_streams(tmp_path):
    for status in (201, 200):
        with DurableStreamTestServer(data_dir=tmp_path / "data") as server:
            assert put(server, "a") == status


def test_a_taken_port_leaves_nothing_behind(tmp_path):
    with DurableStreamTestServer() as server:
        taken = DurableStreamServer(server.port, data_dir=tmp_path / "data")
        with pytest.raises(AddressError, match="in use"), taken:
            pass
    with DurableStreamTestServer(data_dir=tmp_path / "data") as server:
        assert put(server, "a") == 201


def test_store_and_directory_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="exclude"):
        DurableStreamServer(store=StreamStore(), data_dir=tmp_path)


def test_two_servers_of_one_process():
    with DurableStreamTestServer() as first, DurableStreamTestServer() as second:
        put(first, "a", b"1")
        put(second, "a", b"2")
        assert (get(first, "a"), get(second, "a")) == (b"1", b"2")
