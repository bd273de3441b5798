"""A group whose commands are imported when they are asked for: a program that serves loads none of the others."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """Click's recipe: https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands"""

    def __init__(self, *arguments: Any, lazy: Mapping[str, str], **settings: Any) -> None:
        """`lazy`: where each command is, `MODULE:NAME`, beside those that are added."""
        super().__init__(*arguments, **settings)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in self._lazy:
            module, _, name = self._lazy[cmd_name].partition(":")
            found = getattr(import_module(module), name)
            assert isinstance(found, click.Command), self._lazy[cmd_name]
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as unknown:  # whose suggestions are of the commands that were added
            raise click.NoSuchCommand(unknown.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None
