"""Stream paths as names that every file system takes (section 2).

The file store does not need them: it has no file per stream. They are for tools that do.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

_ENCODED_SIZE_MAX: Final = 200
_KEPT_SIZE: Final = 180
_HASHED = re.compile(r"(.*)~[0-9a-f]{16}", re.DOTALL)


def encode_stream_path(path: str) -> str:
    """Base64url of the path without padding; a long one is cut and told apart by a hash."""
    encoded = base64.urlsafe_b64encode(path.encode()).decode("ascii").rstrip("=")
    if len(encoded) <= _ENCODED_SIZE_MAX:
        return encoded
    digest = hashlib.sha256(path.encode()).hexdigest()
    return f"{encoded[:_KEPT_SIZE]}~{digest[:16]}"


def decode_stream_path(encoded: str) -> str:
    """The path, or the beginning of one that was too long to keep.

    Raises: ValueError if ``encoded`` is no such name.
    """
    hashed = _HASHED.fullmatch(encoded)
    base = hashed[1] if hashed else encoded
    padded = base + "=" * (-len(base) % 4)
    raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    return raw.decode(errors="replace" if hashed else "strict")
