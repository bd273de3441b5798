"""The language of a text, by py3langid (naive Bayes over byte sequences, offline); None where it is too short to tell."""

from __future__ import annotations

import re

from py3langid.langid import MODEL_FILE, LanguageIdentifier

_LETTER = re.compile(r"[^\W\d_]")
_FEWEST_LETTERS = 15
_CERTAINTY = 0.8


class Languages:
    def __init__(self) -> None:
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def __call__(self, text: str) -> str | None:
        text = text.encode("utf-8", "replace").decode()
        if len(_LETTER.findall(text)) < _FEWEST_LETTERS:
            return None
        code, probability = self._identifier.classify(text)
        return str(code) if probability >= _CERTAINTY else None
