"""What the commands that read a configuration have in common: how it is named, and how its faults are told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from gateway.config.loading import Loaded

_VARIABLE = "RAG_GATEWAY_CONFIG"
_DEFAULT = Path("configs/gateway.yaml")

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=_VARIABLE,
    show_envvar=True,
    help=f"The configuration file; {_DEFAULT} where neither is given.",
)


def load_configuration(config: Path | None) -> Loaded:
    """The configuration that is meant, or all of its faults and exit status 1."""
    if config is None:
        config = _DEFAULT
        if not config.is_file():
            fail(f"no configuration: name one with --config FILE or {_VARIABLE}; there is no {_DEFAULT} here")
    from gateway.config.faults import ConfigError
    from gateway.config.loading import load

    try:
        return load(config, os.environ)
    except ConfigError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Tell `message` and end with status 1."""
    click.echo(message, err=True)
    sys.exit(1)
