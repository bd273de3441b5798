"""A provider's configuration to the provider: one branch a kind, which alone loads what that kind needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from gateway.config.providers import (
    Extractive,
    HttpProvider,
    OpenAI,
    Timeouts,
    Vllm,
)
from gateway.config.providers import OpenAICompatible as OpenAICompatibleSettings
from gateway.config.providers import Provider as Settings
from gateway.providers.openai_compatible import OpenAICompatible
from gateway.providers.upstream import Upstream
from gateway.routing.candidates import Lane, Line
from gateway.routing.health import Patience

if TYPE_CHECKING:
    from gateway.providers.protocol import Provider
    from gateway.services import KnowledgeService


def line(name: str, settings: Settings, knowledge: KnowledgeService | None) -> Line:
    """The provider that an entry of `providers` describes, with the patience that it asks for."""
    if isinstance(settings, HttpProvider):
        single = [settings.model_copy(update={"api_key": _secret(key), "api_keys": None}) for key in settings.keys]
        lanes = tuple(Lane(_http_provider(name, under_one_key)) for under_one_key in single)
        retries, timeouts = settings.retries, settings.timeouts
        return Line(lanes, timeouts.total, retries.attempts, retries.backoff, retries.max_backoff, settings.residency)
    if isinstance(settings, Extractive):
        from gateway.providers.extractive import Extractive as ExtractiveProvider

        return Line((Lane(ExtractiveProvider(settings.sentences)),), 10.0, 0, 0.0, 0.0, "on_premises")
    assert knowledge is not None, "the configuration's references were checked"
    timeouts = Timeouts.model_validate({"total": "60s"})
    upstream = Upstream(f"unix:{knowledge.embedding_socket}", {}, connect_timeout=2.0, max_connections=64)
    return Line((Lane(OpenAICompatible(upstream, timeouts)),), timeouts.total, 1, 0.1, 1.0, "on_premises")


def patience(settings: Settings) -> Patience:
    """When a target of this provider is held to be faulty."""
    if not isinstance(settings, HttpProvider):
        return Patience()
    circuit = settings.circuit
    return Patience(circuit.failures, circuit.within, circuit.pause, circuit.longest)


def _secret(key: str | None) -> SecretStr | None:
    return None if key is None else SecretStr(key)


def _http_provider(name: str, settings: HttpProvider) -> Provider:
    # A kind with a wire format of its own has its branch here, with its imports.
    if isinstance(settings, (OpenAI, OpenAICompatibleSettings, Vllm)):
        return OpenAICompatible(
            _upstream(settings, settings.base_url, _bearer(settings)), settings.timeouts, _secrets(settings)
        )
    raise AssertionError(f"{name}: no provider is known for this kind")


def _upstream(settings: HttpProvider, base_url: str, headers: dict[str, str]) -> Upstream:
    """The connections to a vendor; `headers` are added to the configured ones."""
    configured = {name: value.get_secret_value() for name, value in settings.headers.items()}
    return Upstream(
        base_url,
        configured | headers,
        connect_timeout=settings.timeouts.connect,
        max_connections=settings.max_connections,
    )


def _bearer(settings: HttpProvider) -> dict[str, str]:
    return {} if settings.api_key is None else {"authorization": f"Bearer {settings.api_key.get_secret_value()}"}


def _secrets(settings: HttpProvider) -> tuple[str, ...]:
    """What must be cut out of a vendor's words before a caller sees them."""
    secrets = [value.get_secret_value() for value in settings.headers.values()]
    if settings.api_key is not None:
        secrets.append(settings.api_key.get_secret_value())
    return tuple(secrets)
