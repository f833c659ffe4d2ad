"""Which stream a request target names (section 2). Pure functions over what was sent.

A stream's identity is its path as sent, still percent-encoded, after removal of dot segments
and without the query. The prefix under which the application is mounted is no part of it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .asgi_types import Scope

RESERVED_SEGMENT = "__ds"


def request_path(scope: Scope) -> str:
    """The path below the mount prefix, after removal of dot segments."""
    raw: Any = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope["path"], safe="/~!$&'()*+,;=:@%")
    # Some servers leave the query in raw_path.
    return remove_dot_segments(_below_mount(path.partition("?")[0], scope.get("root_path", "")))


def remove_dot_segments(path: str) -> str:
    """RFC 3986, 5.2.4, counting ``%2e`` as a dot, as browsers do."""
    if "/." not in path and "/%2" not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments, start=1):
        dots = segment.lower().replace("%2e", ".")
        if dots not in (".", ".."):
            kept.append(segment)
            continue
        if dots == ".." and kept:
            kept.pop()
        if number == len(segments):
            kept.append("")
    return "/" + "/".join(kept)


def is_stream(path: str, root: str) -> bool:
    """Whether ``path`` lies below ``root``, which ends in a slash, and has a name there."""
    return path.startswith(root) and len(path) > len(root)


def is_reserved(path: str, root: str) -> bool:
    """Whether a path below ``root`` belongs to the control tree ``__ds`` (section 2)."""
    return path[len(root) :].partition("/")[0] == RESERVED_SEGMENT


def _below_mount(path: str, mount: str) -> str:
    mount = mount.rstrip("/")
    for prefix in (mount, quote(mount)):
        if prefix and path.startswith(prefix + "/"):
            return path[len(prefix) :]
    return path
