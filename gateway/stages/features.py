"""Features of a call's entities, read inside their time budget; what is missing or too old falls to its default."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from features.vector import FeatureReader, FeaturesUnavailable, FeatureValue, FeatureVector, WrongEntity
from gateway.chat import JSON, Request
from gateway.entities import EVERYBODY, EntityTemplate
from gateway.errors import BadRequest
from gateway.exchange import Exchange
from gateway.stages.preparation import degrade

_LONGEST = 256  # characters of what a caller says of an entity

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class FeatureStage:
    """Reads a service's features for the entities that a call is about; an entity that is not known has none.

    `owner` is the tenant whose users those are that their template does not tell apart by tenant: calls of others
    have no features of theirs. `told` hears of each call that ends.
    """

    reader: FeatureReader
    service: str
    entities: Mapping[str, EntityTemplate]
    budget: float
    on_failure: Literal["continue", "refuse"]
    max_age: Mapping[str, float] | float | None = None
    defaults: Mapping[str, FeatureValue] = field(default_factory=dict)
    owner: str = EVERYBODY
    told: Callable[[Exchange], None] | None = None
    headers: tuple[bytes, ...] = ()

    async def fetch(self, request: Request, exchange: Exchange) -> None:
        """Raises BadRequest for an entity that the caller names and that can't be, and StageFailed."""
        started = time.perf_counter_ns()
        entity = self._entity(request, exchange)
        at_end = _mask
        try:
            if entity:
                async with asyncio.timeout(self.budget):
                    exchange.features = self._with_defaults(await self._read(entity))
            elif self.defaults:
                exchange.features = self._nothing()
        except (TimeoutError, FeaturesUnavailable) as failure:
            degrade(exchange, "features", self.on_failure, failure)
            unread = self._unread()
            # What was said before may hold what can't be read now: the call goes no further than one that has read it.
            exchange.features = unread if self.defaults or unread.sensitive or unread.sensitivity else None
            at_end = _keep_nothing
        finally:
            exchange.stage("features", started)
        if exchange.features is not None and exchange.features.sensitive:
            exchange.at_own_end(at_end)
        if self.told is not None:
            exchange.at_own_end(self.told)

    async def _read(self, entity: Mapping[str, str]) -> FeatureVector:
        try:
            return await self.reader.read(self.service, entity, self.max_age)
        except WrongEntity as fault:
            said = self.entities[fault.join_key].said_by_callers
            if said:
                name = said[0].removeprefix("header.")
                raise BadRequest(f"Invalid value for '{name}': it should be {fault.expected}.", param=name) from None
            # A user whose name is no number where the store has numbers is nobody that it knows.
            rest = {join_key: value for join_key, value in entity.items() if join_key != fault.join_key}
            return await self._read(rest) if rest else self._nothing()

    def _with_defaults(self, vector: FeatureVector) -> FeatureVector:
        if not self.defaults:
            return vector
        values = {name: self.defaults.get(name) if value is None else value for name, value in vector.values.items()}
        return replace(vector, values=values)

    def _nothing(self) -> FeatureVector:
        """There is nobody to read of."""
        return FeatureVector(self.service, {}, dict(self.defaults), tuple(self.defaults))

    def _unread(self) -> FeatureVector:
        """Nothing could be read."""
        known = self.reader.unread(self.service)
        return replace(known, values={**known.values, **self.defaults}) if known is not None else self._nothing()

    def stand_beside(self, exchange: Exchange) -> None:
        """For a call about a conversation of this model: it reads nothing, and goes no further than the conversation."""
        exchange.features = self._unread()
        if exchange.features.sensitive:
            exchange.at_own_end(_keep_nothing)

    def _entity(self, request: Request, exchange: Exchange) -> dict[str, str]:
        caller = exchange.caller
        assert caller is not None
        metadata = _metadata(request, {name for each in self.entities.values() for name in each.named("metadata")})

        def known(source: str) -> str | None:
            kind, _, name = source.partition(".")
            if kind == "user":
                return caller.user
            if kind == "tenant":
                return caller.tenant
            if kind == "key":
                return caller.key_id or caller.key_name
            if kind == "header":
                held = (exchange.headers or {}).get(name.lower().encode())
                return _sane(name, held.decode("utf-8", "replace")) if held is not None else None
            if kind == "metadata":
                return _sane(
                    source, metadata.get(name) or (request.conversation if name == "conversation_id" else None)
                )
            value = (getattr(request, "variables", None) or {}).get(name)
            return _sane(source, value if isinstance(value, str) else JSON.encode(value).decode() if value else None)

        made = {}
        for join_key, template in self.entities.items():
            if template.of_user and not template.of_tenant and self.owner not in (EVERYBODY, caller.tenant):
                continue  # their users are another tenant's, whatever they are called
            if (value := template.fill(known)) is not None:
                made[join_key] = value
        return made


def _mask(exchange: Exchange) -> None:
    """What is sensitive comes to rest nowhere: of the prompt the conversation is kept, without what was made round it.

    Answers before this one, which the caller sends along, may repeat it too.
    """
    features = exchange.features
    assert features is not None
    if exchange.messages is not None:
        exchange.messages = exchange.asked = _masked(exchange.asked, features)
    if exchange.withheld is not None:
        exchange.withheld = exchange.withheld._replace(messages=_masked(exchange.withheld.messages, features))
    if exchange.answer_text is not None:
        exchange.answer_text = features.masked(exchange.answer_text)
    if exchange.answer_calls:
        exchange.answer_calls = _masked(exchange.answer_calls, features)


def _masked(value: Any, features: FeatureVector) -> Any:
    if isinstance(value, str):
        return features.masked(value)
    if isinstance(value, list):
        return [_masked(item, features) for item in value]
    if isinstance(value, dict):
        return {name: _masked(item, features) for name, item in value.items()}
    return value


def _keep_nothing(exchange: Exchange) -> None:
    """Where it is not known what to mask."""
    exchange.messages = exchange.asked = exchange.withheld = exchange.answer_text = None
    exchange.answer_calls = ()


def _metadata(request: Request, wanted: set[str]) -> dict[str, str]:
    """What the body's `metadata` says of entities, taken out of it: it is said to the gateway, not to a provider."""
    if not wanted or "metadata" not in request.fields:
        return {}
    said = _decode(request.fields["metadata"])
    taken = {name: str(said.pop(name)) for name in wanted & said.keys()}
    if taken:
        if said:
            request.fields["metadata"] = msgspec.Raw(JSON.encode(said))
        else:
            del request.fields["metadata"]
    return taken


def _sane(name: str, value: str | None) -> str | None:
    """Raises BadRequest for what no entity is called."""
    if value is not None and (len(value) > _LONGEST or not value.isprintable()):
        raise BadRequest(f"Invalid value for '{name}': it should be up to {_LONGEST} printable characters.", param=name)
    return value


def headers_of(entities: Mapping[str, EntityTemplate]) -> tuple[bytes, ...]:
    """The headers that these are made of, as requests have them."""
    return tuple(name.lower().encode() for each in entities.values() for name in each.named("header"))
