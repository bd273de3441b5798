"""Rules over a text, whole or streamed: one algorithm for both, so that they can't disagree.

A stream's text is released run by run (see `runs`): a run leaves once every check has seen it whole. What a check
would have masked or blocked, had it seen the whole text, is therefore never out before its verdict. Cost is linear:
each character is looked at once by each check, a part of those in very long runs twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Protocol

from guardrails.json_text import JsonPlace, Unescaped
from guardrails.judging import Judges
from guardrails.masks import masked
from guardrails.pseudonyms import Pseudonyms
from guardrails.rules import Terms, sampled
from guardrails.runs import Run, Runs
from guardrails.times import Times
from guardrails.verdicts import Action, Finding, Screened, Verdict

_TOKEN = re.compile(r"[\w.+/=~%-]*")
_SEAMS = " \t\r\n\"'`,;<>()[]{}|\\"  # characters that no secret contains
_KEY_END = re.compile(r"-----END[A-Z0-9 ]{0,40}KEY-----")
_KEY_END_IN_JSON = re.compile(r'-----END[A-Z0-9 ]{0,40}KEY-----|(?=")')  # no string goes on behind its quote
_LONGEST_KEY = 20_000  # characters after which a private key that never ends is taken to have ended


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
class Rule(Terms):
    """What is done about what one check of runs finds."""

    check: Check
    action: Action


class Policy:
    """Rules of both kinds: over runs (`rules`), and over whole texts (`judges`, None where there are none).

    `version` changes whenever the same text might be judged otherwise; it belongs into cache keys.
    """

    def __init__(self, rules: Sequence[Rule], judges: Judges | None = None) -> None:
        self.rules = tuple(rules)
        self.judges = judges
        told = [f"{rule.check.name} {rule.check.version} {rule.action} {rule.terms}" for rule in self.rules]
        told.append(judges.version if judges is not None else "")
        self.version = hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]
        self.pseudonymises = any(rule.action == "pseudonymise" for rule in self.rules)
        self._sampled = any(rule.sample < 1 for rule in self.rules)

    def with_rules_of(self, other: Policy) -> Policy:
        """Both policies' rules: whatever either of them stops is stopped."""
        mine, theirs = self.judges, other.judges
        judges = mine.beside(theirs) if mine is not None and theirs is not None else mine or theirs
        return Policy([*self.rules, *other.rules], judges)

    def for_call(self, call_id: str) -> Policy:
        """The rules that look at this call: all but those whose sample it is not in."""
        judges = self.judges.for_call(call_id) if self.judges is not None else None
        if not self._sampled and judges is self.judges:
            return self
        rules = [rule for order, rule in enumerate(self.rules) if sampled(rule, call_id, order)]
        return Policy(rules, judges)

    def screen(self, text: str, pseudonyms: Pseudonyms | None = None, *, in_json: bool = False) -> Screened:
        """What the rules over runs make of a text. `pseudonyms` are the call's, where a rule asks for them.

        `in_json`: the text is JSON, and is still JSON once it is masked.
        """
        stream = StreamScreen(self.rules, pseudonyms, in_json=in_json)
        told = stream.feed(text) + stream.finish()
        return Screened(told, stream.verdicts, told != text)

    def stream(self, *, in_json: bool = False) -> StreamScreen:
        return StreamScreen(self.rules, in_json=in_json)


class StreamScreen:
    """One text on its way. What `feed` and `finish` return may leave; after `blocked`, nothing more does."""

    def __init__(self, rules: Sequence[Rule], pseudonyms: Pseudonyms | None = None, *, in_json: bool = False) -> None:
        self._rules = rules
        self._pseudonyms = pseudonyms
        self._json = JsonPlace() if in_json else None
        self._unescaped = Unescaped() if in_json else None
        self._key_end = _KEY_END_IN_JSON if in_json else _KEY_END
        self._runs = Runs()
        self._findings: list[list[Finding]] = [[] for _ in rules]
        # To see that a run is not worth looking into takes next to no time, and is not measured.
        self._times = Times(rules)
        self._key: tuple[int, Finding] | None = None  # (rule, finding) of a private key that has not ended
        self._rest_masked = False  # the rest of a masked word that was too long for one run is left out
        self.blocked = False

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each rule, on what has been seen so far."""
        return tuple(
            rule.verdict(rule.check, rule.action, tuple(found))
            for rule, found in zip(self._rules, self._findings, strict=True)
        )

    def feed(self, text: str) -> str:
        """The text that may leave now. `text` may be cut anywhere."""
        if self.blocked:
            return ""
        self._runs.feed(text if self._unescaped is None else self._unescaped.feed(text))
        return self._drain()

    def finish(self) -> str:
        """The rest, once no more text will come."""
        if self.blocked:
            return ""
        if self._unescaped is not None and (rest := self._unescaped.finish()):
            self._runs.feed(rest)
        self._runs.end()
        told = self._drain()
        self._times.tell()
        return told

    def _drain(self) -> str:
        out: list[str] = []
        while not self.blocked:
            space = self._runs.space()
            if space:
                self._rest_masked = False
                if self._key is None:
                    out.append(space)
            run = self._runs.take()
            if run is None:
                break
            if self._key is not None:
                self._skip_key(run)
            elif self._rest_masked:
                self._skip_rest(run)
            else:
                out.append(self._judge(run))
        return "".join(out)

    def _judge(self, run: Run) -> str:
        text = run.text
        found = self._find(text)
        cut = len(text) if run.whole else _where_to_cut(run, [finding for _, finding in found])
        self._runs.give_back(len(text) - cut)
        spans: list[tuple[int, int, str]] = []
        for order, finding in found:
            if finding.start >= cut:
                continue  # found again, with what follows
            rule = self._rules[order]
            placed = Finding(finding.kind, run.start + finding.start, run.start + min(finding.end, cut), finding.score)
            self._findings[order].append(placed)
            if rule.monitor:
                continue
            if rule.action == "block":
                self.blocked = True
                self._times.tell()
                return ""
            if rule.action == "pseudonymise" and self._pseudonyms is not None:
                value = text[finding.start : finding.end]
                spans.append((finding.start, finding.end, self._pseudonyms.of(finding.kind, value)))
            elif rule.action in ("mask", "pseudonymise"):
                spans.append((finding.start, finding.end, rule.check.mask(finding.kind)))
                if self._key is None and _is_open(finding, text):
                    self._key = (order, placed)
        self._rest_masked = not run.whole and self._key is None and any(end == len(text) for _, end, _ in spans)
        if self._json is not None:
            spans = self._json.fit(text[:cut], spans)
        return masked(text[:cut], spans)

    def _find(self, text: str) -> list[tuple[int, Finding]]:
        """What every rule finds; a private key that is masked reaches to its END line, or beyond the run."""
        found: list[tuple[int, Finding]] = []
        for order, rule in enumerate(self._rules):
            if not rule.check.worth(text):
                continue
            began = perf_counter_ns()
            in_run = rule.check.find(text)
            self._times.spent[order] += perf_counter_ns() - began
            for finding in in_run:
                if finding.score < rule.threshold:
                    continue
                if finding.kind == PRIVATE_KEY and rule.action == "mask" and not rule.monitor:
                    closed = self._key_end.search(text, finding.end)
                    end = closed.end() if closed else len(text)
                    finding = Finding(finding.kind, finding.start, end, finding.score)
                found.append((order, finding))
        return found

    def _skip_key(self, run: Run) -> None:
        """Leave out what belongs to a private key: up to and with its END line."""
        assert self._key is not None
        order, key = self._key
        closed = self._key_end.search(run.text)
        stop = closed.end() if closed else len(run.text) - run.overlap
        self._runs.give_back(len(run.text) - stop)
        longer = Finding(key.kind, key.start, run.start + stop, key.score)
        found = self._findings[order]
        found[found.index(key)] = longer
        self._key = None if closed or longer.end - key.start > _LONGEST_KEY else (order, longer)

    def _skip_rest(self, run: Run) -> None:
        """Leave out what goes on from a masked word of the run before."""
        rest = _TOKEN.match(run.text)
        stop = rest.end() if rest else 0
        self._runs.give_back(len(run.text) - stop)
        self._rest_masked = stop == len(run.text) and not run.whole


def _is_open(finding: Finding, text: str) -> bool:
    """Whether this is a private key whose END line is not in `text`."""
    return finding.kind == PRIVATE_KEY and finding.end == len(text) and not _KEY_END.search(text, finding.start)


def _where_to_cut(run: Run, found: list[Finding]) -> int:
    """How much of a run that goes on can be decided now: nothing that is found is cut in two.

    Between two words of a program's output ("a":"b") rather than inside one, so that what would need more than the
    overlap to be recognised is not cut either.
    """
    limit = len(run.text) - run.overlap
    cut = max(run.text.rfind(seam, 0, limit) for seam in _SEAMS) + 1 or limit
    reached = 0  # where the findings that overlap each other end
    begin = 0
    for finding in sorted(found, key=lambda finding: finding.start):
        if finding.start >= reached:
            begin = finding.start
            if begin >= cut:
                break
        reached = max(reached, finding.end)
        if begin < cut < reached:
            if begin > 0:
                return begin
            if _is_open(finding, run.text):
                return limit  # the END line may be cut in two
            cut = reached
    return cut
