"""What the commands that read a configuration have in common: how it is named, and how its faults are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.records.database import Database

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


@contextmanager
def open_records(loaded: Loaded) -> Iterator[Database]:
    """The configuration's record store, ready to be used for as long as that takes; or what is wrong and status 1."""
    from gateway.records.database import Database, StoreUnavailable, WrongVersion

    url = loaded.configuration.records.url
    assert url is not None, "loading fills in the default"
    try:
        database = Database(url, patience=None)
        try:
            database.prepare()
            yield database
        finally:
            database.close()
    except (StoreUnavailable, WrongVersion, ValueError) as failure:
        fail(str(failure))
    except ImportError as error:
        fail(f"a record store in PostgreSQL needs {error.name}: pip install 'rag-gateway[postgresql]'")


def fail(message: str) -> NoReturn:
    """Tell `message` and end with status 1."""
    click.echo(message, err=True)
    sys.exit(1)
