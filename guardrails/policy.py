"""Rules over a text, whole or streamed: one algorithm for both, so that they can't disagree.

A stream's text is released run by run (see `runs`): a run leaves once every check has seen it whole. What a check
would have masked or blocked, had it seen the whole text, is therefore never out before its verdict. Cost is linear:
each character is looked at once by each check, a few of very long runs twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from guardrails.runs import LONGEST, Run, Runs
from guardrails.verdicts import Action, Finding, Screened, Verdict

_OVERLAP = 512  # characters of a run that is not whole, looked at again with what follows
_KEY_END = re.compile(r"-----END[A-Z0-9 ]{0,40}KEY-----")
_LONGEST_KEY = 20_000  # characters after which a private key that never ends is taken to have ended
_STRENGTH = {"allow": 0, "flag": 1, "mask": 2, "block": 3}


class Check(Protocol):
    """Looks for one family of things in a run of text.

    `find` is given runs, not sentences: a match must not need more white space than a run may hold.
    `worth` says cheaply whether a run could hold anything at all.
    """

    name: str
    version: str
    default_action: Action

    def worth(self, run: str) -> bool:
        """False only where `find` would find nothing."""

    def find(self, run: str) -> list[Finding]:
        """What is in `run`, positions counted from its beginning."""

    def mask(self, kind: str) -> str:
        """What stands in the place of a finding of this kind."""


PRIVATE_KEY = "private_key"
"""A finding of this kind is the head of a key: what follows belongs to it, up to its END line."""


@dataclass(frozen=True, slots=True)
class Rule:
    check: Check
    action: Action


class Policy:
    """`version` changes whenever the same text might be judged otherwise; it belongs into cache keys."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        told = "\0".join(f"{rule.check.name} {rule.check.version} {rule.action}" for rule in self.rules)
        self.version = hashlib.sha256(told.encode()).hexdigest()[:16]

    def screen(self, text: str) -> Screened:
        stream = self.stream()
        told = stream.feed(text) + stream.finish()
        return Screened(told, stream.verdicts, told != text)

    def stream(self) -> StreamScreen:
        return StreamScreen(self.rules)


class StreamScreen:
    """One text on its way. What `feed` and `finish` return may leave; after `blocked`, nothing more does."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._runs = Runs()
        self._findings: list[list[Finding]] = [[] for _ in rules]
        self._key: tuple[int, Finding] | None = None  # (rule, head) of a private key that has not ended
        self._masked_word = False  # the rest of a masked word that was too long for one run is left out
        self.blocked = False

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each rule, on what has been seen so far."""
        return tuple(
            Verdict(rule.check.name, rule.action if found else "allow", tuple(found), rule.check.version)
            for rule, found in zip(self._rules, self._findings, strict=True)
        )

    def feed(self, text: str) -> str:
        """The text that may leave now. `text` may be cut anywhere."""
        if self.blocked:
            return ""
        self._runs.feed(text)
        return self._drain()

    def finish(self) -> str:
        """The rest, once no more text will come."""
        if self.blocked:
            return ""
        self._runs.end()
        return self._drain()

    def _drain(self) -> str:
        out: list[str] = []
        while not self.blocked:
            space = self._runs.space()
            if space:
                self._masked_word = False
                if self._key is None or self._rules[self._key[0]].action == "flag":
                    out.append(space)
            run = self._runs.take()
            if run is None:
                break
            out.append(self._in_key(run) if self._key is not None else self._judge(run))
        return "".join(out)

    def _judge(self, run: Run) -> str:
        found = self._find(run.text)
        text, cut, rest_masked = run.text, len(run.text), False
        if not run.whole:
            cut, rest_masked = _where_to_cut(found)
            self._runs.give_back(len(text) - cut)
        spans: list[tuple[int, int, str]] = []
        for order, finding in found:
            if finding.start >= cut:
                continue  # found again, whole, with what follows
            rule = self._rules[order]
            placed = Finding(finding.kind, run.start + finding.start, run.start + finding.end, finding.score)
            if finding.kind == PRIVATE_KEY and self._key is None:
                self._key = (order, placed)
                if rule.action != "flag":
                    cut_key = finding.start
                    spans.append((cut_key, len(text), rule.check.mask(finding.kind)))
            else:
                spans += [(finding.start, finding.end, rule.check.mask(finding.kind))] if rule.action == "mask" else []
            self._findings[order].append(placed)
            if rule.action == "block":
                self.blocked = True
                return ""
        if self._masked_word:
            spans.append((0, cut, ""))
        self._masked_word = rest_masked and bool(spans)
        return _masked(text[:cut], spans)

    def _find(self, text: str) -> list[tuple[int, Finding]]:
        return [
            (order, finding)
            for order, rule in enumerate(self._rules)
            if rule.check.worth(text)
            for finding in rule.check.find(text)
        ]

    def _in_key(self, run: Run) -> str:
        """A run inside a private key: left out, up to and with the END line."""
        assert self._key is not None
        order, head = self._key
        end = run.start + len(run.text)
        closed = _KEY_END.search(run.text)
        text = run.text if self._rules[order].action == "flag" else ""
        if closed or end - head.start > _LONGEST_KEY:
            stop = run.start + closed.end() if closed else end
            found = self._findings[order]
            found[found.index(head)] = Finding(head.kind, head.start, stop, head.score)
            self._key = None
            if closed and run.whole and not text:
                return run.text[closed.end() :]
        return text


def _where_to_cut(found: list[tuple[int, Finding]]) -> tuple[int, bool]:
    """How much of a run that is not whole can be decided now, and whether what follows is masked with it."""
    cut = LONGEST - _OVERLAP
    for _, finding in sorted(found, key=lambda entry: entry[1].start):
        if finding.start < cut < finding.end:
            if finding.start > 0:
                return finding.start, False
            return (finding.end, finding.end == LONGEST)
    return cut, False


def _masked(text: str, spans: list[tuple[int, int, str]]) -> str:
    """`text` with its spans replaced; where they overlap, the first and longest one names the whole."""
    if not spans:
        return text
    out: list[str] = []
    at = 0
    for start, end, mask in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
        if start >= at:
            out += (text[at:start], mask)
            at = end
        elif end > at:
            at = end
    out.append(text[at:])
    return "".join(out)
