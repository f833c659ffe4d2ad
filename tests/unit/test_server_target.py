"""Section 2: which stream a request target names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durastream.server.target import is_reserved, is_stream, remove_dot_segments, request_path

ROOT = "/v1/stream/"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../a", "/a"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/...", "/a/..."),
        ("/a/.b/%2eb", "/a/.b/%2eb"),
        ("/a//b/../c", "/a//c"),
        ("/a%2F..%2Fb", "/a%2F..%2Fb"),
        ("/..", "/"),
    ],
)
def test_dot_segments(path, expected):
    assert remove_dot_segments(path) == expected


@given(st.text("/.a%2eE", max_size=30).map("/".__add__))
def test_removal_leaves_nothing_to_remove(path):
    once = remove_dot_segments(path)
    assert once.startswith("/")
    assert remove_dot_segments(once) == once
    assert not {".", ".."} & {segment.lower().replace("%2e", ".") for segment in once.split("/")}


def scope(path: str, raw: bytes | None, root_path: str = "") -> dict:
    return {"path": path, "root_path": root_path, **({} if raw is None else {"raw_path": raw})}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (scope("/v1/stream/a b", b"/v1/stream/a%20b"), "/v1/stream/a%20b"),
        (scope("/v1/stream/a b", None), "/v1/stream/a%20b"),
        (scope("/x", b"/v1/stream/a?offset=1"), "/v1/stream/a"),
        (scope("/m/v1/stream/a", b"/m/v1/stream/a", "/m"), "/v1/stream/a"),
        (scope("/m n/v1/stream/a", b"/m%20n/v1/stream/a", "/m n"), "/v1/stream/a"),
        (scope("/v1/stream/a", b"/v1/stream/a", "/m"), "/v1/stream/a"),
        (scope("/mm/a", b"/mm/a", "/m"), "/mm/a"),
    ],
)
def test_the_mount_prefix_is_no_part_of_the_name(scope, expected):
    assert request_path(scope) == expected


@pytest.mark.parametrize(
    "path", ["/", "/v1/stream", "/v1/stream/", "/v1/streams/a", "/V1/stream/a"]
)
def test_what_is_no_stream(path):
    assert not is_stream(path, ROOT)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/stream/__ds", True),
        ("/v1/stream/__ds/", True),
        ("/v1/stream/__ds/subscriptions/a", True),
        ("/v1/stream/__dsx", False),
        ("/v1/stream/a/__ds", False),
        ("/v1/stream/__registry__", False),
    ],
)
def test_the_reserved_tree(path, expected):
    assert is_stream(path, ROOT)
    assert is_reserved(path, ROOT) is expected
