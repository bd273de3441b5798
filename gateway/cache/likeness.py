"""Whether two questions that look alike ask the same: what a similarity of vectors does not tell.

Embeddings put "flights from Rome to Oslo" beside "flights from Oslo to Rome", 2024 beside 2025, and a question beside
its negation. So two questions have to say the same word for word where it matters, whatever their vectors say; what
may differ is how they are put. The rules know English; of another language they let through other punctuation and
capitals only. docs/semantic-caching.md has what each rule costs and spares on public question pairs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from gateway.cache.wording import (
    AUXILIARIES,
    DIRECTIONS,
    FURNITURE,
    IS,
    LANGUAGES,
    LEADS,
    MARKERS,
    MODALS,
    MONTHS,
    NEGATIONS,
    NUMBER_WORDS,
    PAST,
    PERSONS,
    PLACES,
    QUESTIONS,
    SAME,
    SHORT_NAMES,
    SILENT,
    THIRD_PERSONS,
    UNCHANGED,
)

Difference = Literal[
    "language", "quoted", "numbers", "symbols", "names", "negation", "question", "direction", "words", "order"
]

_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|„([^“”]+)[“”]|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
_WORD = re.compile(r"[-+]?\.?\d+(?:[.,:/-]\d+)*\w*|\w+(?:'\w+)*[+#]*", re.UNICODE)
_ALONE = re.compile(r"(?<!\S)[-/\\.:](?!\S)")  # a sign rather than a mark
_SENTENCE_ENDS = frozenset(".?!:")
_PLAIN_MARKS = frozenset(".?!,;:'\"()[]{}-_`…“”„«»‘’–—/\\")  # typographic marks are meant
_WRITTEN = str.maketrans({"’": "'", "&": " and ", "–": "-", "—": "-"})
_LONGEST_READ = 4_000  # characters


@dataclass(frozen=True, slots=True)
class Reading:
    """What a question says, part by part.

    `told` is what is left when how it is put was taken away; `words` are those of it that say something, in order.
    """

    plain: tuple[str, ...]
    language: str
    quoted: tuple[str, ...]
    numbers: tuple[str, ...]
    symbols: tuple[str, ...]
    names: frozenset[str]
    negations: tuple[str, ...]
    asks: tuple[str, ...]
    markers: tuple[str, ...]
    directions: tuple[tuple[str, str], ...]
    places: tuple[tuple[str, str], ...]
    told: tuple[str, ...]
    words: tuple[str, ...]


def difference(asked: str, known: str) -> Difference | None:
    """What tells two questions apart that are alike as vectors; None where nothing does."""
    if max(len(asked), len(known)) > _LONGEST_READ:
        return None if asked == known else "words"
    one, other = reading(asked), reading(known)
    if one.plain == other.plain and one.symbols == other.symbols:
        return None
    if one.language != other.language or one.language != "en":
        return "language"
    if one.quoted != other.quoted:
        return "quoted"
    if one.numbers != other.numbers:
        return "numbers"
    if one.symbols != other.symbols:
        return "symbols"
    if not (one.names <= set(other.plain) and other.names <= set(one.plain)):
        return "names"
    if not _same_words(one.negations, other.negations):
        return "negation"
    if one.asks != other.asks or one.markers != other.markers:
        return "question"
    if _turned(one, other):
        return "direction"
    return _words_apart(one, other)


@lru_cache(2_048)
def reading(text: str) -> Reading:
    """How `text` is read; the same for a text that is written in other typographic marks."""
    text = unicodedata.normalize("NFKC", text).translate(_WRITTEN)
    quoted = tuple(" ".join(next(filter(None, found.groups())).casefold().split()) for found in _QUOTED.finditer(text))
    found = list(_WORD.finditer(text))
    shouted = text.isupper()
    said = [_said(match[0], shouted=shouted) for match in found]
    plain = tuple(word.removesuffix("'s") for word in said)
    apart = _apart(said)
    if apart[-2:] == ["or", "not"]:
        del apart[-2:]
    put = LEADS.sub(" ", " ".join(apart))
    asks: list[str] = []
    for pattern, kind in QUESTIONS:
        asks += [kind or match[0] for match in pattern.finditer(put)]
        put = pattern.sub(" ", put)
    told = FURNITURE.sub(" ", " ".join(put.split())).split()
    return Reading(
        plain=plain,
        language=_language(text, plain),
        quoted=quoted,
        numbers=_numbers(plain),
        symbols=(*(mark for mark in text if _is_symbol(mark)), *_ALONE.findall(text)),
        names=frozenset(word for word, match in zip(plain, found, strict=True) if _is_name(text, match)),
        negations=tuple(_next(told, place) for place, word in enumerate(told) if word in NEGATIONS),
        asks=tuple(sorted(asks)) or ("yes or no" if told and told[0] in AUXILIARIES else "",),
        markers=_markers(apart, told, asks),
        directions=tuple((DIRECTIONS[word], _next(told, at)) for at, word in enumerate(told) if word in DIRECTIONS),
        places=tuple((PLACES[word], _next(told, at)) for at, word in enumerate(told) if word in PLACES),
        told=tuple(told),
        words=tuple(word for word in told if word not in SILENT and not _says_number(word)),
    )


# --- reading ------------------------------------------------------------------------------------------
def _said(word: str, *, shouted: bool) -> str:
    """In small letters, but for what then would be another word: US, IT, WHO."""
    plain = word.casefold().strip("_")
    return word if word.isupper() and not shouted and plain in SHORT_NAMES else plain


def _apart(said: Iterable[str]) -> list[str]:
    """Contractions as the words that they are made of."""
    told: list[str] = []
    for word in said:
        if word.endswith("n't"):
            told += ["can", "not"] if word == "can't" else [word[:-3], "not"]
        elif word == "cannot":
            told += ["can", "not"]
        else:
            first, _, ending = word.partition("'")
            told.append(first)
            if ending and ending != "s":
                told += ending.split("'")
            elif ending and first in IS:
                told.append("is")
    return told


def _is_name(text: str, match: re.Match[str]) -> bool:
    """Capitalised inside a sentence, or in capitals (of two letters at least) anywhere."""
    word = match[0]
    if not word[0].isupper() or word == "I" or word.startswith("I'"):
        return False
    if len(word) > 1 and word.isupper():
        return True
    before = text[: match.start()].rstrip().rstrip("\"'“‘(„«")  # typographic marks are meant
    return bool(before) and before[-1] not in _SENTENCE_ENDS


def _is_symbol(mark: str) -> bool:
    return (
        not mark.isspace()
        and not mark.isalnum()
        and mark not in _PLAIN_MARKS
        and unicodedata.category(mark)[0] not in "MC"
    )


def _language(text: str, plain: Sequence[str]) -> str:
    """A two-letter code, or the name of a script that is not Latin."""
    for mark in text:
        if mark.isalpha() and not mark.isascii():
            script = unicodedata.name(mark, "?").partition(" ")[0]
            if script != "LATIN":
                return script
    said = set(plain)
    told = {code: len(said & words) for code, words in LANGUAGES.items()}
    likely = max(told, key=lambda code: told[code])
    return likely if told[likely] >= 2 else "en"


def _says_number(word: str) -> bool:
    return any(mark.isdigit() for mark in word) or word in NUMBER_WORDS or (word in MONTHS and word not in MODALS)


def _numbers(plain: Iterable[str]) -> tuple[str, ...]:
    """Figures, and what stands for them, in their order."""
    return tuple(NUMBER_WORDS.get(word, word.replace(",", "")) for word in plain if _says_number(word))


def _markers(apart: Sequence[str], told: Sequence[str], asks: Sequence[str]) -> tuple[str, ...]:
    """Time, person and mood, as far as they change what is asked."""
    marks = ["past"] * _in_the_past(apart) + sorted(word for word in apart if word in MARKERS)
    if "how" not in asks:  # "how do I", "how can you", "what should one do to": the same
        marks += sorted({PERSONS[word] for word in told if word in PERSONS})
        marks += sorted({MODALS[word] for word in apart if word in MODALS})
    return (*marks, *(THIRD_PERSONS[word] for word in apart if word in THIRD_PERSONS))


def _in_the_past(apart: Sequence[str]) -> bool:
    """By its auxiliary; where it has none, by the ending of a verb: beside another one that is a participle."""
    if any(word in PAST for word in apart):
        return True
    return AUXILIARIES.isdisjoint(apart) and any(
        word.endswith("ed") and len(word) > 4 and word not in UNCHANGED for word in apart
    )


def _next(told: Sequence[str], place: int) -> str:
    """The next word that says something."""
    return next((word for word in told[place + 1 :] if word not in SILENT), "")


def _turned(one: Reading, other: Reading) -> bool:
    """Whether something is said of a word in one question that is not said of it in the other."""
    return (
        any(not _says(other.directions, way, word) for way, word in one.directions)
        or any(not _says(one.directions, way, word) for way, word in other.directions)
        or any(_places(other, word) not in (set(), _places(one, word)) for _, word in one.places)
    )


def _places(one: Reading, word: str) -> set[str]:
    return {place for place, known in one.places if _same_word(word, known)}


def _says(ways: Sequence[tuple[str, str]], way: str, word: str) -> bool:
    return any(way == known and _same_word(word, each) for known, each in ways)


def _words_apart(one: Reading, other: Reading) -> Difference | None:
    if not one.words and not other.words:  # "What is it?" and "What does it do?"
        return None if one.told == other.told else "words"
    if _same_words(one.words, other.words):
        return None
    rest = list(other.words)
    for word in one.words:
        found = next((each for each in rest if _same_word(word, each)), None)
        if found is None:
            return "words"
        rest.remove(found)
    if rest:
        return "words"
    # "The difference between A and B" has no order; anything longer may have.
    free = "between" in one.markers and len(one.words) <= 4 and any(_same_word("difference", w) for w in one.words)
    return None if free else "order"


def _same_words(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == len(other) and all(map(_same_word, one, other))


def _same_word(one: str, other: str) -> bool:
    return one == other or not _forms(one).isdisjoint(_forms(other))


@lru_cache(8_192)
def _forms(word: str) -> frozenset[str]:
    """What this may be an inflection of."""
    forms = {word}
    if word in UNCHANGED or len(word) < 4:
        return frozenset((SAME.get(word, word),))
    if word.endswith("ies") and len(word) > 4:
        forms.add(word[:-3] + "y")
    elif word.endswith(("ses", "xes", "ches", "shes", "zes")):
        forms |= {word[:-2], word[:-1]}
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        forms.add(word[:-1])
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3:
            forms.add(stem + "e")
            if stem[-1] == stem[-2]:
                forms.add(stem[:-1])
            if len(stem) >= 4:
                forms.add(stem)
            if stem.endswith("i"):
                forms.add(stem[:-1] + "y")
    return frozenset(SAME.get(form, form) for form in forms)
