"""I4 as clients meet it: no answer, refusals included, leaves before what it tells is durable.

A server over a store that commits only when the test says so.
"""

from __future__ import annotations

import asyncio

import pytest

from durastream import create_app
from simulation.stores import new_disk, open_store

ROOT = "/v1/stream"
A, B, F = f"{ROOT}/a", f"{ROOT}/b", f"{ROOT}/f"


def producer(epoch, seq):
    return {"producer-id": "p", "producer-epoch": str(epoch), "producer-seq": str(seq)}


CLOSED = {"stream-closed": "true"}
HTML = {"content-type": "text/html"}
TTL = {"stream-ttl": "9"}

# What is on its way to the disk, then a request whose answer tells of it, and that answer.
PAIRS = {
    "a duplicate of an append": (("POST", A, producer(0, 0)), ("POST", A, producer(0, 0)), 204),
    "a gap behind it": (("POST", A, producer(0, 0)), ("POST", A, producer(0, 2)), 409),
    "fenced by a new epoch": (("POST", A, producer(1, 0)), ("POST", A, producer(0, 0)), 403),
    "a Stream-Seq that is used": (
        ("POST", A, {"stream-seq": "5"}), ("POST", A, {"stream-seq": "5"}), 409,
    ),
    "an append to a closed stream": (("POST", A, CLOSED), ("POST", A, {}), 409),
    "an append to a deleted stream": (("DELETE", A, {}), ("POST", A, {}), 404),
    "a deletion of a deleted stream": (("DELETE", A, {}), ("DELETE", A, {}), 404),
    "the same creation": (("PUT", B, {}), ("PUT", B, {}), 200),
    "another creation": (("PUT", B, {}), ("PUT", B, HTML), 409),
    "a creation with the wrong type": (("PUT", B, {}), ("POST", B, HTML), 409),
    "an append to a new stream": (("PUT", B, {}), ("POST", B, {}), 204),
    "a fork of a deleted stream": (
        ("DELETE", A, {}), ("PUT", F, {"stream-forked-from": A}), 404,
    ),
    "a fork of a new stream": (("PUT", B, {}), ("PUT", F, {"stream-forked-from": B}), 201),
    "a fork at an offset beyond what is left": (
        ("DELETE", A, {}), ("PUT", F, {"stream-forked-from": A, "stream-fork-offset": "-1"}), 400,
    ),
    "an append to a source kept for its fork": (
        ("DELETE", B, {}), ("POST", B, {}), 410,
    ),
}  # fmt: skip
DECIDED_WITHOUT = {"a fork at an offset beyond what is left"}  # malformed, whatever there is
FORKED = {"an append to a source kept for its fork"}


async def call(app, method, path, headers, body):
    """One request to the application; its status."""
    status = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if not messages:
            await asyncio.sleep(3600)
        return messages.pop(0)

    async def send(message):
        if message["type"] == "http.response.start":
            status.append(message["status"])

    fields = {"host": "h.test", "content-type": "text/plain", **headers}
    scope = {
        "type": "http", "method": method, "path": path, "scheme": "http",
        "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
    }  # fmt: skip
    await app(scope, receive, send)
    return status[0]


async def settle(*tasks):
    """Let the tasks go as far as they can; which of them are done."""
    for _ in range(200):
        await asyncio.sleep(0)
        if all(task.done() for task in tasks):
            break
    await asyncio.sleep(0.02)  # workers load rows
    return [task.done() for task in tasks]


def commit(store):
    while store._engine.log.commit_step():
        pass
    for waiters in store.aio._commits.values():
        waiters._on_commit()


@pytest.fixture
def store(tmp_path):
    opened = open_store(new_disk(1), tmp_path / "meta.lmdb", lambda: 1_700_000_000_000)
    opened.create(A, content_type="text/plain", initial_data=b"old")
    for path in (B, F):
        opened.get(path)  # brings the bindings into memory
    yield opened
    opened.close()


@pytest.mark.parametrize("name", PAIRS)
def test_an_answer_waits_for_what_it_tells(store, name):
    before, after, expected = PAIRS[name]
    if name in FORKED:
        store.create(B, content_type="text/plain")
        store.create(F, forked_from=B)

    async def main():
        app = create_app(store)
        body = b"" if before[0] in ("PUT", "DELETE") else b"data"
        cause = asyncio.create_task(call(app, *before, body))
        assert await settle(cause) == [False]
        told = asyncio.create_task(call(app, *after, b"" if after[0] != "POST" else b"data"))
        assert await settle(cause, told) == [False, name in DECIDED_WITHOUT]
        commit(store)
        assert await settle(cause, told) == [True, True]
        assert cause.result() < 300
        assert told.result() == expected

    asyncio.run(asyncio.wait_for(main(), 10))


def test_readers_are_answered_at_once_and_see_what_is_durable(store):
    async def main():
        app = create_app(store)
        tasks = [
            asyncio.create_task(call(app, "POST", A, CLOSED, b"data")),
            asyncio.create_task(call(app, "PUT", B, {}, b"")),
        ]
        await settle(*tasks)
        assert await call(app, "GET", A, {}, b"") == 200
        assert await call(app, "GET", B, {}, b"") == 404
        assert await settle(*tasks) == [False, False]
        commit(store)
        assert await call(app, "GET", B, {}, b"") == 200
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(main(), 10))
