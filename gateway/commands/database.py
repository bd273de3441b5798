"""`rag-gateway db`: the record store's tables and their versions."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.commands.configuration import config_option, fail, load_configuration, open_records


@click.group()
def db() -> None:
    """The record store: bring its tables up to this version."""


@db.command()
@config_option
def upgrade(config: Path | None) -> None:
    """Bring the record store's tables up to this version, whole or not at all; nothing that it holds is lost.

    A SQLite file is brought up by the gateway's start itself. A PostgreSQL is not: do this once, before the first
    gateway of a new version starts.
    """
    from gateway.records.database import Database, StoreUnavailable, WrongVersion

    url = load_configuration(config).configuration.records.url
    assert url is not None, "loading fills in the default"
    try:
        database = Database(url, patience=None)
        before, now = database.upgrade()
        database.close()
    except (StoreUnavailable, WrongVersion, ValueError) as failure:
        fail(str(failure))
    except ImportError as error:
        fail(f"a record store in PostgreSQL needs {error.name}: pip install 'rag-gateway[postgresql]'")
    click.echo(f"version {now}, as before" if before == now else f"version {before or 'none'} -> {now}")


@db.command()
@config_option
def rewrap(config: Path | None) -> None:
    """Bring all that is kept encrypted under the first of `records.encryption_keys`; what is in clear is encrypted too.

    After it the older keys can be taken out of the configuration. Gateways may serve meanwhile.
    """
    from gateway.assembly.sealing import seal_of
    from gateway.records.rewrapping import rewrap as rewrap_all

    loaded = load_configuration(config)
    seal = seal_of(loaded.configuration)
    if seal is None:
        fail(f"{loaded.path} has no records.encryption_keys")
    with open_records(loaded) as database:
        told = rewrap_all(database, seal)
    click.echo(f"{told.changed:,} were brought under the first key")
    if told.lost:
        fail(f"{told.lost:,} can't be opened by any of the configured keys and stay as they are")
