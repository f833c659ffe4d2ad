"""The small parts of the server: CORS, statuses, sockets, request bodies, text events."""

from __future__ import annotations

import asyncio
import inspect
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream.engine import errors as engine_errors
from durastream.protocol import errors as protocol_errors
from durastream.protocol.errors import InvalidRequest, StreamError, TooLarge
from durastream.server.config import ServerConfig
from durastream.server.cors import Cors
from durastream.server.errors import ClientGone, Overloaded, RequestTimeout
from durastream.server.event_stream import ends_inside_character
from durastream.server.request import BodyBudget, Request
from durastream.server.sockets import AddressError, NotLoopback, base_url, listen_tcp, listen_unix
from durastream.server.status import REFUSALS, TROUBLE, refusal

# -- statuses ------------------------------------------------------------------------------


def all_errors():
    for module in (protocol_errors, engine_errors):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, StreamError) and kind is not StreamError:
                yield kind


@pytest.mark.parametrize("kind", list(all_errors()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status(kind):
    assert any(base in REFUSALS or base in TROUBLE for base in kind.__mro__)


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (engine_errors.StoreBusy("x"), 503, b"1"),
        (engine_errors.StoreFull("x"), 507, b"30"),
        (engine_errors.StoreFailed("x"), 503, b"10"),
        (engine_errors.ReadOnly("x"), 503, b"60"),
        (engine_errors.StreamQuarantined("/s", "/secret/place"), 503, b"60"),
        (engine_errors.Damaged("/s", "/secret/place"), 500, None),
        (Overloaded("x"), 503, b"1"),
    ],
)
def test_trouble_names_no_files_and_says_when_to_retry(error, status, retry):
    answer = refusal(error)
    assert answer.status == status
    assert dict(answer.headers).get(b"retry-after") == retry
    assert b"secret" not in b"".join(answer.body)


def test_a_closed_stream_tells_where_it_ends():
    answer = refusal(protocol_errors.StreamClosed("/s", "0_9", 3, 7))
    headers = dict(answer.headers)
    assert answer.status == 409
    assert headers[b"stream-closed"] == b"true"
    assert headers[b"stream-next-offset"] == b"0_9"
    assert (headers[b"producer-epoch"], headers[b"producer-seq"]) == (b"3", b"7")


# -- configuration -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"root": "v1/"},
        {"root": "/v1"},
        {"sse_max_age": 0},
        {"sse_heartbeat": -1},
        {"long_poll_timeout": -1},
        {"public_url": "streams.example.org"},
    ],
)
def test_options_without_meaning_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ServerConfig(**options)


@pytest.mark.parametrize("origins", ["https://a.test", {"a.test"}, {"https://a.test/"}])
def test_origins_are_checked(origins):
    with pytest.raises(ValueError, match="allow_origins"):
        Cors(allow_origins=origins if isinstance(origins, str) else frozenset(origins))


# -- request bodies ------------------------------------------------------------------------


def request_of(*messages, headers=()):
    queue = list(messages)

    async def receive():
        if not queue:
            await asyncio.sleep(3600)
        return queue.pop(0)

    scope = {
        "type": "http", "method": "POST", "path": "/a", "headers": list(headers),
        "query_string": b"a=1&b=&a=2",
    }  # fmt: skip
    return Request(scope, receive)


def part(body: bytes, more: bool = True) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


def body_of(request, budget=None, size_max=10):
    budget = budget or BodyBudget(100)
    return asyncio.run(request.body(size_max=size_max, idle_timeout=0.02, budget=budget))


def test_a_body_in_parts():
    assert body_of(request_of(part(b"ab"), part(b""), part(b"c", False))) == b"abc"
    assert body_of(request_of(part(b"", False))) == b""


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([part(b"x" * 6), part(b"x" * 5)], TooLarge),
        ([part(b"x"), {"type": "http.disconnect"}], ClientGone),
        ([{"type": "http.disconnect"}], ClientGone),
        ([part(b"x")], RequestTimeout),
    ],
)
def test_bodies_that_do_not_come_whole(messages, error):
    with pytest.raises(error):
        body_of(request_of(*messages))


def test_the_budget_is_shared_and_given_back():
    budget = BodyBudget(10, free_size=0)
    first = request_of(part(b"x" * 8, False))
    body_of(first, budget)
    with pytest.raises(Overloaded):
        body_of(request_of(part(b"x" * 3, False)), budget)
    first.release_body(budget)
    assert body_of(request_of(part(b"x" * 10, False)), budget) == b"x" * 10


def test_small_bodies_are_taken_beside_any_number_of_large_ones():
    budget = BodyBudget(10, free_size=4)
    large = request_of(part(b"x" * 8), part(b"x" * 6, False))
    body_of(large, budget, size_max=14)
    with pytest.raises(Overloaded):
        body_of(request_of(part(b"x" * 5, False)), budget)
    assert body_of(request_of(part(b"x" * 4, False)), budget) == b"x" * 4
    large.release_body(budget)
    assert body_of(request_of(part(b"x" * 10, False)), budget) == b"x" * 10


@pytest.mark.parametrize("size_max", [100, 20])
def test_a_body_that_trickles_in_ends_while_memory_is_scarce(size_max):
    """Each part comes within the idle timeout, for ever: 15 bytes of 20 are scarce, of 100 not."""

    async def receive() -> dict:
        await asyncio.sleep(0.005)
        parts.append(part(b"x" * 15 if not parts else b"", len(parts) < 20))
        return parts[-1]

    parts: list[dict] = []
    request = request_of()
    request.receive = receive
    budget = BodyBudget(size_max, free_size=0)
    if size_max == 20:
        with pytest.raises(RequestTimeout, match="too slowly"):
            body_of(request, budget, size_max=50)
    else:
        assert body_of(request, budget, size_max=50) == b"x" * 15


def test_headers_and_query():
    request = request_of(headers=[(b"a", b" x\t"), (b"b", b"1"), (b"b", b"2")])
    assert request.header(b"a") == "x"
    assert request.header(b"c") is None
    assert request.header_list(b"b") == "1, 2"
    with pytest.raises(InvalidRequest, match="more than once"):
        request.header(b"b")
    assert request.query() == {"a": ["1", "2"], "b": [""]}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"a.test:80", "https://a.test:80/m"),
        (b"[::1]:80", "https://[::1]:80/m"),
        (b"evil/../x", "https://local:8/m"),
        (b"", "https://local:8/m"),
    ],
)
def test_the_base_url_trusts_no_odd_host(host, expected):
    request = request_of(headers=[(b"host", host)])
    request.scope.update(scheme="https", server=("local", 8), root_path="/m")
    assert request.base_url() == expected


# -- text events ---------------------------------------------------------------------------


@given(st.text(), st.integers(0, 3))
def test_the_ends_of_cut_text(text, cut):
    data = text.encode()
    kept = data[: len(data) - cut]
    try:
        kept.decode()
        is_cut = False
    except UnicodeDecodeError:
        is_cut = True
    assert ends_inside_character(kept) is is_cut


@pytest.mark.parametrize("data", [b"\xff", b"\x80\x80\x80\x80", b"\xc0", b"\xf8\x80", b"a\x80"])
def test_bytes_that_no_append_can_complete(data):
    assert not ends_inside_character(data)


# -- sockets -------------------------------------------------------------------------------


def close_all(sockets):
    for listener in sockets:
        listener.close()


def test_connections_do_not_wait_for_delayed_acknowledgements():
    listeners = listen_tcp("127.0.0.1", 0)
    try:
        with socket.create_connection(listeners[0].getsockname()):
            accepted, _ = listeners[0].accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        close_all(listeners)


def test_a_taken_port_is_named():
    listeners = listen_tcp("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    try:
        with pytest.raises(AddressError, match=f"port {port} of 127.0.0.1 is in use"):
            listen_tcp("127.0.0.1", port)
    finally:
        close_all(listeners)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])
def test_more_than_the_loopback_only_if_wanted(host):
    with pytest.raises(NotLoopback):
        listen_tcp(host, 0, loopback_only=True)
    if host == "0.0.0.0":
        listeners = listen_tcp(host, 0)
        assert base_url(listeners[0], tls=True).startswith("https://127.0.0.1:")
        close_all(listeners)


def test_all_addresses_of_a_name_share_the_port():
    listeners = listen_tcp("localhost", 0, loopback_only=True)
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    close_all(listeners)


def test_an_unknown_host_is_named():
    with pytest.raises(AddressError, match=r"nowhere\.invalid"):
        listen_tcp("nowhere.invalid", 0)


def test_unix_sockets(tmp_path):
    path = tmp_path / "s"
    first = listen_unix(path)
    with pytest.raises(AddressError, match="another process"):
        listen_unix(path)
    first.close()
    listen_unix(path).close()  # what a dead process left behind is replaced
    path.unlink()
    path.write_text("data")
    with pytest.raises(AddressError, match="no socket"):
        listen_unix(path)
    assert path.read_text() == "data"
