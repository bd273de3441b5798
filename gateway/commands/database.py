"""`rag-gateway db`: the record store's tables and their versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.configuration import config_option, fail, load_configuration, open_records

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.lake.lake import Lake
    from gateway.records.database import Database


@click.group()
def db() -> None:
    """The record store: its tables' version, its encryption, its lake."""


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

    In the lake's files as well, where there is a lake. After it the older keys can be taken out of the configuration.
    Gateways may serve meanwhile.
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
        lost = told.lost
        if loaded.configuration.lake is not None:
            from gateway.records.contents import Contents

            with _lake(loaded, database) as lake:
                from gateway.lake.rewrapping import rewrap_lake

                in_lake = rewrap_lake(lake, Contents(seal))
            click.echo(f"{in_lake.changed:,} in the lake's files")
            lost += in_lake.lost
    if lost:
        fail(f"{lost:,} can't be opened by any of the configured keys and stay as they are")


@db.command("adopt-lake")
@config_option
def adopt_lake(config: Path | None) -> None:
    """Take in the files at `lake.url` that the record store knows nothing of: one restored from a backup, or a new one.

    What the record store has, and the lake has not, comes to it as always. Erasures that were done after the backup have
    to be done again.
    """
    loaded = load_configuration(config)
    if loaded.configuration.lake is None:
        fail(f"{loaded.path} has no `lake` section")
    with open_records(loaded) as database, _lake(loaded, database) as lake:
        from gateway.lake.adopting import adopt

        told = adopt(database, lake)
    click.echo(f"{told.files:,} files with {told.rows:,} rows were taken in; {told.queued:,} records are to come")
    if told.doubled:
        click.echo(f"{told.doubled:,} rows were there twice, and are once")


@contextmanager
def _lake(loaded: Loaded, database: Database) -> Iterator[Lake]:
    """The configuration's lake; or what is wrong and status 1."""
    try:
        from gateway.lake.lake import Lake
        from gateway.lake.manifest import LeaseLost, Manifest
        from gateway.lake.settings import lake_options, lake_url
        from gateway.lake.storage import LakeUnavailable, Storage

        manifest = Manifest(database)
        yield Lake(Storage(lake_url(loaded.configuration), lake_options(loaded.configuration)), manifest)
    except ImportError as error:
        fail(f"the lake needs {error.name}: pip install 'rag-gateway[lake]'")
    except (LakeUnavailable, ValueError) as fault:
        fail(str(fault))
    except LeaseLost:
        fail("another process has begun to fill the lake: try again")
