"""The fast front end and the application: over stores that lead the same life, the same answers."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream import DurableStreamServer
from durastream.engine.file_store import FileBackedStreamStore
from durastream.protocol.offset import format_offset
from durastream.server.cors import Cors
from durastream.server.fast_front import FastFront
from support.fuzzing import examples
from support.wire import Connection, request_bytes, wait_until

ROOT = "/v1/stream/fronts"
OCTETS = "application/octet-stream"

_numbers = itertools.count()


class Pair:
    """Two servers, one for each front end, over a store each."""

    def __init__(self, folder):
        self.now = 1_700_000_000_000
        self.stores = [
            FileBackedStreamStore(path=folder / name, clock=lambda: self.now)
            for name in ("fast", "asgi")
        ]
        self.servers = [
            DurableStreamServer(0, store=store, front=front, long_poll_timeout=0.1).__enter__()
            for store, front in zip(self.stores, ("fast", "asgi"), strict=True)
        ]

    def create(self, content_type=OCTETS, **options):
        path = f"{ROOT}/{next(_numbers)}"
        for store in self.stores:
            store.create(path, content_type=content_type, **options)
        return path

    def ask(self, parts, count, heads=()):
        """The answers of both to the same bytes, in the same pieces."""
        found = []
        for server in self.servers:
            with Connection(server.port) as connection:
                for part in parts:
                    connection.send(part)
                answers = [connection.answer(head_only=n in heads) for n in range(count)]
            found.append([comparable(answer) for answer in answers])
        return found

    def close(self):
        for server, store in zip(self.servers, self.stores, strict=True):
            server.__exit__(None, None, None)
            store.close()


def comparable(answer):
    """Everything, in order, but what moves with the time of day."""
    headers = [header for header in answer.headers if header[0] not in ("date", "stream-cursor")]
    return answer.status, headers, answer.body


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pair = Pair(tmp_path_factory.mktemp("fronts"))
    yield pair
    pair.close()


QUERIES = [
    "", "?offset=-1", "?offset=now", "?", "?offset=", "?offset=x", "?a=b", "?offset=-1&offset=-1",
    *(f"?offset={format_offset(position)}" for position in (0, 3, 4, 10**6)),
    "?offset=-1&live=long-poll", "?live=sse",
]  # fmt: skip
BODIES = [
    b"abc", b"1", b"[1,2]", b'{"a": 1}', b" [] ", b"{", b"", b"\xff", b"x" * 70_000,
    b'"%b"' % (b"y" * 20_000),
]  # fmt: skip
HEADERS = [
    {}, {"user_agent": "x"}, {"origin": "http://o.test"}, {"stream_seq": "1"}, {"x_empty": ""},
    {"producer_id": "p", "producer_epoch": "0", "producer_seq": "0"}, {"stream_closed": "true"},
    {"expect": "x"}, {"content_encoding": "gzip"}, {"if_none_match": '"1:0:0"'},
    {"if_none_match": "*"},
]  # fmt: skip
TYPES = [OCTETS, "application/json", "Application/Octet-Stream", "text/plain"]
ELSEWHERE = [ROOT + "/missing", ROOT + "/./x", "/v1/stream/__ds/x", "/v1/other", "/v1/stream/"]


@st.composite
def requests(draw, path):
    """What the fast front end serves, and others that only look like it."""
    method = draw(st.sampled_from(["GET", "GET", "HEAD", "POST", "POST", "POST", "PUT", "DELETE"]))
    where = draw(st.just(path) | st.sampled_from(ELSEWHERE))
    headers = draw(st.just({}) | st.sampled_from(HEADERS))
    if method == "GET":
        return request_bytes(method, where + draw(st.sampled_from(QUERIES)), **headers)
    if method not in ("POST", "PUT"):
        return request_bytes(method, where, **headers)
    body = draw(st.sampled_from(BODIES)) if method == "POST" else b""
    return request_bytes(method, where, body, content_type=draw(st.sampled_from(TYPES)), **headers)


@examples(60)
@given(data=st.data(), content_type=st.sampled_from([OCTETS, "application/json"]))
def test_both_answer_alike(pair, data, content_type):
    path = pair.create(content_type)
    asked = data.draw(st.lists(requests(path), min_size=1, max_size=8))
    raw = b"".join(asked)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    parts = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)]) if a < b]
    heads = [n for n, each in enumerate(asked) if each.startswith(b"HEAD")]
    fast, asgi = pair.ask(parts, len(asked), heads)
    assert fast == asgi
    states = [store.get(path) for store in pair.stores]
    ours, theirs = [state and (state.current_offset, state.closed) for state in states]
    assert ours == theirs
    if ours is not None:
        assert bytes(pair.stores[0].read(path)) == bytes(pair.stores[1].read(path))


@pytest.mark.parametrize("content_type", [OCTETS, "application/json", "text/plain; charset=utf-8"])
@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("flushed", [False, True])
def test_reads_and_heads_are_alike(pair, content_type, is_closed, flushed):
    path = pair.create(content_type)
    for store in pair.stores:
        for _ in range(3):
            store.append(path, b"123")
        if flushed:
            store.flush()
        if is_closed:
            store.close_stream(path)
    tail = pair.stores[0].get(path).current_offset
    queries = ["", "?offset=-1", "?offset=now", f"?offset={tail}", "?offset=" + format_offset(3)]
    tags = [{}, {"if_none_match": '"0:0:9"'}, {"if_none_match": f'"{number_of(pair, path):x}:0:9"'}]
    for _ in range(2):  # the second time the fast one knows where bytes lie
        for query in queries:
            for headers in tags:
                fast, asgi = pair.ask([request_bytes("GET", path + query, **headers)], 1)
                assert fast == asgi
        fast, asgi = pair.ask([request_bytes("HEAD", path)], 1, [0])
        assert fast == asgi


def number_of(pair, path):
    return pair.stores[0].get(path).incarnation


def test_the_stores_gave_out_the_same_numbers(pair):
    path = pair.create()
    assert pair.stores[0].get(path).incarnation == pair.stores[1].get(path).incarnation


# -- the connection ----------------------------------------------------------------------------


def is_fast(server):
    return isinstance(server._serving._front, FastFront)


@pytest.mark.parametrize("count", [255, 256, 257, 512, 700])
def test_hundreds_of_appends_in_one_segment_are_answered_in_order(pair, count):
    path = pair.create()
    bodies = [b"%03d;" % number for number in range(count)]
    raw = b"".join(request_bytes("POST", path, body, content_type=OCTETS) for body in bodies)
    fast, asgi = pair.ask([raw, request_bytes("HEAD", path)], count + 1, [count])
    assert fast == asgi
    assert is_fast(pair.servers[0])
    assert bytes(pair.stores[0].read(path)) == b"".join(bodies)


def test_a_large_answer_arrives_whole_though_its_client_reads_late(pair):
    path = pair.create(initial_data=b"x" * (3 << 20))
    for server in pair.servers:
        with Connection(server.port) as connection:
            connection.send(request_bytes("GET", path) * 3)
            time.sleep(0.2)
            for _ in range(3):
                assert len(connection.answer().body) == 3 << 20


def test_a_read_behind_an_append_on_one_connection_shows_it(pair):
    path = pair.create()
    post = request_bytes("POST", path, b"abc", content_type=OCTETS)
    for server in pair.servers:
        with Connection(server.port) as connection:
            connection.send((post + request_bytes("GET", path)) * 5)
            for number in range(1, 6):
                assert connection.answer().status == 204
                assert connection.answer().body == b"abc" * number


def test_a_connection_goes_back_and_forth(pair):
    path = pair.create()
    post = request_bytes("POST", path, b"abc", content_type=OCTETS)
    with Connection(pair.servers[0].port) as connection:
        for number in range(10):
            connection.send(post)
            assert connection.answer().status == 204
            seq = f"{number:03d}"
            connection.send(request_bytes("POST", path, b"x", content_type=OCTETS, stream_seq=seq))
            assert connection.answer().status == 204
    assert bytes(pair.stores[0].read(path)) == b"abcx" * 10


def test_a_server_that_stops_answers_what_is_under_way(tmp_path):
    store = FileBackedStreamStore(path=tmp_path)
    store.create(ROOT, content_type=OCTETS)
    server = DurableStreamServer(0, store=store).__enter__()
    with Connection(server.port) as connection, Connection(server.port) as idle:
        connection.send(request_bytes("POST", ROOT, b"abc", content_type=OCTETS) * 50)
        assert connection.answer().status == 204
        idle.send(request_bytes("GET", ROOT)[:20])
        server.__exit__(None, None, None)
        rest = connection.rest()
        assert idle.is_ended()
    answered = 1 + rest.count(b"HTTP/1.1 204")
    assert len(bytes(store.read(ROOT))) >= 3 * answered
    store.close()


def test_appends_that_cannot_become_durable_are_refused(tmp_path):
    store = FileBackedStreamStore(path=tmp_path)
    store.create(ROOT, content_type=OCTETS)
    with DurableStreamServer(0, store=store) as server, Connection(server.port) as connection:
        connection.send(request_bytes("POST", ROOT, b"abc", content_type=OCTETS))
        assert connection.answer().status == 204
        store.close()
        connection.send(request_bytes("POST", ROOT, b"abc", content_type=OCTETS))
        assert connection.answer().status == 503


def test_a_page_of_another_origin_gets_the_headers_of_its_own(tmp_path):
    store = FileBackedStreamStore(path=tmp_path)
    store.create(ROOT, content_type=OCTETS)
    allowed = "http://good.test"
    with (
        DurableStreamServer(0, store=store, cors=Cors(frozenset([allowed]))) as server,
        Connection(server.port) as connection,
    ):
        for origin in (None, allowed, "http://bad.test"):
            headers = {} if origin is None else {"origin": origin}
            connection.send(request_bytes("HEAD", ROOT, **headers))
            found = dict(connection.answer(head_only=True).headers)
            assert ("access-control-allow-origin" in found) == (origin == allowed)
    store.close()


@pytest.mark.parametrize("size", [0, 1, 3])
def test_nothing_is_kept_of_clients_that_left(pair, size):
    path = pair.create()
    raw = request_bytes("POST", path, b"abc", content_type=OCTETS)
    with Connection(pair.servers[0].port) as connection:
        connection.send(raw * size + raw[: 10 * size])
    wait_until(lambda: not pair.servers[0]._serving.server_state.connections)
