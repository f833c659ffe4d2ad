"""What judges a killed server finds each kind of broken promise, on streams made to show it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durastream import DurableStreamTestServer
from killing import ledger as kinds
from killing.audit import Audit
from killing.ledger import Book, Ledger, View
from killing.life import judge
from killing.tokens import JSON, TEXT, TokenReader, body
from support.http_client import HttpClient

A0, A1, A2, B0 = ("a", 0), ("a", 1), ("a", 2), ("b", 0)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with DurableStreamTestServer() as server:
        yield server.port


@pytest.fixture
def client(port: int) -> Iterator[HttpClient]:
    with HttpClient(port) as client:
        yield client


@pytest.fixture(params=[TEXT, JSON])
def book(request, client) -> Iterator[Book]:
    book = Book("audited", request.param)
    client.request("DELETE", book.path)
    client.request("PUT", book.path, headers={"Content-Type": book.content_type})
    book.tried = {"a": 2, "b": 0}
    return book


def store(client: HttpClient, book: Book, *tokens) -> None:
    for token in tokens:
        content = token if isinstance(token, bytes) else body(token, book.content_type)
        headers = {"Content-Type": book.content_type}
        assert client.request("POST", book.path, content, headers).status == 204


def found(ledger: Ledger) -> dict[str, int]:
    return {kind: count for kind, count in ledger.violations.items() if count}


def audited(client: HttpClient, book: Book) -> dict[str, int]:
    """What an audit finds, which must be the same when it looks again in either way."""
    ledger = Ledger()
    audit = Audit(book, ledger)
    audit.read_on(client)
    first = found(ledger)
    audit.read_on(client)
    audit.read_all(client)
    assert found(ledger) == first
    return first


def test_what_is_right_is_found_right(client, book):
    book.acknowledged = [A0, B0, A2]
    book.views = [View([A0, B0], [("-1", 0)])]
    store(client, book, A0, B0, A2)
    assert audited(client, book) == {}


def test_a_batch_in_doubt_may_be_there_or_not(client, book):
    book.acknowledged = [A0, A2]
    store(client, book, A0, A2)
    assert audited(client, book) == {}
    store(client, book, B0)
    assert audited(client, book) == {}


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        ([A0, A2], kinds.LOST),
        ([A0, A1, A1, A2], kinds.DOUBLED),
        ([A0, A2, A1], kinds.OUT_OF_ORDER),
        ([A0, A1, A2, ("a", 3)], kinds.RESURRECTED),
        ([A0, A1, A2, ("stranger", 0)], kinds.RESURRECTED),
    ],
)
def test_each_fault_is_found_once(client, book, stored, kind):
    book.acknowledged = [A0, A1, A2]
    store(client, book, *stored)
    assert audited(client, book) == {kind: 1}


def test_a_torn_batch_is_found(client, book):
    book.acknowledged = [A0, A2]
    text, messages = body(A1, TEXT)[:-9], b'{"writer":"a","number":1,"part":0,"of":9}'
    torn = text if book.content_type == TEXT else messages
    store(client, book, A0, torn, A2)
    assert audited(client, book) == {kinds.TORN: 1}
    store(client, book, torn)
    assert audited(client, book) == {kinds.TORN: 2}


@pytest.mark.parametrize("shown", [[A0, A1], [B0], [A0, A0, B0]], ids=["gone", "moved", "twice"])
def test_what_was_shown_must_stay_where_it_was(client, book, shown):
    book.views = [View(shown, [])]
    store(client, book, A0, B0)
    assert audited(client, book) == {kinds.SHOWN: 1}


def test_a_stream_that_is_shorter_than_it_was(client, book):
    book.acknowledged = [A0, A1]
    store(client, book, A0, A1)
    ledger = Ledger()
    audit = Audit(book, ledger)
    audit.read_on(client)
    client.request("DELETE", book.path)
    client.request("PUT", book.path, headers={"Content-Type": book.content_type})
    store(client, book, A0)
    audit.read_on(client)
    assert found(ledger) == {kinds.SHOWN: 1, kinds.LOST: 1}


def test_offsets_that_lead_elsewhere(client, book):
    store(client, book, A0, A1)
    ledger = Ledger()
    view = View([A1, A0], [("-1", 0)])
    Audit(book, ledger).check_marks(client, view, [0])
    assert found(ledger) == {kinds.SHOWN: 1}


def test_closed_and_deleted_streams(client, book):
    ledger = Ledger()
    audit = Audit(book, ledger)
    audit.check_closed(client)
    audit.check_closed(client)
    audit.check_deleted(client)
    audit.check_deleted(client)
    assert found(ledger) == {kinds.REOPENED: 1, kinds.RESURRECTED: 1}


def test_closed_and_deleted_streams_that_stay_so(client, book):
    ledger = Ledger()
    audit = Audit(book, ledger)
    client.request("POST", book.path, b"", {"Stream-Closed": "true"})
    audit.check_closed(client)
    client.request("DELETE", book.path)
    audit.check_deleted(client)
    assert found(ledger) == {}


def test_a_stream_that_is_not_there_is_lost(client, book):
    book.acknowledged = [A0]
    client.request("DELETE", book.path)
    assert audited(client, book) == {kinds.LOST: 2}  # the stream, and what was in it


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ([A0, A1, A2], None),
        ([A0, A2], None),  # A1 is in doubt
        ([A0, A1], kinds.LOST),
        ([A0, A2, A1], kinds.OUT_OF_ORDER),
        ([A0, A1, A1, A2], kinds.DOUBLED),
        ([A0, A1, A2, B0], kinds.RESURRECTED),
    ],
)
def test_small_streams_are_judged_exactly(found, kind):
    expected = [(A0, True), (A1, False), (A2, True)]
    assert [complaint for complaint, _ in judge(expected, found)] == ([kind] if kind else [])


@pytest.mark.parametrize("found", [[A0], [A0, A1, B0]], ids=["missing", "there all the same"])
def test_changes_made_in_part_are_torn(found):
    assert [kind for kind, _ in judge([(A0, True), (A1, True)], found, {A1, B0})] == [kinds.TORN]


@pytest.mark.parametrize("content_type", [TEXT, JSON])
def test_tokens_survive_any_cut(content_type):
    tokens = [("a-1", number) for number in range(40)]
    contents = [body(token, content_type) for token in tokens]
    reader = TokenReader(content_type)
    if content_type == TEXT:
        whole = b"".join(contents)
        pieces = [whole[start : start + 77] for start in range(0, len(whole), 77)]
    else:
        pieces = contents
    assert [token for piece in pieces for token in reader.feed(piece)] == tokens
    assert reader.is_between
    assert reader.torn == 0
