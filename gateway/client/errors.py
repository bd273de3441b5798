"""The gateway's errors as types, each of them one of the `openai` SDK's, so that handlers of those go on to work.

openai.APIStatusError
├── openai.BadRequestError
│   └── Blocked            a guardrail, or a provider's own filter, refused it
├── openai.RateLimitError
│   └── RateLimited        a limit of requests or tokens is reached
│       └── BudgetSpent    there is no money left in this period
└── openai.InternalServerError
    ├── StageUnavailable   retrieval, features or a guardrail is away, and the model must not do without
    ├── NotCached          there is no kept answer, and the call wants no other
    └── ProviderFailed     the provider failed, or took too long
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import openai

from gateway.client.facts import CallFacts

if TYPE_CHECKING:
    import httpx2

_REASONS = re.compile(r"\(([\w.-]+:[^()]*)\)\.?[^()]*\Z")
_AWAY = "_unavailable"
_STAGE = re.compile(r"The (?:guardrail (?P<guardrail>\S+)|(?P<stage>\S+) stage) is unavailable")


class GatewayFault(openai.APIError):
    """What the gateway's errors have in common: catch it to catch them all. It is never raised by itself."""

    response: httpx2.Response

    @property
    def facts(self) -> CallFacts:
        """The headers' facts of the call that failed; its `call_id` is for `Client.explain`."""
        return CallFacts.from_headers(self.response.headers)

    @property
    def retry_after(self) -> float | None:
        """Seconds after which another try makes sense; None where the gateway does not say."""
        said = self.response.headers.get("retry-after", "")
        return float(said) if said.isdecimal() else None

    @property
    def told(self) -> str:
        """The gateway's own words, without the SDK's `Error code: …` in front."""
        said = self.body.get("message") if isinstance(self.body, Mapping) else None
        return said if isinstance(said, str) else self.message


class Blocked(GatewayFault, openai.BadRequestError):
    """A guardrail refused the question or the answer. In a stream it may come after some of the text."""

    @property
    def reasons(self) -> Mapping[str, tuple[str, ...]]:
        """The kinds of what was found, by the check that found them: `{"pii": ("IBAN_CODE",)}`.

        Empty where the gateway does not tell; `told` always has its words.
        """
        named = _REASONS.search(self.told)
        checks = [part.partition(":") for part in named[1].split(";")] if named else []
        return {
            check.strip(): tuple(kind.strip() for kind in kinds.split(",") if kind.strip())
            for check, _, kinds in checks
        }


class RateLimited(GatewayFault, openai.RateLimitError):
    """A limit is reached, the gateway's or a provider's."""

    @property
    def remaining(self) -> Mapping[str, int]:
        """What is left of each limit that the answer names: `{"requests": 0, "tokens": 1200}`."""
        prefix = "x-ratelimit-remaining-"
        said = {name.lower(): value for name, value in self.response.headers.items()}
        return {
            name.removeprefix(prefix): int(value)
            for name, value in said.items()
            if name.startswith(prefix) and value.isdecimal()
        }


class BudgetSpent(RateLimited):
    """The budget of the key, user or tenant is spent until its period ends."""


class StageUnavailable(GatewayFault, openai.InternalServerError):
    """What the call needs is away, and the configuration says to refuse rather than to go on without it."""

    @property
    def stage(self) -> str | None:
        """`retrieval`, `features`, `guardrails.pii`, `limits`, `keys` …; None where the gateway does not name it."""
        if named := _STAGE.search(self.told):
            return named["stage"] or f"guardrails.{named['guardrail']}"
        part = (self.code or "").removesuffix(_AWAY)
        return part if part != "stage" else None


class Overloaded(GatewayFault, openai.InternalServerError):
    """The gateway, or every server that may answer, has no room just now."""


class NotCached(GatewayFault, openai.InternalServerError):
    """Nothing is kept for this question, and `cache="only"` wants no call of a model."""


class ProviderFailed(GatewayFault, openai.InternalServerError):
    """The provider did not answer, after all tries and fallbacks; `code` says how."""


_Kind = type[Blocked | RateLimited | StageUnavailable | Overloaded | NotCached | ProviderFailed]

_BY_CODE: Mapping[str, tuple[_Kind, int]] = {
    "content_filter": (Blocked, 400),
    "rate_limit_exceeded": (RateLimited, 429),
    "insufficient_quota": (BudgetSpent, 429),
    "overloaded": (Overloaded, 503),
    "not_cached": (NotCached, 504),
}


def own_type(error: openai.APIStatusError) -> openai.APIStatusError:
    """The same error in the gateway's type, where there is one for its code and status."""
    kind, status = _kind(error.code)
    if kind is None or status != error.status_code:
        return error
    return kind(str(error), response=error.response, body=error.body)


def own_type_in_stream(error: openai.APIError, response: httpx2.Response) -> openai.APIError:
    """The same for an error event of a stream, whose status was 200: `status_code` is what it would have been."""
    kind, status = _kind(error.code)
    if kind is None or isinstance(error, openai.APIStatusError):
        return error
    typed = kind(error.message, response=response, body=error.body)
    object.__setattr__(typed, "status_code", status)
    return typed


def _kind(code: str | None) -> tuple[_Kind | None, int]:
    """The type for an error's code, and the status that such an error has."""
    code = code or ""
    if code.startswith("upstream_"):
        return ProviderFailed, 504 if code.startswith("upstream_timeout") else 502
    if code.endswith(_AWAY):
        return StageUnavailable, 503
    return _BY_CODE.get(code, (None, 0))
