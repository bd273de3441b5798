"""Checks of whole texts on a text that comes in pieces: what is certain leaves, masked or up to where it is stopped.

A text is judged so whether it comes whole or cut anywhere; what is found depends on the text alone (see `Flow`), and it
is acted on in the order in which it stands there. Cost is linear.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter_ns

from guardrails.masks import mask_of
from guardrails.rules import TextRule
from guardrails.text_checks import Context, Flow, FlowingCheck
from guardrails.times import Times
from guardrails.verdicts import Finding, Verdict

log = logging.getLogger(__name__)

_MOST = 4_000  # findings of one text that are told

_Placed = tuple[int, int, str, int, Finding]
"""Start, end backwards, what stands in its place, the rule's number, the finding: in the order they are acted on."""


class TextFlow:
    """One text on its way past rules that all `flows`. What `feed` and `finish` return may leave; once `stopped`, nothing
    more does."""

    def __init__(self, rules: Sequence[TextRule], context: Context) -> None:
        self._rules = rules
        self._flows: dict[int, Flow] = {}
        for order, rule in enumerate(rules):
            assert isinstance(rule.check, FlowingCheck)
            self._flows[order] = rule.check.flow(context)
        self._certain = dict.fromkeys(self._flows, 0)
        self._away: dict[int, str] = {}
        self._found: list[list[Finding]] = [[] for _ in rules]
        self._times = Times(rules)
        self._pending: set[_Placed] = set()
        self._held: list[str] = []  # from `_begin` on, what has not left
        self._begin = 0
        self._told = 0
        self._masked = 0  # what stands before is masked
        self.stopped = False

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each rule, on what has been seen so far."""
        return tuple(
            rule.unavailable(self._away[order]) if order in self._away else rule.judged(tuple(self._found[order]))
            for order, rule in enumerate(self._rules)
        )

    def feed(self, text: str) -> str:
        """The text that may leave now. `text` may be cut anywhere."""
        if self.stopped:
            return ""
        self._held.append(text)
        self._told += len(text)
        for order, flow in list(self._flows.items()):
            began = perf_counter_ns()
            try:
                self._certain[order], found = flow.feed(text)
            except Exception as failure:
                self._lose(order, failure)
            else:
                self._place(order, found)
            self._times.spent[order] += perf_counter_ns() - began
        leaves = self._leave(min(self._certain.values(), default=self._told))
        if self.stopped:
            self._times.tell()
        return leaves

    def finish(self) -> str:
        """The rest, once no more text will come."""
        if self.stopped:
            return ""
        for order, flow in list(self._flows.items()):
            began = perf_counter_ns()
            try:
                found = flow.finish()
            except Exception as failure:
                self._lose(order, failure)
            else:
                self._place(order, found)
            self._times.spent[order] += perf_counter_ns() - began
        leaves = self._leave(self._told + 1)
        self._times.tell()
        return leaves

    def _place(self, order: int, found: Sequence[Finding]) -> None:
        rule = self._rules[order]
        for each in found:
            if each.score >= rule.threshold:
                self._pending.add((each.start, -each.end, mask_of(rule.check.name, each.kind), order, each))

    def _lose(self, order: int, failure: Exception) -> None:
        """Whoever wrote the check may have put the text into its error; its type says enough."""
        rule = self._rules[order]
        del self._flows[order], self._certain[order]
        self._away[order] = why = f"it failed with {type(failure).__name__}"
        log.warning("guardrail %s could not judge: %s", rule.check.name, why)
        self.stopped |= rule.closed

    def _leave(self, limit: int) -> str:
        """What stands before `limit`, where it is certain what begins before it."""
        if self.stopped or limit <= self._begin:
            return ""
        due = sorted(each for each in self._pending if each[0] < limit) if self._pending else []
        end = min(limit, self._told)
        for start, _, _, order, _ in due:
            if self._rules[order].action == "block":
                self.stopped, end = True, start
                break
        held = "".join(self._held)
        out: list[str] = []
        at = max(self._begin, self._masked)
        for start, back, mask, order, finding in due:
            if self.stopped and start > end:
                break
            if len(self._found[order]) < _MOST:
                self._found[order].append(finding)
            if self._rules[order].action != "mask" or (self.stopped and start == end):
                continue
            if start >= at:
                out += (held[at - self._begin : start - self._begin], mask)
                at = -back
            else:
                at = max(at, -back)
        if at < end:
            out.append(held[at - self._begin : end - self._begin])
        self._pending.difference_update(due)
        self._masked = max(self._masked, at)
        rest = held[end - self._begin :]
        self._held = [rest] if rest else []
        self._begin = end
        return "".join(out)
