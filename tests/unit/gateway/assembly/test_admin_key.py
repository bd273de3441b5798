"""Whether a gateway may be started where others can reach it: somebody has to be able to administer it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.access.keys import new_key
from gateway.assembly import has_admin_key
from gateway.config.models import Configuration
from gateway.records.database import Database, StoreUnavailable
from gateway.records.keys import KeyStore
from gateway.tenancy import Actor


def configuration(url: str) -> Configuration:
    return Configuration.model_validate({"records": {"url": url}, "providers": {"e": {"kind": "extractive"}}})


def test_a_new_record_store_has_no_admin_key_until_one_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    assert not has_admin_key(configuration(url))
    database = Database(url)
    database.prepare()
    for grants in ({"role": "operator", "scope": "gateway"}, {"role": "admin"}, {"role": "admin", "scope": "gateway"}):
        assert not has_admin_key(configuration(url))
        key = new_key(grants, tenant="default", created_by="test")[1]
        KeyStore(database).add_key(key, Actor("cli", "cli", "", "local"))
    database.close()
    assert has_admin_key(configuration(url))


def test_a_server_that_is_away_keeps_no_gateway_from_starting() -> None:
    """It lets nobody in before the server is there, and then only with a key that it knows."""
    assert has_admin_key(configuration("postgresql://postgres@127.0.0.1:1/records"))


def test_a_file_that_can_not_be_opened_does(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        has_admin_key(configuration(f"sqlite:///{tmp_path}"))
