"""A process that was forked must not use what its parent opened: it is told so, and cannot hang.

The lock of the directory, the descriptors and the memory of the log are shared with the parent,
so nothing is released either. Works without any lock: the thread that held it may be gone.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something open that a forked child inherits."""

    def refuse_in_child(self) -> None:
        """Refuse everything from now on. Called in the child, right after the fork."""
        ...


_open: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def watch(opened: ForkAware) -> None:
    """From now on, have it refuse everything in forked children."""
    _open.add(opened)


def forget(opened: ForkAware) -> None:
    """It was closed."""
    _open.discard(opened)


def _refuse_in_child() -> None:
    for opened in list(_open):
        opened.refuse_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_refuse_in_child)
