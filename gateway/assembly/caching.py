"""The caches of public models, as configured."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from gateway.assembly.sealing import seal_of
from gateway.cache.answers import AnswerCache, CacheTerms
from gateway.cache.caches import Caches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.assembly.services import Services
    from gateway.config.models import Configuration, Model
    from gateway.state import RedisState

# Of a provider: how it is reached, not what it answers; the first three are secrets.
_NOT_SHAPING = {"api_key", "api_keys", "headers", "timeouts", "retries", "circuit"}


def open_caches(configuration: Configuration, state: RedisState | None) -> Caches:
    """What keeps answers in Redis or Milvus encrypts them where the records have keys for that."""
    elsewhere = state is not None or configuration.retrieval is not None
    return Caches(state, seal_of(configuration) if elsewhere else None)


def scope_of(configuration: Configuration, name: str, model: Model, shaped_by: Iterable[str]) -> str:
    """A digest of the public model and of all settings that shape its answers; what only keeps or records them is not
    among them. `shaped_by` are the versions of its template and guardrails.
    """
    shaping = [name, model.model_dump_json(exclude={"description", "record_content", "cache"}), *shaped_by]
    named = {entry.provider for entry in (*model.targets, *model.fallbacks)}
    for provider in sorted(named & configuration.providers.keys()):
        # The same name at another address is another model. Other secrets are written as stars.
        settings = configuration.providers[provider].model_dump(mode="json", exclude=_NOT_SHAPING)
        shaping.append(f"{provider} {json.dumps(settings, sort_keys=True)}")
    return hashlib.sha256("\0".join(shaping).encode()).hexdigest()


def answer_cache(name: str, model: Model, scope: str, services: Services) -> AnswerCache | None:
    """None where the model has none."""
    cache = model.cache
    if cache is None:
        return None
    exact, caches = cache.exact, services.caches
    in_redis = exact.store == "redis" or (exact.store is None and services.state is not None)
    entries = caches.in_redis(exact.max_entry) if in_redis else caches.in_memory(exact.max_bytes, exact.max_entry)
    terms = CacheTerms(exact.ttl, exact.stale, exact.wait, cache.charge, exact.recheck)
    semantic = None
    if cache.semantic is not None:
        assert services.semantic is not None, "loading refuses a semantic cache without `retrieval`"
        semantic = services.semantic.cache(name, scope, cache.semantic)
    return AnswerCache(scope, terms, entries, caches.meter, semantic)
