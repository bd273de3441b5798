"""All that the gateway holds of one user of one tenant, wherever it lies: handed over, and erased with a receipt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from features.vector import FeaturesUnavailable
from gateway.cache.protocol import Purge
from gateway.entities import UserEntities
from gateway.errors import NotFound, StageFailed
from gateway.records.files import Owner
from gateway.values import Caller

if TYPE_CHECKING:
    from gateway.feature_service import FeatureService
    from gateway.records.journal import CallJournal
    from gateway.records.known_users import KnownUsers
    from gateway.records.users import Receipt, UserRecords
    from gateway.tenancy import Actor
    from gateway.vector_stores import VectorStores

_LEFT = {
    "logs": "traces, metrics and logs that were sent elsewhere are kept there",
    "collections": "documents of collections that name the user as a reader are the collection's",
    "audit_log": "what was done with an admin key is kept",
}
_LAKE = "rows in its files are removed within seconds, by the process that fills it"
_NO_LAKE = (
    "the configuration has no lake any more: rows in the files of the one that there was stay until it is configured again, "
    "or until you remove them"
)


class UserData:
    """`export` and `erase` raise StageFailed where a part can't be reached: nothing is then said to be gone."""

    def __init__(
        self,
        records: UserRecords,
        known: KnownUsers,
        journal: CallJournal,
        purge: Callable[[Purge], Awaitable[int]],
        features: FeatureService | None,
        entities: Callable[[], UserEntities],
        vector_stores: VectorStores | None,
        *,
        lake: bool = False,
    ) -> None:
        """`entities` are the names by which models ask for a user's features. `lake`: whether anybody fills one."""
        self._records = records
        self._known = known
        self._journal = journal
        self._purge = purge
        self._features = features
        self._entities = entities
        self._vector_stores = vector_stores
        self._lake = _LAKE if lake else _NO_LAKE

    async def export(self, tenant: str, user: str, *, features: bool) -> AsyncIterator[dict[str, Any]]:
        """Each thing with its kind under `object`. `features`: also those that all tenants share."""
        await self._flush()
        known = await asyncio.to_thread(self._known.user, tenant, user)
        if known is not None:
            yield known.told()
        found = self._records.exported(tenant, user)
        while (one := await asyncio.to_thread(next, found, None)) is not None:
            yield one
        if self._vector_stores is not None:
            files, stores = await self._files(tenant, user)
            for file in files:
                yield {"object": "file", "id": file.id, "filename": file.filename, "bytes": file.bytes}
            for store in stores:
                yield {"object": "vector_store", "id": store.id, "name": store.name, "metadata": store.metadata}
        if self._features is not None:
            for entity in self._entities().of(tenant, user, everywhere=features):
                values = await self._of_features(self._features.known_of, entity)
                yield {"object": "features", "entity": next(iter(entity)), "values": values}

    async def erase(self, tenant: str, user: str, actor: Actor, *, features: bool) -> Receipt:
        """Caches go first and again last, so that nothing is made anew of what is just going."""
        await self._flush()
        cached = await self._purge(Purge(tenant=tenant, user=user))
        erased = await asyncio.to_thread(self._records.erase, tenant, user)
        erased["user"] = int(await asyncio.to_thread(self._known.remove, tenant, user, actor))
        left = dict(_LEFT)
        if await asyncio.to_thread(self._records.lake_waits):
            left["lake"] = self._lake
        if self._vector_stores is not None:
            erased |= await self._erase_files(self._vector_stores, tenant, user)
        if self._features is not None:
            entities = self._entities()
            gone = [
                await self._of_features(self._features.erase, entity)
                for entity in entities.of(tenant, user, everywhere=features)
            ]
            erased["features"] = sum(one.values for one in gone)
            if kept := "; ".join(dict.fromkeys(one.left for one in gone if one.left)):
                left["features"] = kept
            elif entities.shared and not features:
                left["features"] = "they are every tenant's: a role over the whole gateway erases them"
        erased["cached_answers"] = cached + await self._purge(Purge(tenant=tenant, user=user))
        await asyncio.to_thread(self._records.wipe)
        return await asyncio.to_thread(self._records.keep_receipt, tenant, user, erased, left)

    async def _flush(self) -> None:
        """What this worker has settled is in the store; what another one has just settled is caught by the sweep."""
        if not await asyncio.to_thread(self._journal.flush):
            raise StageFailed("The record store takes no records now: nothing was done. Try again.", retry_after="2")

    async def _files(self, tenant: str, user: str) -> tuple[list[Any], list[Any]]:
        assert self._vector_stores is not None
        records, owner = self._vector_stores.records, Owner(tenant, user)
        files = await asyncio.to_thread(records.files, owner, None)
        stores = await asyncio.to_thread(records.stores, owner)
        return [one for one in files if one.owner == user], [one for one in stores if one.owner == user]

    async def _erase_files(self, vector_stores: VectorStores, tenant: str, user: str) -> dict[str, int]:
        files, stores = await self._files(tenant, user)
        who = Caller("erasure", tenant, user)
        gone = {"files": 0, "vector_stores": 0}
        for kind, things, drop in (
            ("files", files, vector_stores.drop_file),
            ("vector_stores", stores, vector_stores.drop_store),
        ):
            for thing in things:
                try:
                    await drop(who, thing.id)
                except NotFound:  # somebody else has just done it
                    continue
                gone[kind] += 1
        return gone

    async def _of_features(self, ask: Callable[[dict[str, str]], Awaitable[Any]], entity: dict[str, str]) -> Any:
        try:
            return await ask(entity)
        except FeaturesUnavailable:
            raise StageFailed("The feature store is away: not all was done. Try again.", retry_after="5") from None
