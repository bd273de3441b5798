"""`POST /v1/moderations`, answered here: what a configured set of guardrails holds of texts, in OpenAI's shape.

https://platform.openai.com/docs/api-reference/moderations/object. A category is a check's name, or the check's and
what it found: `pii`, `pii/EMAIL_ADDRESS`. Nothing is masked or refused, and no text leaves but to the set's own judges.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from gateway.chat import JSON, Request
from gateway.chunks import Chunk
from gateway.errors import BadRequest, StageFailed
from gateway.exchange import Exchange
from gateway.providers.answers import PlainAnswer
from gateway.stages.guard_calls import guarding
from gateway.stages.verdicts import note, screened
from guardrails.judging import Batch
from guardrails.policy import Policy
from guardrails.text_checks import Context
from guardrails.verdicts import Verdict


class LocalModeration:
    """What calls a set in a target's place. The set is made when it is first asked, in a thread: some checks load."""

    def __init__(self, name: str, make: Callable[[], Policy | None]) -> None:
        self._name = name
        self._make = make
        self._policy: Policy | None = None
        self._making = asyncio.Lock()

    async def call(self, request: Request, exchange: Exchange) -> PlainAnswer:
        """Raises BadRequest for what is no text, StageFailed where a check is away."""
        texts = _texts(request)
        async with self._making:
            if self._policy is None:
                self._policy = await asyncio.to_thread(self._make)
        policy = self._policy
        if policy is None:
            raise StageFailed(f"The guardrails {self._name} have no rules.")
        with guarding(request, exchange):
            verdicts = [list((await screened(policy, text)).verdicts) for text in texts]
            if policy.judges is not None:
                (judged,) = await policy.judges.screen([Batch(tuple(texts), Context("input"))], each=True)
                for said, more in zip(verdicts, judged, strict=True):
                    said += more.verdicts
        for said in verdicts:
            note(exchange, "moderation", said)
        checks = [rule.check.name for rule in policy.rules]
        checks += [rule.check.name for rule in policy.judges.rules] if policy.judges is not None else ()
        results = [_result(said, checks) for said in verdicts]
        told = {"id": f"modr-{secrets.token_hex(12)}", "model": request.model, "results": results}
        return PlainAnswer(Chunk(JSON.encode(told)))


def _texts(request: Request) -> list[str]:
    texts: list[str] = []
    for message in request.messages:
        content = message["content"]
        if isinstance(content, str):
            texts.append(content)
            continue
        for order, part in enumerate(content):
            if part["type"] != "text":
                raise BadRequest("These guardrails read text, no pictures.", param=f"input[{order}]")
        texts.append("\n".join(part["text"] for part in content))
    return texts


def _result(verdicts: Sequence[Verdict], checks: Sequence[str]) -> dict[str, Any]:
    scores = dict.fromkeys(checks, 0.0)
    for verdict in verdicts:
        for finding in verdict.findings:
            for category in (verdict.check, f"{verdict.check}/{finding.kind}"):
                scores[category] = max(scores.get(category, 0.0), finding.score)
    return {
        "flagged": any(verdict.findings and verdict.would is None for verdict in verdicts),
        "categories": {category: score > 0 for category, score in scores.items()},
        "category_scores": scores,
        "category_applied_input_types": {category: ["text"] for category in scores},
    }
