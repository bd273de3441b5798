"""Two runs of a call, compared."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.replay.outcomes import Differences, Run
from gateway.replay.stored import StoredCall

if TYPE_CHECKING:
    from gateway.exchange import Exchange

_SENTENCE = re.compile(r"(?<=[.!?])[ \t]+")
_MASKS = ("mask", "pseudonymise")
_IN = ("input", "passages")


def run_then(call: StoredCall) -> Run:
    """The call as its record tells it."""
    record = call.record
    usage, error = record.get("usage") or {}, record.get("error") or {}
    return Run(
        call_id=call.id,
        answer=call.answer,
        outcome=record["outcome"],
        error=_error(error.get("code"), error.get("message")),
        target=call.target,
        template=call.template,
        passages=tuple(f"{p['section_id']} ({p['version']})" for p in call.passages),
        verdicts=tuple(_verdict(v["stage"], v["check"], v["action"], (f["kind"] for f in v["findings"]))
                       for v in record.get("guardrails") or ()),
        finish_reason=record.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        cost=record.get("cost"),
        ms=record["timings"]["total_ms"],
    )  # fmt: skip


def run_again(exchange: Exchange, answer: str | None) -> Run:
    """A call that has just ended."""
    usage = exchange.usage
    return Run(
        call_id=exchange.call_id,
        answer=answer,
        outcome=exchange.outcome,
        error=_error(exchange.error_code, exchange.error_message),
        target=exchange.target.label if exchange.target is not None else None,
        template=exchange.template,
        passages=tuple(f"{p.section_id} ({p.version})" for p in exchange.passages),
        verdicts=tuple(_verdict(stage, v.check, v.action, (f.kind for f in v.findings))
                       for stage, v in exchange.verdicts),
        finish_reason=exchange.finish_reason,
        prompt_tokens=usage.prompt_tokens if usage is not None else None,
        completion_tokens=usage.completion_tokens if usage is not None else None,
        cost=exchange.cost,
        ms=(exchange.ended - exchange.started) / 1e6,
    )  # fmt: skip


def compared(then: Run, again: Run) -> Differences:
    """What masked the caller's words is not missed: it is their masked form that was kept, and run again."""
    gained, lost = _moved(then.verdicts, again.verdicts)
    passages_gained, passages_lost = _moved(then.passages, again.passages)
    return Differences(
        text=unified(then.answer or "", again.answer or ""),
        passages_gained=passages_gained,
        passages_lost=passages_lost,
        verdicts_gained=gained,
        verdicts_lost=tuple(verdict for verdict in lost if not _has_masked(verdict)),
        outcome=(then.outcome, again.outcome) if then.outcome != again.outcome else None,
    )


def unified(then: str, again: str) -> str:
    """A unified diff by sentences, "" where both are the same but for blanks."""
    before, after = _sentences(then), _sentences(again)
    if before == after:
        return ""
    return "\n".join(difflib.unified_diff(before, after, "then", "again", lineterm="", n=1))


def _sentences(text: str) -> list[str]:
    return [part.strip() for line in text.splitlines() for part in _SENTENCE.split(line) if part.strip()]


def _moved(then: Sequence[str], again: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(gained, lost), in their order; what comes twice counts twice."""
    before, after = Counter(then), Counter(again)
    return tuple((after - before).elements()), tuple((before - after).elements())


def _has_masked(verdict: str) -> bool:
    stage, _, action, *_ = verdict.split(" ", 3)
    return stage in _IN and action in _MASKS


def _verdict(stage: str, check: str, action: str, kinds: Iterable[str]) -> str:
    return " ".join(part for part in (stage, check, action, ",".join(sorted(set(kinds)))) if part)


def _error(code: str | None, message: Any) -> str | None:
    return None if code is None else f"{code}: {message}" if message else code


def summary(runs: Sequence[Run]) -> Mapping[str, float | None]:
    """Sums and the median of some runs: what they cost (USD), and how long they took (ms)."""
    from statistics import median

    costs = [run.cost for run in runs if run.cost is not None]
    return {
        "cost": sum(costs) if costs else None,
        "p50_ms": median(run.ms for run in runs) if runs else None,
        "completion_tokens": sum(run.completion_tokens or 0 for run in runs),
    }
