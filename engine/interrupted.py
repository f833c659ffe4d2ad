"""Closing a store from a signal handler that interrupted one of its calls.

The handler runs on the thread that it interrupted, which may hold the store's lock: waiting for
it would never end. Whether it does depends on the instruction, so it is refused every time.
"""

from __future__ import annotations

import sys

_PACKAGE = __name__.rpartition(".")[0] + "."


def is_closing() -> bool:
    """Whether the caller, a ``close``, interrupted another one on its own thread.

    Raises: RuntimeError, if it interrupted any other call of a store.
    """
    interrupted = None
    frame = sys._getframe(1).f_back
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            if frame.f_code.co_name == "close":
                return True
            if frame.f_code.co_name != "__exit__":  # a store's own, which calls close
                interrupted = interrupted or frame.f_code.co_name
        frame = frame.f_back
    if interrupted is not None:
        raise RuntimeError(
            f"close() within a call of the store ({interrupted}), as in a signal handler: raise "
            "an exception there, or set a flag, and close where the store was opened"
        )
    return False
