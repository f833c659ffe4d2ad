"""The ASGI application by itself: lifespan, mounting, hooks, failures."""

from __future__ import annotations

import asyncio
import json

import pytest

from durastream import LifecycleHooks, StreamStore, create_app, create_registry_hooks
from durastream.protocol.errors import StreamError


async def call(app, method, path, body=b"", *, root_path="", headers=()):
    """One request; (status, headers, body)."""
    sent = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if not messages:
            await asyncio.sleep(3600)
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": root_path + path, "scheme": "http",
        "raw_path": (root_path + path).encode(), "query_string": query.encode(),
        "root_path": root_path, "headers": [(b"host", b"h.test"), *headers],
    }  # fmt: skip
    await app(scope, receive, send)
    if not sent:
        return None
    assert sent[-1].get("more_body") is False
    body = b"".join(bytes(message["body"]) for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


def run(coroutine):
    return asyncio.run(coroutine)


TEXT = [(b"content-type", b"text/plain")]


def test_a_mounted_application_does_not_know_its_prefix():
    store = StreamStore()
    app = create_app(store)

    async def scenario():
        status, headers, _ = await call(
            app, "PUT", "/v1/stream/a", b"x", root_path="/api", headers=TEXT
        )
        assert status == 201
        assert headers[b"location"] == b"http://h.test/api/v1/stream/a"
        assert store.list() == ["/v1/stream/a"]
        assert (await call(app, "GET", "/v1/stream/a"))[2] == b"x"

    run(scenario())


def test_another_root():
    app = create_app(StreamStore(), root="/")

    async def scenario():
        assert (await call(app, "PUT", "/a", headers=TEXT))[0] == 201
        assert (await call(app, "GET", "/a"))[0] == 200
        assert (await call(app, "GET", "/__ds/x"))[0] == 404
        assert (await call(app, "GET", "/"))[0] == 404

    run(scenario())


def test_streams_outside_the_root_are_not_served_nor_forked():
    store = StreamStore()
    store.create("/private", initial_data=b"secret")
    app = create_app(store)

    async def scenario():
        assert (await call(app, "GET", "/private"))[0] == 404
        fork = [(b"stream-forked-from", b"/private")]
        assert (await call(app, "PUT", "/v1/stream/f", headers=fork))[0] == 404

    run(scenario())


def test_the_reserved_tree_answers_json():
    async def scenario():
        app = create_app(StreamStore())
        for method in ["GET", "PUT", "POST", "DELETE"]:
            status, headers, body = await call(app, method, "/v1/stream/__ds/subscriptions/x")
            assert status == 404
            assert headers[b"content-type"] == b"application/json"
            assert json.loads(body)["error"]["code"] == "SUBSCRIPTION_NOT_FOUND"

    run(scenario())


async def lifespan(app, *kinds):
    messages = [{"type": f"lifespan.{kind}"} for kind in kinds]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    return [message["type"] for message in sent], sent


class RecordingStore(StreamStore):
    is_closed = False

    def close(self) -> None:
        self.is_closed = True
        super().close()


def test_an_opened_store_lives_as_long_as_the_application():
    opened = []

    def open_store():
        opened.append(RecordingStore())
        return opened[-1]

    async def scenario():
        app = create_app(open_store)
        assert app.store is None
        types, _ = await lifespan(app, "startup", "shutdown")
        assert types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    run(scenario())
    assert [store.is_closed for store in opened] == [True]


def test_without_a_lifespan_the_store_is_opened_once_by_requests():
    opened = []

    def open_store():
        opened.append(StreamStore())
        return opened[-1]

    async def scenario():
        app = create_app(open_store)
        answers = await asyncio.gather(
            *(call(app, "PUT", f"/v1/stream/{i}", headers=TEXT) for i in range(5))
        )
        assert {answer[0] for answer in answers} == {201}

    run(scenario())
    assert len(opened) == 1


def test_a_store_that_does_not_open_fails_the_startup():
    def open_store():
        raise StreamError("the directory is in use")

    types, sent = run(lifespan(create_app(open_store), "startup"))
    assert types == ["lifespan.startup.failed"]
    assert sent[0]["message"] == "the directory is in use"


def test_a_given_store_stays_open():
    store = RecordingStore()
    run(lifespan(create_app(store), "startup", "shutdown"))
    assert not store.is_closed


def test_a_failure_is_500_with_all_headers(caplog):
    class Broken(StreamStore):
        def get(self, path):
            raise RuntimeError("unexpected")

    status, headers, body = run(call(create_app(Broken()), "HEAD", "/v1/stream/a"))
    assert status == 500
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert b"unexpected" not in body
    assert "unexpected" in caplog.text


def test_a_client_gone_is_not_answered():
    async def scenario():
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            raise AssertionError("nobody is there")

        scope = {
            "type": "http", "method": "POST", "path": "/v1/stream/a", "headers": [],
            "query_string": b"",
        }  # fmt: skip
        await create_app(StreamStore())(scope, receive, send)

    run(scenario())


@pytest.mark.parametrize("live", ["long-poll", "sse"])
def test_a_live_reader_that_leaves_gets_nothing_more(live):
    sent = []
    store = StreamStore()
    store.create("/v1/stream/a")
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/v1/stream/a", "headers": [],
        "query_string": b"offset=-1&live=" + live.encode(),
    }  # fmt: skip
    run(create_app(store)(scope, receive, send))
    assert len(sent) == (0 if live == "long-poll" else 3)  # head, first control, end


# -- hooks ---------------------------------------------------------------------------------


def test_hooks_hear_of_creations_and_deletions():
    events = []

    async def on_deleted(event):
        events.append(event)

    hooks = LifecycleHooks(on_stream_created=events.append, on_stream_deleted=on_deleted)
    app = create_app(StreamStore(), hooks=hooks)

    async def scenario():
        for method in ["PUT", "PUT", "DELETE", "DELETE"]:
            await call(app, method, "/v1/stream/a", headers=TEXT)

    run(scenario())
    assert [(event.type, event.path, event.content_type) for event in events] == [
        ("created", "/v1/stream/a", "text/plain"),
        ("deleted", "/v1/stream/a", None),
    ]


def test_a_failing_hook_is_logged_and_does_not_reach_the_client(caplog):
    def fail(event):
        raise RuntimeError("hook broke")

    app = create_app(StreamStore(), hooks=LifecycleHooks(fail, fail))

    async def scenario():
        assert (await call(app, "PUT", "/v1/stream/a", headers=TEXT))[0] == 201
        assert (await call(app, "DELETE", "/v1/stream/a"))[0] == 204

    run(scenario())
    assert caplog.text.count("RuntimeError: hook broke") == 2


def test_the_registry_lists_streams_its_own_creation_first():
    store = StreamStore()
    app = create_app(store, hooks=create_registry_hooks(store, "http://h.test"))

    async def scenario():
        await call(app, "PUT", "/v1/stream/a/b", headers=TEXT)
        await call(app, "DELETE", "/v1/stream/a/b")
        return json.loads((await call(app, "GET", "/v1/stream/__registry__"))[2])

    own, inserted, deleted = run(scenario())
    assert own["key"] == "__registry__"
    assert inserted["type"] == "stream"
    assert inserted["key"] == "a/b"
    assert inserted["headers"] == {"operation": "insert"}
    assert inserted["value"]["path"] == "a/b"
    assert inserted["value"]["contentType"] == "text/plain"
    assert isinstance(inserted["value"]["createdAt"], int)
    assert deleted == {"type": "stream", "key": "a/b", "headers": {"operation": "delete"}}


def test_the_registry_records_its_creation_by_a_client_once():
    store = StreamStore()
    app = create_app(store, hooks=create_registry_hooks(store))
    json_type = [(b"content-type", b"application/json")]

    async def scenario():
        await call(app, "PUT", "/v1/stream/__registry__", headers=json_type)
        return json.loads((await call(app, "GET", "/v1/stream/__registry__"))[2])

    assert [entry["key"] for entry in run(scenario())] == ["__registry__"]


def test_other_scopes():
    async def scenario():
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        app = create_app(StreamStore())
        await app({"type": "websocket"}, receive, send)
        assert sent == [{"type": "websocket.close", "code": 1003}]
        with pytest.raises(ValueError, match="smoke"):
            await app({"type": "smoke"}, receive, send)

    run(scenario())
