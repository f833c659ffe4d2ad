"""Peers are told where to listen and store, and say what they need when it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

import peers
from killing.ours import OURS
from peers import PEERS, CannotInstall


@pytest.fixture(params=list(PEERS))
def peer(request, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "CACHE", tmp_path / "peers")
    return PEERS[request.param]


def test_a_peer_listens_and_stores_where_it_is_told(peer, monkeypatch):
    monkeypatch.setattr(peers, "require_tool", lambda name, what: name)
    place = Path("where/the data is")
    words = " ".join(
        [*peer.command(place, 4567, 2.0), *peer.environment(place, 4567, 2.0).values()]
    )
    assert "4567" in words
    assert str(place) in words
    assert peer.url(4567, "a/b") == "http://127.0.0.1:4567/v1/stream/a/b"


def test_the_environment_of_whoever_runs_it_changes_no_setting(peer, monkeypatch):
    monkeypatch.setenv("DS_STORAGE__DATA_DIR", "elsewhere")
    monkeypatch.setenv("DS_STORAGE__MODE", "memory")
    place = Path("data")
    environment = peer.environment(place, 1, 1.0)
    assert "elsewhere" not in environment.values()
    assert environment.get("DS_STORAGE__MODE") != "memory"


def test_a_missing_tool_is_named(peer, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotInstall, match=r"^(npm|cargo) is not there: install (Node|Rust)"):
        peer.install()


def test_a_version_of_each_is_pinned(peer):
    assert all(part.isdigit() for part in peer.version.split("."))


def test_errors_in_our_own_log_are_found():
    log = b"10:00 INFO a: fine\n10:01 ERROR b: not\nTraceback (most recent call last):\n  x\n"
    assert OURS["durastream"].troubles(log) == [
        "10:01 ERROR b: not",
        "Traceback (most recent call last):",
    ]
