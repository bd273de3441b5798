"""Where an answer comes from: the passages that its prompt held, and the marks in its text that name them.

The gateway says so in `rag.sources` and in the message's annotations, whole and in a stream's last chunks:
docs/retrieval.md. https://platform.openai.com/docs/api-reference/chat/object#chat/object-choices-message-annotations
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MARK = re.compile(r"\[(\d{1,2})\]")


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that the prompt held; `[n]` in the text names it. `quote` is how it begins."""

    n: int
    document_id: str
    title: str
    quote: str
    url: str
    score: float
    collection: str
    version: str
    section_id: str


@dataclass(frozen=True, slots=True)
class Citation:
    """One place in the text that names a source. `start` and `end` count characters of the text, the mark among them.

    `n` and `source` are None where the mark is not one of the gateway's, as a vendor's own citation of a web page.
    """

    title: str
    url: str
    start: int
    end: int
    n: int | None = None
    source: Source | None = None


def sources_in(rag: object) -> tuple[Source, ...]:
    """The sources of an answer's `rag` object, in the order of their marks."""
    listed = rag.get("sources") if isinstance(rag, Mapping) else None
    return tuple(
        Source(
            n=n,
            document_id=_text(source, "document_id"),
            title=_text(source, "title"),
            quote=_text(source, "quote"),
            url=_text(source, "url"),
            score=float(source.get("score") or 0.0),
            collection=_text(source, "collection"),
            version=_text(source, "version"),
            section_id=_text(source, "section_id"),
        )
        for n, source in enumerate(_objects(listed), 1)
    )


def citations_in(annotations: object, text: str, sources: Sequence[Source]) -> tuple[Citation, ...]:
    """The citations among a message's annotations, in the text's order.

    Chat has them inside of `url_citation`; Responses has them flat, and a `file_citation` only with where it ends.
    """
    found = []
    for annotation in _objects(annotations):
        kind = annotation.get("type")
        cited = annotation.get("url_citation") or annotation
        if kind not in ("url_citation", "file_citation") or not isinstance(cited, Mapping):
            continue
        end = int(cited.get("end_index") or cited.get("index") or 0)
        start = cited.get("start_index")
        mark = _MARK.fullmatch(text[start:end]) if start is not None else _last_mark(text[:end])
        n = int(mark[1]) if mark else None
        found.append(
            Citation(
                title=_text(cited, "title") or _text(cited, "filename"),
                url=_text(cited, "url"),
                start=start if start is not None else end - len(mark[0]) if mark else end,
                end=end,
                n=n,
                source=sources[n - 1] if n is not None and 1 <= n <= len(sources) else None,
            )
        )
    return tuple(sorted(found, key=lambda citation: citation.start))


def _last_mark(text: str) -> re.Match[str] | None:
    marks = [mark for mark in _MARK.finditer(text, max(len(text) - 4, 0)) if mark.end() == len(text)]
    return marks[0] if marks else None


def _objects(listed: object) -> Iterable[Mapping[str, Any]]:
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list | tuple) else []


def _text(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""
