"""The fast front end's answers as bytes. That they are the application's, tests/wire compares."""

from types import SimpleNamespace

from durastream.server.answer import text_answer
from durastream.server.fast_answers import Answers

STATE = SimpleNamespace(default_headers=[(b"date", b"today")])


def test_a_refusal_is_whole():
    answers = Answers(STATE, [(b"x-base", b"1")], "public")
    assert answers.refusal(text_answer(503, "too bad", (b"retry-after", b"1"))) == (
        b"HTTP/1.1 503 Service Unavailable\r\ndate: today\r\nx-base: 1\r\n"
        b"cache-control: no-store\r\n"
        b"retry-after: 1\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 8\r\n\r\n"
        b"too bad\n"
    )


def test_the_date_is_renewed_with_the_server_s():
    state = SimpleNamespace(default_headers=[(b"date", b"today")])
    answers = Answers(state, [], "public")
    assert b"date: today\r\n" in answers.refusal(text_answer(404, "x"))
    state.default_headers = [(b"date", b"tomorrow")]
    assert b"date: tomorrow\r\n" in answers.refusal(text_answer(404, "x"))
