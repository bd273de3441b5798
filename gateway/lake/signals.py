"""What can be told of a question and an answer without telling either: lengths, languages, refusals, citations."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

_READ = 2_000  # characters that a language, or a refusal, is looked for in
_MARK = re.compile(r"\[(\d{1,2})\]")
# How assistants say that they won't, or don't know, in their first sentences. Languages that a deployment answers in
# and that are not among these are added with `lake.refusals`.
_REFUSALS = (
    r"\bI(?:'m| am) (?:sorry|unable|not able|afraid)\b",
    r"\bI (?:can(?:no|')t|can not|won't|will not|must decline|have to decline|do(?:n't| not) (?:know|have (?:any )?(?:information|enough)))\b",
    r"\bI (?:found|find|have found) nothing\b",
    r"\b(?:does|do|did) not (?:contain|cover|hold|mention|say|provide|include)\b",
    r"\b(?:doesn't|don't|didn't) (?:contain|cover|hold|mention|say|provide|include)\b",
    r"\bno (?:relevant )?(?:information|passage|answer) (?:was |could be )?(?:found|available)\b",
    r"\b(?:Es tut mir leid|Ich kann (?:das|dazu|Ihnen|dir|diese)\b.{0,40}\bnicht|Ich weiß (?:es )?nicht|Dazu (?:habe|finde) ich (?:nichts|keine))",
    r"\b(?:Je suis désolé|Je ne (?:peux|sais|dispose)|Désolé)",
    r"\b(?:Lo siento|No puedo|No (?:lo )?sé\b|No dispongo)",
    r"\b(?:Mi dispiace|Non posso|Non (?:lo )?so\b)",
)

Detect = Callable[[str], str | None]


class Signals:
    """`language` tells the ISO 639-1 code of a text, None where it can't; `refusals` are more phrases of refusals."""

    def __init__(self, language: Detect | None = None, refusals: Collection[str] = ()) -> None:
        self._language = language or (lambda text: None)
        words = [*_REFUSALS, *(rf"(?<!\w){re.escape(phrase)}(?!\w)" for phrase in refusals)]
        self._refusal = re.compile("|".join(words), re.IGNORECASE)

    def of(self, said: Mapping[str, Any] | None, passages: Sequence[int]) -> dict[str, Any]:
        """The columns, all None where nothing of what was said can be read. `passages` are the numbers that were shown."""
        question, answer = question_of(said), (said or {}).get("answer")
        answer = answer if isinstance(answer, str) and answer else None
        cited = {int(mark) for mark in _MARK.findall(answer or "")} & set(passages)
        return {
            "question_chars": None if question is None else len(question),
            "question_language": self._language(question[:_READ]) if question else None,
            "answer_chars": None if answer is None else len(answer),
            "answer_language": self._language(answer[:_READ]) if answer else None,
            "refused": None if answer is None else self._refusal.search(answer[:_READ]) is not None,
            "cited": len(cited) if answer is not None and passages else None,
        }


def question_of(said: Mapping[str, Any] | None) -> str | None:
    """The last user message's text, as it was recorded."""
    for message in reversed((said or {}).get("messages") or ()):
        if isinstance(message, Mapping) and message.get("role") == "user":
            return _text(message.get("content"))
    return None


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "\n".join(part for part in parts if isinstance(part, str)) or None
    return None
