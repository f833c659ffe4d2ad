"""How the application behaves towards its clients; limits and times with their reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from ..engine.options import KIB, MIB, Limits
from ..protocol.cursor import CursorOptions
from .cors import OPEN_TO_ALL, Cors

ROOT_DEFAULT = "/v1/stream/"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Options of ``create_app``. Times are seconds, sizes bytes."""

    root: str = ROOT_DEFAULT  # streams live below it, everything else is 404
    public_url: str | None = None  # base of Location; None: the Host of the request
    long_poll_timeout: float = 30.0
    sse_max_age: float = 60.0  # then a reader reconnects, so that caches can regroup them
    sse_heartbeat: float = 15.0  # proxies cut connections that are silent for a minute
    sse_event_size: int = 256 * KIB  # one event holds this much, or one append
    cors: Cors | None = OPEN_TO_ALL  # None: no CORS headers at all
    cursor_options: CursorOptions = field(default_factory=CursorOptions)
    cache_scope: Literal["public", "private"] = "public"  # may shared caches keep data?
    resource_policy: Literal["cross-origin", "same-site", "same-origin"] = "cross-origin"
    body_idle_timeout: float = 30.0  # a body that stops arriving gives its memory back
    bodies_size_max: int = 256 * MIB  # of all requests together
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not (self.root.startswith("/") and self.root.endswith("/")):
            raise ValueError(f"root: {self.root!r} must begin and end with a slash")
        for name in ("sse_max_age", "sse_heartbeat", "body_idle_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not a positive time")
        if not self.long_poll_timeout >= 0:
            raise ValueError(f"long_poll_timeout: {self.long_poll_timeout} is negative")
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.query:
                raise ValueError(f"public_url: {self.public_url!r} is no http(s)://host[/prefix]")
