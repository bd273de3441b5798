"""Errors of the gateway as the client raises them: each also one of the SDK's."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from gateway import errors
from gateway.client import (
    Blocked,
    BudgetSpent,
    Client,
    GatewayFault,
    NotCached,
    Overloaded,
    ProviderFailed,
    RateLimited,
    StageUnavailable,
)


def raised(error: errors.GatewayError, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    """What the client raises where the gateway answers with this error."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            error.status, json=error.body(), headers={"x-gateway-call-id": "call-1", **(headers or {})}
        )

    transport = httpx2.MockTransport(answer)
    with Client("http://gateway", http_client=httpx2.Client(transport=transport), max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.ask("?", model="m")
    return caught.value


@pytest.mark.parametrize(
    ("error", "own", "sdks"),
    [
        (errors.ContentBlocked("No."), Blocked, openai.BadRequestError),
        (errors.LimitReached("No."), RateLimited, openai.RateLimitError),
        (errors.TargetsFull("No."), RateLimited, openai.RateLimitError),
        (errors.UpstreamLimited("No."), RateLimited, openai.RateLimitError),
        (errors.BudgetSpent("No."), BudgetSpent, openai.RateLimitError),
        (errors.StageFailed("No."), StageUnavailable, openai.InternalServerError),
        (errors.LimitsUnavailable("No."), StageUnavailable, openai.InternalServerError),
        (errors.QueueFull("No."), Overloaded, openai.InternalServerError),
        (errors.NotCached("No."), NotCached, openai.InternalServerError),
        (errors.UpstreamFailed("No.", code="upstream_bad_answer"), ProviderFailed, openai.InternalServerError),
        (errors.UpstreamFailed("No."), ProviderFailed, openai.InternalServerError),
        (errors.CredentialRefused("No."), ProviderFailed, openai.InternalServerError),
        (errors.UpstreamTimeout("No."), ProviderFailed, openai.InternalServerError),
    ],
)
def test_a_gateways_error_is_one_of_the_sdks(error: Any, own: type[GatewayFault], sdks: type[Exception]) -> None:
    caught = raised(error)

    assert type(caught) is own
    assert isinstance(caught, sdks)
    assert isinstance(caught, GatewayFault)
    assert (caught.status_code, caught.code, caught.told, caught.facts.call_id) == (
        error.status, error.code, "No.", "call-1",
    )  # fmt: skip
    assert str(caught) == f"Error code: {error.status} - No."


@pytest.mark.parametrize(
    ("error", "sdks"),
    [
        (errors.BadRequest("No."), openai.BadRequestError),
        (errors.Unauthenticated("No."), openai.AuthenticationError),
        (errors.Forbidden("No."), openai.PermissionDeniedError),
        (errors.NotFound("No."), openai.NotFoundError),
        (errors.GatewayError("No.", code="internal_error"), openai.InternalServerError),
    ],
)
def test_the_others_are_the_sdks_own(error: Any, sdks: type[Exception]) -> None:
    assert type(raised(error)) is sdks


def test_what_a_limit_tells() -> None:
    caught = raised(
        errors.LimitReached("No."),
        {"retry-after": "12", "x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "800"},
    )
    assert isinstance(caught, RateLimited)
    assert caught.retry_after == 12.0
    assert caught.remaining == {"requests": 0, "tokens": 800}
    without = raised(errors.LimitReached("No."))
    assert isinstance(without, RateLimited)
    assert (without.retry_after, without.remaining) == (None, {})


@pytest.mark.parametrize(
    ("message", "reasons"),
    [
        (
            "The request was blocked by a guardrail (pii: EMAIL_ADDRESS, IBAN_CODE; secrets: github_token). "
            "Remove what it found and try again.",
            {"pii": ("EMAIL_ADDRESS", "IBAN_CODE"), "secrets": ("github_token",)},
        ),
        ("Ask HR (floor 2) instead (topics: ).", {"topics": ()}),
        ("The provider's filter refused it.", {}),
    ],
)
def test_why_it_was_blocked(message: str, reasons: dict[str, tuple[str, ...]]) -> None:
    caught = raised(errors.ContentBlocked(message))
    assert isinstance(caught, Blocked)
    assert (caught.reasons, caught.told) == (reasons, message)


@pytest.mark.parametrize(
    ("message", "code", "stage"),
    [
        ("The counts are away.", "limits_unavailable", "limits"),
        ("The retrieval stage is unavailable: it took too long. Try again shortly.", None, "retrieval"),
        ("The guardrail pii is unavailable: no answer. Try again shortly.", None, "guardrails.pii"),
        ("The file search took too long. Try again shortly.", None, None),
    ],
)
def test_which_stage_is_away(message: str, code: str | None, stage: str | None) -> None:
    caught = raised(errors.StageFailed(message, code=code))
    assert isinstance(caught, StageUnavailable)
    assert caught.stage == stage
