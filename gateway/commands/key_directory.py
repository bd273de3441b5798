"""Where the commands about keys find them: behind a gateway's admin API, or in its record store itself.

Both take and give the admin API's JSON. The record store's way is for the first key, when nobody may use the API yet,
and for an operator who is locked out: it needs the configuration file and what that may read.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from gateway.commands.admin_client import ask
from gateway.commands.configuration import fail, load_configuration, open_records

if TYPE_CHECKING:
    from gateway.config.models import Configuration
    from gateway.records.audit_log import AuditLog
    from gateway.records.keys import KeyStore
    from gateway.tenancy import Actor, StoredKey

_PAGE = 1_000


class KeyDirectory(Protocol):
    """Each method tells what is wrong and ends with status 1 where it can't be done."""

    def create_key(self, body: dict[str, Any]) -> dict[str, Any]: ...

    def keys(self, tenant: str | None) -> list[dict[str, Any]]: ...

    def key(self, key_id: str) -> dict[str, Any]: ...

    def rotate(self, key_id: str, overlap: str) -> dict[str, Any]: ...

    def revoke(self, key_id: str) -> dict[str, Any]: ...

    def create_tenant(self, body: dict[str, Any]) -> dict[str, Any]: ...

    def tenants(self) -> list[dict[str, Any]]: ...

    def audit(self, query: dict[str, Any]) -> list[dict[str, Any]]: ...


@contextmanager
def key_directory(url: str | None, api_key: str | None, config: Path | None) -> Iterator[KeyDirectory]:
    """The gateway's at `url`, or the one in the record store of the configuration where there is no URL."""
    if url is not None:
        yield OverHttp(url, api_key)
        return
    loaded = load_configuration(config)
    from gateway.errors import GatewayError
    from gateway.records.audit_log import AuditLog
    from gateway.records.keys import KeyStore

    with open_records(loaded) as database:
        try:
            yield InStore(loaded.configuration, KeyStore(database), AuditLog(database))
        except GatewayError as error:
            fail(error.message)


class OverHttp:
    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url
        self._api_key = api_key

    def create_key(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "/admin/keys", json=body)

    def keys(self, tenant: str | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {"limit": str(_PAGE)} | ({"tenant": tenant} if tenant else {})
        while True:
            page = self._ask("GET", "/admin/keys", params=query)
            found += page["data"]
            if not page["has_more"]:
                return found
            query["after"] = page["last_id"]

    def key(self, key_id: str) -> dict[str, Any]:
        return self._ask("GET", f"/admin/keys/{quote(key_id, safe='')}")

    def rotate(self, key_id: str, overlap: str) -> dict[str, Any]:
        return self._ask("POST", f"/admin/keys/{quote(key_id, safe='')}/rotate", json={"overlap": overlap})

    def revoke(self, key_id: str) -> dict[str, Any]:
        return self._ask("POST", f"/admin/keys/{quote(key_id, safe='')}/revoke")

    def create_tenant(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "/admin/tenants", json=body)

    def tenants(self) -> list[dict[str, Any]]:
        return list(self._ask("GET", "/admin/tenants")["data"])

    def audit(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self._ask("GET", "/admin/audit", params=query)["data"])

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        told: dict[str, Any] = ask(method, self._url, path, self._api_key, **more)
        return told


class InStore:
    def __init__(self, configuration: Configuration, store: KeyStore, audit: AuditLog) -> None:
        self._configuration = configuration
        self._store = store
        self._audit = audit

    def create_key(self, body: dict[str, Any]) -> dict[str, Any]:
        from pydantic import ValidationError

        from gateway.access.granting import check_known, known_tenants
        from gateway.access.keys import new_key
        from gateway.config.access import StoredGrants, moment
        from gateway.config.quantities import duration

        tenant = body.get("tenant") or "default"
        if tenant not in known_tenants(self._configuration) and self._store.tenant(tenant) is None:
            fail(f"There is no tenant '{tenant}'. `rag-gateway tenants create` makes one.")
        expires_at = body.get("expires_at")
        if (lasting := body.get("expires_in")) is not None:
            expires_at = time.time() + duration(lasting)
        elif expires_at is not None:
            expires_at = moment(expires_at)
        written = {name: value for name, value in body.items() if name in StoredGrants.model_fields}
        actor = _actor()
        try:
            secret, key = new_key(
                written, tenant=tenant, created_by=actor.key_name, name=body.get("name"), expires_at=expires_at
            )
        except ValidationError as error:
            fail("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))
        assert key.grants is not None, "it has just been read"
        check_known(key.grants, self._configuration)
        self._store.add_key(key, actor)
        return {"key": secret, **key.told(time.time())}

    def keys(self, tenant: str | None) -> list[dict[str, Any]]:
        from gateway.access.granting import configured_keys

        tenants = frozenset({tenant}) if tenant is not None else None
        found = [
            told
            for told in configured_keys(self._configuration).values()
            if tenants is None or told["tenant"] in tenants
        ]
        after, now = None, time.time()
        while page := self._store.keys(of_tenants=tenants, after=after, limit=_PAGE):
            found += [key.told(now) for key in page]
            after = page[-1].id
        return found

    def key(self, key_id: str) -> dict[str, Any]:
        from gateway.access.granting import configured_keys

        configured = configured_keys(self._configuration).get(key_id)
        if configured is not None:
            return configured
        key = self._store.key(key_id)
        return key.told(time.time()) if key is not None else fail(f"There is no key '{key_id}'.")

    def rotate(self, key_id: str, overlap: str) -> dict[str, Any]:
        from gateway.access.keys import rotated
        from gateway.config.quantities import duration

        seconds, made = duration(overlap), []

        def change(before: StoredKey) -> StoredKey:
            status = before.status(time.time())
            if status != "active":
                fail(f"The key '{key_id}' is {status}: make a new one.")
            secret, after = rotated(before, seconds)
            made.append(secret)
            return after

        after = self._changed(key_id, "keys.rotate", change)
        return {"key": made[-1], **after.told(time.time())}

    def revoke(self, key_id: str) -> dict[str, Any]:
        from gateway.access.keys import revoked

        def change(before: StoredKey) -> StoredKey:
            return before if before.revoked_at is not None else revoked(before, _actor().key_name)

        return self._changed(key_id, "keys.revoke", change).told(time.time())

    def create_tenant(self, body: dict[str, Any]) -> dict[str, Any]:
        from gateway.config.access import TenantGrants
        from gateway.tenancy import Tenant

        organisation, actor = body.get("organisation"), _actor()
        if organisation is not None and self._store.organisation(organisation) is None:
            fail(f"There is no organisation '{organisation}'.")
        written = {name: value for name, value in body.items() if name in TenantGrants.model_fields}
        grants = TenantGrants.model_validate(written)
        name = body.get("name") or body["id"]
        tenant = Tenant(body["id"], name, organisation, written, grants, time.time(), actor.key_name)
        if not self._store.add_tenant(tenant, actor):
            fail(f"There is a tenant '{tenant.id}' already.")
        return tenant.told()

    def tenants(self) -> list[dict[str, Any]]:
        from gateway.access.granting import known_tenants

        told = {tenant.id: tenant.told() for tenant in self._store.tenants()}
        for name in known_tenants(self._configuration):
            told.setdefault(name, {"id": name, "object": "tenant", "source": "configuration"})
        return [told[name] for name in sorted(told)]

    def audit(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        from gateway.config.access import moment

        asked: dict[str, Any] = dict(query)
        asked |= {name: moment(query[name]) for name in ("since", "until") if name in query}
        asked |= {new: asked.pop(old) for old, new in (("key", "key_id"), ("target", "object")) if old in asked}
        tenant = asked.pop("tenant", None)
        return self._audit.entries(tenants=frozenset({tenant}) if tenant else None, **asked)

    def _changed(self, key_id: str, action: str, change: Callable[[StoredKey], StoredKey]) -> StoredKey:
        after = self._store.change_key(key_id, action, change, _actor())
        return after if after is not None else fail(f"There is no key '{key_id}' in the record store.")


def _actor() -> Actor:
    from gateway.tenancy import Actor

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user often has no name
        user = "unknown"
    return Actor("cli", f"cli:{user}", "", "local")
