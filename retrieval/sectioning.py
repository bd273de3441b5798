"""Documents to sections that an embedding can hold: cut where the text is, counted in the model's own tokens."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from retrieval.loading import Document

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_LONGEST_TITLE = 200  # characters
_LONGEST_TEXT = 4_000  # characters; a word of any length is one unknown token
POLICY = "2"
"""Named in every document's version: another way to cut makes every document new."""


@dataclass(frozen=True, slots=True)
class Section:
    """`heading` are the titles above it, outermost first; `position` counts sections of the document from 0."""

    text: str
    heading: tuple[str, ...]
    position: int

    @property
    def embedded(self) -> str:
        """What is embedded: the text under its headings, since a section seldom repeats what it is about."""
        return "\n".join((" > ".join(self.heading), self.text)) if self.heading else self.text


class Sectioner:
    def __init__(self, tokenizer: Path, most_tokens: int = 200) -> None:
        """`tokenizer` is the embedding model's `tokenizer.json`."""
        counter = Tokenizer.from_file(str(tokenizer))
        counter.no_truncation()  # the file cuts at 128 tokens, and a count must not
        counter.no_padding()
        self._markdown = MarkdownSplitter.from_huggingface_tokenizer(counter, most_tokens)
        self._text = TextSplitter.from_huggingface_tokenizer(counter, most_tokens)

    def sections(self, document: Document) -> list[Section]:
        """Never empty pieces; a heading alone stays with what follows it, or is none."""
        assert document.text is not None, "a file that has to be parsed has been"
        splitter = self._markdown if document.markdown else self._text
        headings = _headings(document.text) if document.markdown else []
        starts = [start for start, _ in headings]
        sections: list[Section] = []
        for offset, text in splitter.chunk_indices(document.text):
            body = text.strip()
            if not body or all(_HEADING.match(line) or not line.strip() for line in body.split("\n")):
                continue
            # A section that begins with headings stands under them.
            first = offset
            for line in text.split("\n"):
                if line.strip() and not _HEADING.match(line):
                    break
                first += len(line) + 1
            place = bisect_right(starts, first) - 1
            path = headings[place][1] if place >= 0 else ()
            for start in range(0, len(body), _LONGEST_TEXT):
                if piece := body[start : start + _LONGEST_TEXT].strip():
                    sections.append(Section(piece, path, len(sections)))
        return sections


def _headings(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Each heading's offset and its path, code blocks left aside."""
    found: list[tuple[int, tuple[str, ...]]] = []
    path: list[tuple[int, str]] = []
    offset = 0
    inside_code = False
    for line in text.split("\n"):
        if _FENCE.match(line):
            inside_code = not inside_code
        elif not inside_code and (heading := _HEADING.match(line)):
            level = len(heading[1])
            path = [entry for entry in path if entry[0] < level]
            path.append((level, heading[2][:_LONGEST_TITLE]))
            found.append((offset, tuple(title for _, title in path)))
        offset += len(line) + 1
    return found
