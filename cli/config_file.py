"""The configuration file: TOML, a table for each command, keys named as the flags.

    [serve]
    port = 4437
    data-dir = "/var/lib/durastream"

Flags and environment outrank it. A key that no flag knows is an error, not a comment.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import click

NOT_IN_FILES = {"config", "version", "help", "workers"}


def load_config(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Callback of the eager option ``--config``: the file's values become the defaults."""
    if path is not None:
        table = _read(path).get(ctx.command.name or "", {})
        ctx.default_map = {**(ctx.default_map or {}), **_checked(ctx.command, table, path)}
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise click.UsageError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--config {path}: no valid TOML: {error}") from None
    for name, value in content.items():
        if not isinstance(value, dict):
            raise click.UsageError(f"--config {path}: {name}: put it under [serve]")
    return content


def _checked(command: click.Command, table: dict[str, Any], path: Path) -> dict[str, Any]:
    known = {parameter.name for parameter in command.params if parameter.name} - NOT_IN_FILES
    values = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0].replace('_', '-')}?" if close else ""
            raise click.UsageError(
                f"--config {path}: [{command.name}] has an unknown key: {key}{hint}"
            )
        if not isinstance(value, (str, int, float)):
            raise click.UsageError(f"--config {path}: {key}: a text, number or boolean is wanted")
        values[name] = value
    return values
