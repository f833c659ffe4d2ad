"""What server/http.py uses of uvicorn and httptools beyond their documented interface.

A failure here means that a new version moved something: read its http protocol anew.
"""

from __future__ import annotations

import inspect

import httptools
import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import Server


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_protocol_is_made_with_these_arguments():
    assert parameters(HttpToolsProtocol) == ["config", "server_state", "app_state", "_loop"]


def test_a_cycle_is_made_with_these_arguments():
    assert parameters(RequestResponseCycle) == [
        "scope",
        "transport",
        "flow",
        "logger",
        "access_logger",
        "access_log",
        "default_headers",
        "message_event",
        "expect_100_continue",
        "keep_alive",
        "on_response",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "_start_asgi_task",
        "_unset_keepalive_if_required",
        "connection_lost",
        "connection_made",
        "on_body",
        "on_header",
        "on_message_begin",
        "on_response_complete",
        "on_url",
        "pause_writing",
        "resume_writing",
        "shutdown",
    ],
)
def test_the_protocol_has_these_methods(name):
    assert callable(getattr(HttpToolsProtocol, name))


def test_the_source_still_reads_as_it_was_read():
    """The order of events inside uvicorn that server/http.py relies on."""
    lost = inspect.getsource(HttpToolsProtocol.connection_lost)
    assert "self.cycle.disconnected = True" in lost
    run = inspect.getsource(RequestResponseCycle.run_asgi)
    assert "not self.response_started and not self.disconnected" in run
    send = inspect.getsource(RequestResponseCycle.send)
    assert send.index("self.response_complete = True") < send.index("self.transport.close()")
    assert "if not self.keep_alive:" in send
    assert "waiting_for_100_continue" in inspect.getsource(RequestResponseCycle.receive)
    start = inspect.getsource(HttpToolsProtocol.on_response_complete)
    assert "self.pipeline.pop()" in start


def test_the_server_can_be_steered():
    assert parameters(Server.shutdown) == ["self", "sockets"]
    for name in ["capture_signals", "main_loop", "on_tick", "serve"]:
        assert callable(getattr(Server, name))
    assert STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")
    assert callable(FlowControl.resume_reading)


def test_httptools_reports_the_end_of_an_upgrade_request():
    class Nothing:
        def on_message_complete(self):
            self.completed = True

    callbacks = Nothing()
    parser = httptools.HttpRequestParser(callbacks)
    head = b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        parser.feed_data(head + b"x")
    assert upgrade.value.args == (len(head),)
    assert callbacks.completed  # before its body: why the body is read by a second parser
