"""A real server in this process over every store, and clients that see each byte."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from durastream import DurableStreamServer, Limits
from durastream.engine.store import Store
from support.stores import STORES
from support.wire import Client, Connection

LONG_POLL_TIMEOUT = 0.3
BODY_SIZE_MAX = 256 * 1024

_numbers = itertools.count()

StartServer = Callable[..., DurableStreamServer]


# The fast front end has the application serve the store in memory, and hands every request over.
COMBINATIONS = [(name, "fast") for name in STORES] + [("file", "asgi")]


@pytest.fixture(scope="session", params=COMBINATIONS, ids="-".join)
def combination(request) -> tuple[str, str]:
    """A store's name and a front end's."""
    return request.param


@pytest.fixture(scope="session")
def wire_store(combination, tmp_path_factory) -> Iterator[Store]:
    limits = Limits(body_size_max=BODY_SIZE_MAX)
    folder = tmp_path_factory.mktemp("wire") / "data"
    store = STORES[combination[0]].open(folder, lambda: time.time_ns() // 1_000_000, limits)
    yield store
    store.close()


@pytest.fixture(scope="session")
def front(combination) -> str:
    return combination[1]


@pytest.fixture(scope="session")
def server(wire_store, front) -> Iterator[DurableStreamServer]:
    with DurableStreamServer(
        0, store=wire_store, long_poll_timeout=LONG_POLL_TIMEOUT, front=front
    ) as running:
        yield running


@pytest.fixture
def start_server(wire_store, front) -> Iterator[StartServer]:
    """Start servers with other options over the same store."""
    running: list[DurableStreamServer] = []

    def start(**options) -> DurableStreamServer:
        server = DurableStreamServer(0, store=wire_store, front=front, **options)
        server.__enter__()
        running.append(server)
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


@pytest.fixture
def path() -> str:
    """A path that no other test uses."""
    return f"/v1/stream/wire/{next(_numbers)}"


@pytest.fixture
def connect(server) -> Iterator[Callable[[], Connection]]:
    opened: list[Connection] = []

    def open_one() -> Connection:
        opened.append(Connection(server.port))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def client(server) -> Iterator[Client]:
    client = Client(server.port)
    yield client
    client.close()
