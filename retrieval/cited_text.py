"""An answer taken apart: its sentences, each with the `[n]` marks that it carries, and its words without marks.

Answers are Markdown (CommonMark and tables). Code holds neither sentences nor marks, and a heading makes no statement.
Sentences end where Wikimedia's `sentencex` says, which knows abbreviations and other scripts' full stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sentencex
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from markdown_it.token import Token

_MARK = re.compile(r"[ \t]*\[(\d{1,2})\]")
_LINKED = re.compile(r"\d{1,2}")
_DEFINITION = re.compile(r"\[\d{1,2}\]:")
_GLUED = re.compile(r"[\w)\]]\Z")
_WORD = re.compile(r"\w")
# Behind a closing fence CommonMark allows nothing, so that such code would never end; yet this is how code is cited.
_FENCE_WITH_MARKS = re.compile(r"^([ \t]*(?:`{3,}|~{3,}))[ \t]+((?:\[\d{1,2}\][ \t]*)+)$", re.MULTILINE)
_BREAKS = frozenset({"softbreak", "hardbreak"})


@dataclass(frozen=True, slots=True)
class Sentence:
    """A list item or a table's row holds one at least. `marks` are numbers as written, in their order."""

    text: str
    marks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CitedText:
    """`plain` has all words, code and headings too; `marks` are all that stand outside code."""

    sentences: tuple[Sentence, ...]
    marks: tuple[int, ...]
    plain: str


@dataclass(slots=True)
class _Block:
    """A piece of text without its marks, and where they stood: (position in the text, number)."""

    text: str
    marks: list[tuple[int, int]]


def read(markdown: str, sources: int = 0, language: str = "en") -> CitedText:
    """Take a text apart. `language` (ISO 639-1) says which abbreviations end no sentence.

    A mark belongs to the sentence before it, on either side of its full stop; to the one behind it only where a
    paragraph begins with the mark. Brackets right behind a word are a mark where they name one of `sources`, else an
    index like `rows[7]`. A list of sources in the form of `[1]: …` states nothing.
    """
    parser = MarkdownIt("commonmark").enable("table").disable("reference")
    sentences: list[tuple[str, list[int]]] = []
    marks: list[int] = []
    plain: list[str] = []
    heading = row = head = False
    cells: list[_Block] = []
    for token in parser.parse(_FENCE_WITH_MARKS.sub(r"\1\n\2", markdown)):
        match token.type:
            case "heading_open" | "heading_close":
                heading = token.nesting == 1
            case "thead_open" | "thead_close":
                head = token.nesting == 1
            case "tr_open":
                row, cells = True, []
            case "tr_close":
                row = False
                block = _joined(cells)
                plain.append(block.text)
                marks += [number for _, number in block.marks]
                if not head:
                    _take(block, [block.text], sentences)
            case "fence" | "code_block":
                plain.append(token.content)
            case "inline":
                if _DEFINITION.match(token.content):
                    continue
                block = _block(token.children or (), sources)
                if row:
                    cells.append(block)
                    continue
                plain.append(block.text)
                marks += [number for _, number in block.marks]
                if not heading:
                    _take(block, sentencex.segment(language, block.text), sentences)
            case _:
                pass
    told = tuple(Sentence(text, tuple(numbers)) for text, numbers in sentences)
    return CitedText(told, tuple(marks), "\n".join(filter(None, plain)))


def _block(children: Iterable[Token], sources: int) -> _Block:
    block = _Block("", [])
    link: str | None = None  # the text of the link that we are in
    for child in children:
        if child.type == "link_open":
            link = ""
        elif child.type == "link_close":
            # `[1](address)` is how some models cite.
            _add(block, f"[{link}]" if _LINKED.fullmatch(link or "") else link or "", sources)
            link = None
        elif link is not None:
            link += child.content
        elif child.type == "text":
            _add(block, child.content, sources)
        elif child.type in _BREAKS:
            block.text += " "
        elif child.type in ("code_inline", "image"):
            block.text += child.content
    block.text = block.text.rstrip()
    return block


def _add(block: _Block, text: str, sources: int) -> None:
    at = 0
    glued = False
    for mark in _MARK.finditer(text):
        block.text += text[at : mark.start()]
        if mark.start() > at or not at:
            glued = not mark[0][0].isspace() and _GLUED.search(block.text) is not None
        if glued and not 1 <= int(mark[1]) <= sources:
            block.text += mark[0]
        else:
            block.text = block.text.rstrip()
            block.marks.append((len(block.text), int(mark[1])))
        at = mark.end()
    block.text += text[at:]


def _joined(cells: Iterable[_Block]) -> _Block:
    """A table's row reads as one sentence."""
    row = _Block("", [])
    for cell in cells:
        if row.text and cell.text:
            row.text += ", "
        row.marks += [(position + len(row.text), number) for position, number in cell.marks]
        row.text += cell.text
    return row


def _take(block: _Block, parts: Iterable[str], sentences: list[tuple[str, list[int]]]) -> None:
    """Add a block's sentences with their marks. What has no word is no sentence: its marks go to the one before."""
    begins: list[tuple[int, list[int]]] = []
    at = 0
    for part in parts:
        if _WORD.search(part):
            numbers: list[int] = []
            begins.append((at, numbers))
            sentences.append((part.strip(), numbers))
        at += len(part)
    for position, number in block.marks:
        before = [numbers for begin, numbers in begins if begin < position]
        if before:
            before[-1].append(number)
        elif begins:
            begins[0][1].append(number)
        elif sentences:
            sentences[-1][1].append(number)
