"""The command line: one file a command, options by click, messages of one line.

Options come from flags, then from the environment (DURASTREAM_SERVE_PORT for ``serve
--port``), then from the file of ``--config``, then from the defaults.
"""

from __future__ import annotations

import click

from .. import __version__
from .backup import backup
from .default_group import DefaultGroup
from .export import export
from .import_streams import import_streams
from .inspect import inspect
from .repair import repair
from .restore import restore
from .serve import serve
from .verify import verify

__all__ = ["main"]


@click.group(
    cls=DefaultGroup,
    context_settings={
        "auto_envvar_prefix": "DURASTREAM",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="durastream")
def main() -> None:
    """Durable streams: append-only streams with a URL each.

    Without a command, `durastream` serves: see `durastream serve --help`.
    """


main.add_command(serve)
main.add_command(verify)
main.add_command(inspect)
main.add_command(backup)
main.add_command(restore)
main.add_command(export)
main.add_command(import_streams)
main.add_command(repair)
