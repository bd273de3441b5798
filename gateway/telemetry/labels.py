"""What may be a label's value: words of the configuration and of this program, so that no caller and no vendor makes
series of its own.

A series costs memory here, in every Prometheus that scrapes it, and for as long as that keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from gateway.telemetry.provider_names import provider_name

if TYPE_CHECKING:
    from gateway.config.models import Configuration
    from gateway.exchange import Exchange

OTHER: Final = "other"

# Where a call with an error of this type was stopped: the stage's name in `Server-Timing`, or what comes before stages.
_LAST: Final = ""  # the last stage that it has been through
STAGE_OF_TYPE: Final = {
    "invalid_api_key": "authenticate",
    "missing_api_key": "authenticate",
    "invalid_token": "authenticate",
    "ip_not_authorized": "authenticate",
    "forbidden": "authenticate",
    "cross_origin": "authenticate",
    "keys_unavailable": "authenticate",
    "token_issuer_unavailable": "authenticate",
    "authentication_error": "authenticate",
    "permission_error": "authenticate",
    "invalid_request_error": "request",
    "invalid_json": "request",
    "missing_required_parameter": "request",
    "unknown_parameter": "request",
    "unsupported_parameter": "request",
    "request_header_fields_too_large": "request",
    "request_timeout": "request",
    "request_too_large": "request",
    "invalid_http": "request",
    "model_not_found": "request",
    "not_found": "request",
    "conflict": "request",
    "media_host": "request",
    "missing_thought_signature": "request",
    "context_length_exceeded": "render",
    "overloaded": "admission",
    "server_error": _LAST,
    "internal_error": _LAST,
    "stage_unavailable": _LAST,
    "rate_limit_exceeded": "limits",
    "rate_limit_error": "limits",
    "insufficient_quota": "limits",
    "limits_unavailable": "limits",
    "unknown_price": "limits",
    "residency": "call",
    "content_filter": "guardrails",
    "prompt_unavailable": "render",
    "prompt_not_found": "render",
    "prompt_failed": "render",
    "not_cached": "cache",
    "cache_unavailable": "cache",
    "records_unavailable": "records",
    "store_unavailable": "records",
    "configuration_refused": "request",
    "upstream_error": "call",
    "upstream_refused": "call",
    "upstream_bad_answer": "call",
    "upstream_certificate": "call",
    "upstream_disconnected": "call",
    "upstream_unreachable": "call",
    "upstream_timeout": "call",
    "upstream_timeout_connect": "call",
    "upstream_timeout_first_token": "call",
    "upstream_timeout_between_tokens": "call",
    "upstream_timeout_total": "call",
}

_FINISHED: Final = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})


def error_type(code: str | None) -> str:
    """One of our own codes as it is; a vendor's word is `other`."""
    return code if code in STAGE_OF_TYPE else OTHER


def finish(reason: str) -> str:
    """OpenAI's finish reasons, which the providers' own are translated to; what a server makes up is `other`."""
    return reason if reason in _FINISHED else OTHER


def failed_in(exchange: Exchange) -> tuple[str, str]:
    """The stage that a failed or blocked call ended in, and the type of its error."""
    attempts, code = exchange.attempts, exchange.error_code
    if attempts and attempts[-1].outcome == "upstream_refused" and exchange.status == attempts[-1].status:
        return "call", "upstream_refused"  # with the vendor's own code
    type_ = error_type(code)
    stage = STAGE_OF_TYPE.get(type_, "call" if attempts else _LAST)
    if type_ == "content_filter":
        stage = _guardrail_of(exchange)
    elif stage == "limits" and (exchange.permit is None or exchange.permit.refusal is None) and attempts:
        stage = "call"  # the vendor's limit, not one of ours
    elif type_ == "overloaded" and exchange.caller is not None:
        stage = "queue"
    if stage == _LAST:
        stage = exchange.stages[-1][0] if exchange.stages else "request"
    return stage, type_


def _guardrail_of(exchange: Exchange) -> str:
    for where, verdict in reversed(exchange.verdicts):
        if verdict.stops:
            return "output_guardrails" if where == "output" else "input_guardrails"
    return "call"  # a vendor's own filter


class Configured(Protocol):
    """What the configuration in force says of names."""

    def names(self, model: str) -> bool:
        """Whether it has a model of that name, or a model's target: `provider/model`."""

    def vendor(self, provider: str) -> str:
        """What the GenAI conventions call the provider of that name; "" where there is none."""


class ConfiguredNames:
    """See Configured: of the configuration in force when it is asked."""

    def __init__(self, in_force: Callable[[], Configuration]) -> None:
        self._in_force = in_force
        self._read: Configuration | None = None
        self._names: frozenset[str] = frozenset()

    def names(self, model: str) -> bool:
        configuration = self._in_force()
        if configuration is not self._read:
            models = configuration.models
            entries = [entry for one in models.values() for entry in (*one.targets, *one.fallbacks)]
            targets = [f"{one.provider}/{one.model}" if one.model else one.provider for one in entries]
            self._names = frozenset([*models, *targets])
            self._read = configuration
        return model in self._names

    def vendor(self, provider: str) -> str:
        settings = self._in_force().providers.get(provider)
        return provider_name(settings) if settings is not None else ""


class AnyName:
    """Of no configuration: a name without a provider's is taken to be one of its models."""

    def names(self, model: str) -> bool:
        return "/" not in model

    def vendor(self, provider: str) -> str:
        return provider


class ModelLabels:
    """The label of a call's model: its name where the configuration has it; else its provider's name and `/*`."""

    def __init__(self, configured: Callable[[str], bool]) -> None:
        self._configured = configured

    def of(self, model: str | None) -> str:
        if model is None:
            return "unknown"
        if self._configured(model):
            return model
        # A pipeline was found for it, so what stands before the slash is a provider of the configuration.
        provider, slash, _ = model.partition("/")
        return f"{provider}/*" if slash else OTHER
