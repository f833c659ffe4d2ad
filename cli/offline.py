"""What the commands that look at a directory share: how they end, and how they print sizes.

Whatever goes wrong is one line on stderr and an exit status, no traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..engine.errors import Damaged, DirectoryInUse, StorageError
from .exit_status import CORRUPT, FAILURE, IN_USE, INTERRUPTED

DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


class Failed(Exception):
    """The command cannot do what was asked: the message says why."""


@contextmanager
def exit_status(ctx: click.Context) -> Iterator[None]:
    """End the command with a line and a status for each kind of trouble."""
    try:
        yield
    except DirectoryInUse as error:
        _end(ctx, f"{error}; stop the server first", IN_USE)
    except Damaged as error:
        _end(ctx, str(error), CORRUPT)
    except (Failed, StorageError, OSError) as error:
        _end(ctx, str(error), FAILURE)
    except KeyboardInterrupt:
        _end(ctx, "interrupted", INTERRUPTED)


def _end(ctx: click.Context, message: str, status: int) -> None:
    click.echo(f"durastream: {message}", err=True)
    ctx.exit(status)


def size_text(size: int) -> str:
    """Bytes in the unit that reads best: ``1.5 MiB``."""
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """``1 file``, ``1,200 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
