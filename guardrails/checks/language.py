"""Which language a text is in, by py3langid (naive Bayes over byte sequences, 97 languages, offline).

https://github.com/adbar/py3langid, BSD-3-Clause. Very short texts have no certain language and are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from guardrails.folding import encodable
from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_READ = 4_000  # characters that are read: more make nothing surer
_FEWEST_LETTERS = 20
_FEWEST_SIGNS = 5  # of a script whose signs are syllables or words
_NONE = "zxx"  # text that is no language
_KIN = {"zh": ("wuu", "yue"), "no": ("nn",), "uz": ("uzs",), "ku": ("sdh",), "ar": ("ary", "arz")}
_NO_WORDS = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\S+@\S+|\b\w*\d\w*\b|<[^>\n]{0,200}>", re.DOTALL)
_LETTER = re.compile(r"[^\W\d_]")
_SIGN = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")


class Language:
    name = "language"
    default_action: Action = "flag"
    cost: Cost = "cheap"

    def __init__(self, allowed: Sequence[str], certainty: float = 0.9) -> None:
        """`allowed` are codes of ISO 639-1. `certainty`: how sure it must be, 0 to 1, that a text is in none of them.

        Raises ValueError for a language that the detector does not know.
        """
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        known = frozenset(self._identifier.labels) - {_NONE}
        if not allowed:
            raise ValueError("`allowed` names at least one language")
        for code in allowed:
            if code not in known:
                raise ValueError(f"there is no language `{code}`; there are {', '.join(sorted(known))}")
        self._allowed = frozenset(allowed).union(*(_KIN.get(code, ()) for code in allowed))
        self._certainty = certainty
        self.version = f"{_RULES} {version('py3langid')} {','.join(sorted(allowed))} {certainty}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """The kind is the language's code, the score how sure it is that the text is in no allowed one."""
        return [self._find(text) for text in texts]

    def _find(self, text: str) -> tuple[Finding, ...]:
        words = encodable(_NO_WORDS.sub(" ", text[: _READ * 2])[:_READ])
        if len(_LETTER.findall(words)) < _FEWEST_LETTERS and len(_SIGN.findall(words)) < _FEWEST_SIGNS:
            return ()
        ranked = self._identifier.rank(words)
        other = 1.0 - sum(probability for code, probability in ranked if code in self._allowed)
        if ranked[0][0] in self._allowed or ranked[0][0] == _NONE or other < self._certainty:
            return ()
        return (Finding(ranked[0][0], 0, len(text), min(1.0, max(0.0, other))),)
