"""A group of commands of which one is meant when none is named."""

from __future__ import annotations

import click


class DefaultGroup(click.Group):
    """``durastream -p 80`` is ``durastream serve -p 80``; the group keeps its own options."""

    default_command = "serve"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in self._own_options(ctx)):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)

    def _own_options(self, ctx: click.Context) -> set[str]:
        return {name for parameter in self.get_params(ctx) for name in parameter.opts}
