"""What a command's exit status means: part of the command line's contract."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILURE: Final = 1  # could not be done: the message says why
USAGE: Final = 2  # the command line, the environment or the configuration file is wrong
IN_USE: Final = 5  # a server, or another tool, has the data directory open
CORRUPT: Final = 6  # stored data is damaged
INTERRUPTED: Final = 130  # Ctrl+C
