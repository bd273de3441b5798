"""How good an answer is: its citations, whether its sources say what it says, and whether it says what is accepted.

Cosine similarity finds out whether a source speaks of what a sentence says, not whether both agree: it sees a claim
that is made up, not one that is turned around. A judge model (`retrieval.judging`) reads both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retrieval.answer_match import match
from retrieval.cited_text import CitedText, read

Vectors = NDArray[np.float64]
Embed = Callable[[Sequence[str]], Awaitable[Sequence[ArrayLike]]]

_MARK = re.compile(r"\[(\d{1,2})\]")

MEASURES = (
    "citation_validity", "citation_coverage", "citation_annotation", "citation_support", "document_precision", "document_recall",
    "groundedness", "judged_groundedness", "exact_match", "token_f1", "containment",
)  # fmt: skip


class BadAnswerQuestions(ValueError):
    """The file of questions can't be used; the message says in which line and why."""


@dataclass(frozen=True, slots=True)
class AnswerQuestion:
    """`answers` are those that are accepted, `documents` the ids that should be cited; `line` is where it stands."""

    text: str
    answers: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """What `[n]` names. `text` may be the beginning of the passage only: support can't be found beyond it."""

    document_id: str
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A `url_citation`: where in the answer's text it stands, in characters, and what it points to."""

    start: int
    end: int
    url: str


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What came back: `sources` in the order of their marks, `removed_marks` how many were taken out of the text
    because they named none."""

    text: str
    sources: tuple[Source, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    removed_marks: int = 0

    def read(self) -> CitedText:
        return read(self.text, len(self.sources))

    def is_right(self, annotation: Annotation) -> bool:
        """Whether it stands at a mark, and points to the source which that mark names."""
        mark = _MARK.fullmatch(self.text[annotation.start : annotation.end])
        return (
            mark is not None
            and 1 <= int(mark[1]) <= len(self.sources)
            and self.sources[int(mark[1]) - 1].url == annotation.url
        )


@dataclass(frozen=True, slots=True)
class Mean:
    value: float
    questions: int


def read_answer_questions(file: Path) -> list[AnswerQuestion]:
    """A JSON object a line: `question`; `answers` and `documents`, lists of texts, where known. Raises
    BadAnswerQuestions."""
    questions = []
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except ValueError as error:
            raise BadAnswerQuestions(f"{file}:{number}: is not JSON: {error}") from None
        if not isinstance(given, dict) or not _is_text(given.get("question")):
            raise BadAnswerQuestions(
                f'{file}:{number}: should be like {{"question": "…", "answers": ["…"], "documents": ["…"]}}'
            )
        for name in ("answers", "documents"):
            texts = given.get(name, [])
            if not isinstance(texts, list) or not all(map(_is_text, texts)):
                raise BadAnswerQuestions(f"{file}:{number}: `{name}` is a list of texts, none of them empty")
        answers, documents = given.get("answers", ()), given.get("documents", ())
        questions.append(AnswerQuestion(given["question"], tuple(answers), tuple(documents), number))
    if not questions:
        raise BadAnswerQuestions(f"{file}: holds no question")
    return questions


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadAnswerQuestions(f"{file}: is not UTF-8: {error}") from None


def _is_text(value: Any) -> bool:
    """Half a surrogate pair, which JSON can write, is none: no request could hold it."""
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= char <= "\udfff" for char in value)


async def likeness(answer: GivenAnswer, embed: Embed) -> Vectors:
    """Of each sentence (rows) with each source (columns): the highest cosine similarity, -1 to 1, of the sentence with
    the source as a whole or with one of its sentences. `embed` is asked once, for each different text."""
    sentences = [sentence.text for sentence in answer.read().sentences]
    if not sentences or not answer.sources:
        return np.zeros((len(sentences), len(answer.sources)))
    pieces = [_pieces(source.text) for source in answer.sources]
    texts = list(dict.fromkeys([*sentences, *(piece for of_one in pieces for piece in of_one)]))
    vectors = np.asarray(await embed(texts), dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = dict(zip(texts, vectors / np.where(lengths == 0, 1, lengths), strict=True))
    told = np.stack([unit[sentence] for sentence in sentences])
    columns = [
        (told @ np.stack([unit[piece] for piece in of_one]).T).max(axis=1) if of_one else np.zeros(len(sentences))
        for of_one in pieces
    ]
    return np.stack(columns, axis=1)


def measure(
    question: AnswerQuestion,
    answer: GivenAnswer,
    *,
    likeness: Vectors | None = None,
    threshold: float = 0.0,
    verdicts: Sequence[bool] | None = None,
) -> dict[str, float]:
    """The MEASURES that this answer has ground for, each from 0 to 1.

    `likeness` is that of `likeness()`: from `threshold` on, a sentence counts as supported. `verdicts` are a judge's,
    one for each sentence. An answer without sources has nothing that it could cite, or be grounded in: only its
    documents' recall and its match are measured, and marks that were made up.
    """
    text = answer.read()
    count = len(answer.sources)
    valid = [mark for mark in text.marks if 1 <= mark <= count]
    measured: dict[str, float] = {}
    if marks := len(text.marks) + answer.removed_marks:
        measured["citation_validity"] = len(valid) / marks
    if annotations := max(len(valid), len(answer.annotations)):
        measured["citation_annotation"] = sum(map(answer.is_right, answer.annotations)) / annotations
    cited = [[mark - 1 for mark in sentence.marks if 1 <= mark <= count] for sentence in text.sentences]
    if count and cited:
        measured["citation_coverage"] = _share(map(bool, cited))
        if verdicts is not None:
            measured["judged_groundedness"] = _share(verdicts)
        if likeness is not None:
            measured["groundedness"] = _share(likeness.max(axis=1) >= threshold)
            if any(cited):
                supported = (likeness[row, columns].max() >= threshold for row, columns in enumerate(cited) if columns)
                measured["citation_support"] = _share(supported)
    if question.documents:
        named = {answer.sources[mark - 1].document_id for mark in valid}
        right = len(named.intersection(question.documents))
        measured["document_recall"] = right / len(set(question.documents))
        if named:
            measured["document_precision"] = right / len(named)
    if question.answers:
        found = match(text.plain, question.answers)
        measured |= {"exact_match": found.exact, "token_f1": found.f1, "containment": found.contained}
    return measured


def means(measured: Iterable[Mapping[str, float]]) -> dict[str, Mean]:
    """Each measure's mean over the answers that have it, in the order of MEASURES."""
    values: dict[str, list[float]] = {name: [] for name in MEASURES}
    for of_one in measured:
        for name, value in of_one.items():
            values[name].append(value)
    return {name: Mean(fmean(found), len(found)) for name, found in values.items() if found}


def _pieces(text: str) -> list[str]:
    """What a sentence is compared with: the source as a whole, and its sentences."""
    return (
        list(dict.fromkeys([text.strip(), *(sentence.text for sentence in read(text).sentences)]))
        if text.strip()
        else []
    )


def _share(held: Iterable[bool]) -> float:
    return fmean(float(each) for each in held)
