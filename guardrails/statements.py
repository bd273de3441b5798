"""What a text states: its sentences without greetings, questions, code, headings, and "I don't know".

Sentences end where Wikimedia's `sentencex` says, which knows abbreviations and other scripts' full stops; a list item,
a table's row and a paragraph end one too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import re2
import sentencex

from guardrails.folding import encodable

_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)]|>|\|)[ \t]*|^[ \t]*$", re.MULTILINE)
_NO_PROSE = re.compile(r"\s*(?:#{1,6}\s|\[[^\]\n]{1,40}\]:|[|:\-\s=*_]*\Z)")
_LINK = re2.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_MOST_LINKS = 20  # of a sentence that are read for their text
_MARKS = re.compile(r"\s*\[\d{1,3}\]|[*`]{1,3}|\b_{1,3}|_{1,3}\b")
_WORD = re.compile(r"\w[\w'’-]*")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_FEWEST_WORDS = 3
_LONGEST_EMPTY = 400  # characters of a sentence that may claim nothing
_FEWEST_SIGNS = 5  # in scripts without spaces

# Sentences that claim nothing about the matter: politeness, offers, and that something is not known.
_EMPTY = re.compile(
    r"""(?ix)^(?:
      (?:hello|hi|hey|dear|good\ (?:morning|day|evening)|welcome|thank(?:s|\ you)|sure|certainly|of\ course|great|okay|ok
        |you(?:'|’)?(?:re|\ are)\ welcome|sorry|i(?:\ a|'|’)m\ sorry|i\ apologi[sz]e|unfortunately)\b[^.;:]{0,60}[.!]*$
      |(?:please\ )?(?:let\ me\ know|feel\ free|do\ not\ hesitate|don['’]t\ hesitate|ask\ me)\b.*
      |i\ (?:hope|would\ be\ happy|am\ happy|['’]m\ happy|can\ help|will\ help)\b.*
      |(?:(?:sorry|unfortunately|i\ apologi[sz]e|i(?:\ a|['’])m\ (?:sorry|afraid))[,;]?\s*(?:but\s+)?)?
        (?:i|we)\s(?:do\ not|don['’]t|cannot|can['’]t|can\ not|could\ not|couldn['’]t|was\ not|wasn['’]t|am\ not|were\ not
          |am\ unable|was\ unable|did\ not|didn['’]t|have\ no)\s
        (?:know|knowledge|find|found|have|able|sure|answer|tell|say|see|provide|help|information|certain|to\ (?:find|answer))\b
        (?:(?!\b(?:but|however|although|though)\b)\D)*
      |(?:unfortunately[,;]?\s*)?(?:the|this|these|your|my|no)\s(?:\w+\s){0,4}
        (?:documents?|passages?|sources?|context|information|handbook|text|answer|excerpts?)\b[^.]{0,40}
        (?:do(?:es)?\ not|don['’]t|doesn['’]t|is\ not|isn['’]t|are\ not|cannot|can['’]t|was\ found|is\ available
          |could\ be\ found|contains?\ no|ha(?:s|ve)\ no|say\ nothing|says\ nothing)\b
        (?:(?!\b(?:but|however|although|though|only)\b)\D)*
      |(?:hallo|guten\ (?:tag|morgen|abend)|gerne?|danke|natürlich|bonjour|merci|hola|gracias)\b[^.;:]{0,40}[.!]*$
      |(?:ich\ weiß\ (?:es\ )?nicht|das\ weiß\ ich\ nicht|je\ ne\ sais\ pas|no\ (?:lo\ )?sé)\b.*
    )$"""
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence: where it stands in the text, and its words without marks and emphasis."""

    start: int
    end: int
    words: str

    @property
    def claims(self) -> bool:
        """Whether it states something."""
        words = self.words
        if words.endswith(("?", "？", ":", "：")):
            return False
        if len(_WORD.findall(words)) < _FEWEST_WORDS and len(_UNSPACED.findall(words)) < _FEWEST_SIGNS:
            return False
        return not (len(words) < _LONGEST_EMPTY and _EMPTY.match(words))


def statements(text: str, language: str = "en") -> Iterator[Statement]:
    """In their order. `language` (ISO 639-1) says which abbreviations end no sentence."""
    return (each for each in sentences(text, language) if each.claims)


def sentences(text: str, language: str = "en") -> Iterator[Statement]:
    """All sentences of the prose; code and headings are none."""
    text = encodable(text)
    for begin, end in _prose(text):
        if _NO_PROSE.match(text, begin, end):
            continue
        at = begin
        for piece in sentencex.segment(language, text[begin:end]):
            plain = _LINK.sub(r"\1", piece, _MOST_LINKS) if "](" in piece else piece
            words = " ".join(_MARKS.sub("", plain).split())
            if words:
                lead = len(piece) - len(piece.lstrip())
                yield Statement(at + lead, at + len(piece.rstrip()), words)
            at += len(piece)


def _prose(text: str) -> Iterator[tuple[int, int]]:
    """Paragraphs, list items and rows, without their markers."""
    fences = [match.span() for match in _FENCED.finditer(text)] if "```" in text or "~~~" in text else []
    for begin, end in zip([0, *(end for _, end in fences)], [*(start for start, _ in fences), len(text)], strict=True):
        at = begin
        for marker in _BLOCK.finditer(text, begin, end):
            yield from _lines(text, at, marker.start())
            at = marker.end()
        yield from _lines(text, at, end)


def _lines(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """A block, with a heading's line apart."""
    if text.startswith("#", begin) and (stop := text.find("\n", begin, end)) >= 0:
        yield begin, stop
        begin = stop + 1
    if text[begin:end].strip():
        yield begin, end
