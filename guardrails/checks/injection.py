"""Prompt injection, direct and indirect, and jailbreaks: offline, in the language's own time and no model's.

Three witnesses are heard: the wording (a linear model over n-grams, in windows, so that one sentence within a passage
is seen), signals that can be named (see `injection_signals`), and, where an embedder is given, the meaning of the
most suspicious stretches. A text is also looked at beneath its disguises. The score is 0 to 1; from the default
threshold of 0.5 on, a text counts as an attack. How often that is wrong was measured: `docs/guardrails.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guardrails.checks.injection_disguises import Disguise, disguises
from guardrails.checks.injection_model import Windows, load, meanings_of
from guardrails.checks.injection_signals import FAMILIES, Signal, Signals, rules_version
from guardrails.folding import Folded, fold, tables
from guardrails.outside import Embed
from guardrails.text_checks import CheckUnavailable, Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_NAMED = frozenset(FAMILIES) - {"command"}
_MOST_FINDINGS = 20  # of one text
_DEPTH = 2  # disguises beneath disguises
_MOST_BENEATH = 40  # disguises of one text that are judged
_SENTENCE = 300  # characters to each side in which a sentence's end is looked for
_ENDS = ".!?\n。！？"
_TELLING = 0.9  # the score of a text hidden on purpose
_STRETCH = 700  # characters whose meaning is asked for at once
_MOST_STRETCHES = 4  # of one text
_SURE = 6.0  # log-odds to either side from which no meaning is asked for


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen in one text. `facts` are the witnesses' words in the order of `Trained.verdict`."""

    odds: float  # log-odds of its being an attack, without what stands beneath disguises
    facts: npt.NDArray[np.float32]
    folded: Folded
    windows: tuple[Windows, ...]
    signals: tuple[Signal, ...]


class Injection:
    name = "injection"
    default_action: Action = "block"

    def __init__(self, *, threshold: float = 0.5, embed: Embed | None = None, model: str = "") -> None:
        """`threshold`, 0 to 1: the score from which on a text counts. `embed`: vectors by all-MiniLM-L6-v2, which
        the weights were trained for; `model` names it, for the version. Raises ValueError."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold: {threshold} is not from 0 to 1")
        self.threshold = threshold
        self._embed = embed
        self._trained = load()
        self._signals = Signals()
        tables(True, True)  # made now, so that no call waits for it
        self.cost: Cost = "cheap" if embed is None else "local"
        meaning = f" {model or 'embedder'}" if embed is not None else ""
        self.version = f"{_RULES} {self._trained.version} {rules_version()} {threshold}{meaning}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        looks = [self._look(text) for text in texts]
        odds = [look.odds for look in looks]
        if self._embed is not None:
            odds = await self._with_meaning(looks, self._embed)
        return [self._findings(text, look, one) for text, look, one in zip(texts, looks, odds, strict=True)]

    def _look(self, text: str) -> _Look:
        folded = fold(text, lower=True)
        windows = self._trained.wording.windows(folded.text)
        signals = tuple(self._signals.find(folded.text))
        facts = facts_of(windows, signals, len(folded.text))
        odds = float(facts @ self._trained.verdict) if windows else -math.inf
        return _Look(odds, facts, folded, windows, signals)

    def _findings(self, text: str, look: _Look, odds: float) -> tuple[Finding, ...]:
        score = _sigmoid(odds)
        found: list[Finding] = []
        if score >= self.threshold:
            found += self._named(look, score) or [self._worded(look, score)]
        for disguise, beneath in self._beneath(text, _DEPTH):
            worst = max(beneath, _TELLING if disguise.telling else 0.0)
            if worst >= self.threshold:
                found.append(Finding(f"injection.{disguise.kind}", disguise.start, disguise.end, worst))
        return tuple(sorted(found[:_MOST_FINDINGS], key=lambda finding: (finding.start, -finding.end)))

    def _beneath(self, text: str, depth: int) -> Iterable[tuple[Disguise, float]]:
        """Each disguise with the score of what stands beneath it, or beneath that."""
        for disguise in disguises(text)[:_MOST_BENEATH]:
            look = self._look(disguise.text)
            score = _sigmoid(look.odds)
            if disguise.kind == "obfuscated" and not _says_more(look, text, self._signals):
                continue  # the same words with other digits: nothing was hidden
            if depth > 1 and disguise.kind != "obfuscated":
                score = max([score, *(deeper for _, deeper in self._beneath(disguise.text, depth - 1))])
            yield disguise, score

    def _named(self, look: _Look, score: float) -> list[Finding]:
        """The sentences that bear a mark with a name, once for each name."""
        found: dict[tuple[int, int, str], Finding] = {}
        for signal in look.signals:
            if signal.family in _NAMED:
                start, end = _sentence(look.folded.text, signal.start, signal.end)
                begin, stop = look.folded.span(start, end)
                found.setdefault(
                    (begin, stop, signal.family), Finding(f"injection.{signal.family}", begin, stop, score)
                )
        return list(found.values())

    def _worded(self, look: _Look, score: float) -> Finding:
        """The stretch that reads most like an attack."""
        narrow = look.windows[0]
        worst = int(narrow.logits.argmax())
        begin, stop = look.folded.span(*narrow.span(worst))
        return Finding("injection.wording", begin, stop, score)

    async def _with_meaning(self, looks: Sequence[_Look], embed: Embed) -> list[float]:
        """The log-odds once the meaning of each doubtful text has been asked for."""
        odds = [look.odds for look in looks]
        asked: list[tuple[int, str]] = []
        for number, look in enumerate(looks):
            if look.windows and abs(look.odds) < _SURE:
                asked += [(number, stretch) for stretch in _stretches(look)]
        if not asked:
            return odds
        vectors = np.array(await embed([stretch for _, stretch in asked]), dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] + 1 != len(self._trained.meaning):
            raise CheckUnavailable("the embedder is not all-MiniLM-L6-v2, which the check was trained for")
        said = meanings_of(vectors, self._trained.meaning, self._trained.typical)
        for number in {number for number, _ in asked}:
            mine = said[[one == number for one, _ in asked]].max(axis=0)
            odds[number] = float(np.append(looks[number].facts, mine) @ self._trained.verdict_with_meaning)
        return odds


def facts_of(windows: Sequence[Windows], signals: Iterable[Signal], length: int) -> npt.NDArray[np.float32]:
    """A constant, the narrow and the wide windows' highest log-odds, and each family of signals.

    A family that names an attack counts once; commands by how densely they stand, in tens a thousand characters.
    """
    counts = dict.fromkeys(FAMILIES, 0)
    for signal in signals:
        counts[signal.family] += 1
    marks = [min(1.0, counts[family]) if family in _NAMED else _density(counts[family], length) for family in FAMILIES]
    odds = [max(-8.0, min(8.0, one.highest)) for one in windows] or [-8.0, -8.0]
    return np.array([1.0, *odds, *marks], dtype=np.float32)


def _density(count: int, length: int) -> float:
    return min(1.0, count * 100 / max(400, length))


def _says_more(look: _Look, text: str, signals: Signals) -> bool:
    """Whether a mark with a name shows only once the disguise is off."""
    beneath = {signal.family for signal in look.signals} & _NAMED
    return bool(beneath - {signal.family for signal in signals.find(fold(text, lower=True).text)})


def _stretches(look: _Look) -> list[str]:
    """The most suspicious stretches of a text, and its beginning."""
    text = look.folded.text
    if len(text) <= _STRETCH:
        return [text]
    wide = look.windows[-1]
    worst = np.argsort(-wide.logits)[: _MOST_STRETCHES - 1]
    begins = {0, *(wide.span(int(one))[0] for one in worst)}
    return [text[begin : begin + _STRETCH] for begin in sorted(begins)]


def _sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """The sentence around a stretch, as far as it lies within `_SENTENCE` characters to each side."""
    floor, ceiling = max(0, start - _SENTENCE), min(len(text), end + _SENTENCE)
    begin = max(text.rfind(mark, floor, start) for mark in _ENDS) + 1 or floor
    stops = [at for mark in _ENDS if (at := text.find(mark, max(start, end - 1), ceiling)) >= 0]
    stop = min(stops) + 1 if stops else ceiling
    while begin < start and text[begin].isspace():
        begin += 1
    return begin, max(stop, end)


def _sigmoid(odds: float) -> float:
    if odds < -40:
        return 0.0
    return 1 / (1 + math.exp(-min(odds, 40)))
