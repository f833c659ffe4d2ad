"""How many files a command may have open."""

from __future__ import annotations

import contextlib
import resource


def allow_descriptors() -> None:
    """Connections and segments take a descriptor each: use all that this user may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses what it calls unlimited
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
