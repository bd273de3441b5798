"""`POST /v1/features/push`: features of users and things, written into the online store for the answers to come."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from features.definitions import Definitions
from features.rows import RowFault
from features.vector import FeaturesUnavailable
from gateway.access.roles import has_role, is_over
from gateway.api.administration import asked
from gateway.api.identity import Identified
from gateway.config.models import Configuration
from gateway.entities import EVERYBODY, EntityTemplate
from gateway.errors import BadRequest, Forbidden, StageFailed
from gateway.feature_service import FeatureService
from gateway.records.keys import KeyStore
from gateway.runtime import Gateway
from gateway.values import Caller

_MOST = 1000  # rows of one request


class PushRequest(BaseModel):
    """`rows` are objects of the push source's fields; `event_timestamp` is now where a row has none.

    `tenant` is whose users and things the rows name: the key's own, but for a role that is over more.
    """

    model_config = ConfigDict(extra="forbid")

    push_source: Annotated[str, Field(min_length=1, max_length=200)]
    rows: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=_MOST)]
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None


def router(identified: Identified, gateway: Gateway, features: FeatureService, keys: KeyStore) -> APIRouter:
    routes = APIRouter(tags=["features"])
    caller = Depends(identified)

    @routes.post("/v1/features/push")
    async def push(pushed: PushRequest, who: Caller = caller) -> dict[str, Any]:
        """Write rows through a Feast push source, all or none. For keys with the role `operator`, and those whose
        `endpoints` name `features`."""
        if not has_role(who, "operator") and "features" not in (who.endpoints or ()):
            raise Forbidden("This needs a key with the role `operator`, or one whose `endpoints` name `features`.")
        tenant = pushed.tenant
        if tenant is not None and tenant != who.tenant and not await _is_over(who, tenant, keys):
            raise Forbidden(f"The rights of this key are not over the tenant '{tenant}'.", param="tenant")
        everywhere = has_role(who, "operator") and who.scope == "gateway"
        try:
            definitions = features.definitions
            rows = pushed.rows
            if tenant is not None or not everywhere:
                configuration = gateway.revision.configuration
                rows = _of_tenant(definitions, configuration, pushed, tenant or who.tenant, _only_user(who))
            count = await features.push(pushed.push_source, rows)
        except RowFault as fault:
            if fault.row is None:
                raise BadRequest(f"Invalid value for 'push_source': {fault}.", param="push_source") from None
            where = f"rows[{fault.row}]" + (f".{fault.name}" if fault.name else "")
            raise BadRequest(f"Invalid value for '{where}': it {fault}.", param=where) from None
        except FeaturesUnavailable as failure:
            raise StageFailed(f"The feature store takes no rows now: {failure}.", retry_after="5") from None
        return {"object": "features.push", "push_source": pushed.push_source, "rows": count}

    return routes


async def _is_over(who: Caller, tenant: str, keys: KeyStore) -> bool:
    if not has_role(who, "operator"):
        return False
    known = await asked(keys.tenant, tenant) if who.scope == "organisation" else None
    return is_over(who, tenant, known.organisation if known is not None else None)


def _only_user(who: Caller) -> str | None:
    """The one user that a key may write of: its own, where it speaks for no other."""
    return None if has_role(who, "operator") or who.speaks_for_users else who.user


def _of_tenant(
    definitions: Definitions, configuration: Configuration, pushed: PushRequest, tenant: str, only: str | None
) -> list[dict[str, Any]]:
    """The rows with the store's own keys for what a tenant calls its users and things. Raises Forbidden for a source
    whose rows are not one tenant's alone, and for another user than the `only` one."""
    views = definitions.pushed_to(pushed.push_source)
    mapping = _mapping(configuration)
    owner = configuration.feature_owner
    rows = [dict(row) for row in pushed.rows]
    for join_key in {key for view in views for key in view.join_keys}:
        template = mapping.get(join_key)
        owned = template is not None and (template.of_tenant or (template.of_user and owner in (tenant, EVERYBODY)))
        if template is None or not owned or (owner == EVERYBODY and not template.of_tenant):
            raise Forbidden(
                f"The rows of `{pushed.push_source}` are about `{join_key}`, which is not of one tenant alone: this "
                "needs a key with the role `operator` over the whole gateway.",
                param="push_source",
            )
        for order, row in enumerate(rows):
            value = row.get(join_key)
            if only is not None and template.of_user and (isinstance(value, bool) or str(value) != only):
                where = f"rows[{order}].{join_key}"
                raise Forbidden(f"This key writes of its own user alone, '{where}' is another.", param=where)
            if not isinstance(value, str):
                continue  # a number, or what is told with its type
            stored = template.stored(tenant, value)
            if stored is None:
                raise Forbidden(f"`{join_key}` is made of more than a tenant and one name.", param="push_source")
            row[join_key] = stored
    return rows


def _mapping(configuration: Configuration) -> dict[str, EntityTemplate]:
    """What join keys are made of, for all models; of one that models say themselves, what the first one says."""
    features = configuration.features
    assert features is not None
    made: dict[str, EntityTemplate] = {}
    for model in configuration.models.values():
        if model.features is not None:
            made = {**model.features.mapping(features), **made}
    return made | {join_key: EntityTemplate.parse(text) for join_key, text in features.entities.items()}
