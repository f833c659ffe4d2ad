"""Which pages of other origins may use the streams, and what they may see (section 4.8)."""

from __future__ import annotations

from dataclasses import dataclass, field

from .asgi_types import Header

METHODS = "GET, POST, PUT, DELETE, HEAD, OPTIONS"

ALLOW_HEADERS = ", ".join(
    [
        "Authorization",
        "Cache-Control",
        "Content-Type",
        "If-None-Match",
        "Last-Event-ID",
        "Producer-Epoch",
        "Producer-Id",
        "Producer-Seq",
        "Stream-Closed",
        "Stream-Expires-At",
        "Stream-Fork-Offset",
        "Stream-Fork-Sub-Offset",
        "Stream-Forked-From",
        "Stream-Retention-Bytes",
        "Stream-Retention-Seconds",
        "Stream-Seq",
        "Stream-TTL",
    ]
)

EXPOSE_HEADERS = ", ".join(
    [
        "Content-Encoding",
        "Content-Type",
        "ETag",
        "Location",
        "Producer-Epoch",
        "Producer-Expected-Seq",
        "Producer-Received-Seq",
        "Producer-Seq",
        "Retry-After",
        "Stream-Closed",
        "Stream-Cursor",
        "Stream-Earliest-Offset",
        "Stream-Expires-At",
        "Stream-Next-Offset",
        "Stream-Retention-Bytes",
        "Stream-Retention-Seconds",
        "Stream-SSE-Data-Encoding",
        "Stream-TTL",
        "Stream-Up-To-Date",
        "Vary",
    ]
)


@dataclass(frozen=True, slots=True)
class Cors:
    """The policy of cross-origin requests.

    Args:
        allow_origins: "*" for every origin, or those allowed, each as a browser sends it:
            "https://app.example.org", no path, no slash at the end.
        max_age: seconds for which a browser may remember a preflight.
    """

    allow_origins: str | frozenset[str] = "*"
    max_age: int = 86_400
    _allowed: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.allow_origins, str) and self.allow_origins != "*":
            raise ValueError(
                f"allow_origins {self.allow_origins!r}: use '*' or a frozenset of origins"
            )
        origins = () if self.allow_origins == "*" else self.allow_origins
        for origin in origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ValueError(f"allow_origins: {origin!r} is no origin: scheme://host[:port]")
        object.__setattr__(self, "_allowed", frozenset(o.encode("ascii") for o in origins))

    @property
    def is_open(self) -> bool:
        """Whether the headers are the same for every request."""
        return self.allow_origins == "*"

    def headers(self, origin: bytes | None) -> tuple[Header, ...]:
        """What an answer to a request from ``origin`` carries; without any if it is refused."""
        if self.is_open:
            return ((b"access-control-allow-origin", b"*"), _EXPOSE)
        if origin is None or origin not in self._allowed:
            return (_VARY_ORIGIN,)
        return ((b"access-control-allow-origin", origin), _EXPOSE, _VARY_ORIGIN)

    def preflight_headers(self) -> tuple[Header, ...]:
        """What the answer to OPTIONS carries beside ``headers``."""
        return (
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-allow-headers", ALLOW_HEADERS.encode()),
            (b"access-control-max-age", b"%d" % self.max_age),
        )


OPEN_TO_ALL = Cors()

_EXPOSE: Header = (b"access-control-expose-headers", EXPOSE_HEADERS.encode())
_VARY_ORIGIN: Header = (b"vary", b"origin")
