"""What becomes of verdicts: a note in the account, an error in the caller's words, a mark on what goes on without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway.errors import ContentBlocked, StageFailed
from gateway.exchange import Exchange
from guardrails.policy import Policy
from guardrails.pseudonyms import Pseudonyms
from guardrails.verdicts import Screened, Verdict

OFF_LOOP = 4_000
"""Characters from which screening would hold up other calls, so a thread does it."""


async def screened(
    policy: Policy, text: str, pseudonyms: Pseudonyms | None = None, *, in_json: bool = False
) -> Screened:
    """`text` after the policy's rules over runs."""
    if len(text) < OFF_LOOP:
        return policy.screen(text, pseudonyms, in_json=in_json)
    return await asyncio.to_thread(policy.screen, text, pseudonyms, in_json=in_json)


def note(exchange: Exchange, stage: str, verdicts: Iterable[Verdict]) -> None:
    """Into the account: what was found, and who could not judge. Raises StageFailed where a check that may not be
    missed is away, unless another has blocked the text anyway."""
    told = [verdict for verdict in verdicts if verdict.action != "allow"]
    exchange.verdicts += [(stage, verdict) for verdict in told]
    away = [verdict for verdict in told if verdict.action == "unavailable"]
    if not away:
        return
    for verdict in away:
        name = f"guardrails.{verdict.check}"
        if not verdict.closed and verdict.would is None and name not in exchange.degraded:
            exchange.degraded.append(name)
    closed = [verdict for verdict in away if verdict.closed]
    if closed and not any(verdict.action == "block" for verdict in told):
        raise StageFailed(
            f"The guardrail {closed[0].check} is unavailable: {closed[0].failure}. Try again shortly.", retry_after="2"
        )


def refusal(verdicts: Iterable[Verdict], param: str | None) -> ContentBlocked:
    """The error for a request that is blocked: which check, for which kind of reason; never what it found."""
    blocking = [verdict for verdict in verdicts if verdict.action == "block"]
    own = next((verdict.message for verdict in blocking if verdict.message), None)
    told = f"{own.rstrip('.')} ({_reasons(blocking)})." if own else (
        f"The request was blocked by a guardrail ({_reasons(blocking)}). Remove what it found and try again."
    )  # fmt: skip
    return ContentBlocked(told, param=param)


def refusal_text(verdicts: Iterable[Verdict]) -> str:
    """What the operator has an answer say that is blocked; "" where nothing is configured."""
    return next((verdict.message for verdict in verdicts if verdict.action == "block" and verdict.message), "")


def _reasons(blocking: Iterable[Verdict]) -> str:
    """`secrets: github_token; pii: IBAN_CODE`"""
    kinds: dict[str, set[str]] = {}
    for verdict in blocking:
        kinds.setdefault(verdict.check, set()).update(finding.kind for finding in verdict.findings)
    return "; ".join(f"{check}: {', '.join(sorted(found))}" for check, found in sorted(kinds.items()))
