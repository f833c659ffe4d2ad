"""What `durastream serve` prints once it serves: where, what, how durable, and what to type.

Colour only on a terminal and without NO_COLOR; the text is the same without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Banner:
    version: str
    streams: str  # URL of the root, or the path of a socket
    data: str
    engine: str
    durability: str
    curl: Sequence[str]  # two commands to paste
    notes: Sequence[str] = ()


def print_banner(banner: Banner) -> None:
    rows = [
        ("Streams", click.style(banner.streams, fg="cyan", bold=True)),
        ("Data", banner.data),
        ("Engine", banner.engine),
        ("Durability", banner.durability),
        *(("Note", click.style(note, fg="yellow")) for note in banner.notes),
    ]
    lines = ["", f"  {click.style('durastream', bold=True)} {banner.version}", ""]
    lines += [f"  {click.style(f'{name:<12}', dim=True)}{value}" for name, value in rows]
    lines += ["", f"  {click.style('Try it', dim=True)}"]
    lines += [f"    {command}" for command in banner.curl]
    lines += ["", click.style("  Ctrl+C stops.", dim=True), ""]
    click.echo("\n".join(lines), color=_wants_colour())
    sys.stdout.flush()


def curl_commands(base: str, root: str, uds: str | None = None) -> list[str]:
    """Create a stream and follow it."""
    socket = f"--unix-socket {uds} " if uds else ""
    url = f"{base}{root}hello"
    return [
        f"curl {socket}-X PUT -H 'Content-Type: text/plain' -d 'Hello, stream.' {url}",
        f"curl {socket}-N '{url}?offset=-1&live=sse'",
    ]


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
