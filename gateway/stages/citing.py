"""Sources of an answer: `[n]` marks in its text become annotations, and the passages its `rag.sources`.

Chat completions know one kind of annotation, `url_citation`; the whole list goes into our own `rag` object.
https://platform.openai.com/docs/api-reference/chat/object#chat/object-choices-message-annotations
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.chat import JSON
from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from retrieval.passages import Passage

_decode = msgspec.json.Decoder().decode
_QUOTE = 300  # characters of a passage shown with its source
_CONTEXT = 200  # characters


class CitedAnswer:
    """An answer with its sources, streamed (in the chunk that finishes a choice) or whole.

    A mark that names no passage is taken out before it is shown, and counted: `rag.invalid_citations`.
    """

    def __init__(self, chunks: Chunks, exchange: Exchange) -> None:
        self._chunks = chunks
        self._passages = exchange.passages
        self._told: dict[int, list[str]] = {}
        self._marks: dict[int, Marks] = {}

    async def next(self) -> list[Chunk]:
        chunks = await self._chunks.next()
        for order, chunk in enumerate(chunks):
            for choice in chunk.facts.choices or ():
                fragment = choice.delta or choice.message
                if choice.finish_reason or choice.message or (fragment and fragment.content):
                    chunks[order] = self._checked(chunk)
                    break
        return chunks

    def close(self) -> None:
        self._chunks.close()

    def _checked(self, chunk: Chunk) -> Chunk:
        """The chunk without marks that name nothing, and with the sources where it finishes a choice."""
        said = [choice.delta.content for choice in chunk.facts.choices or () if choice.delta]
        changed = finished = False
        document: dict[str, Any] | None = None
        if any(choice.message or choice.finish_reason for choice in chunk.facts.choices or ()) or any(
            self._unclear(choice.index, content or "")
            for choice, content in zip(chunk.facts.choices or (), said, strict=False)
        ):
            document = _decode(chunk.data)
        if document is None:
            for choice in chunk.facts.choices or ():
                if choice.delta and choice.delta.content:
                    self._tell(choice.index, self._marks_of(choice.index).feed(choice.delta.content))
            return chunk
        for choice in document["choices"]:
            marks = self._marks_of(choice.get("index", 0))
            if "message" in choice:
                message = choice["message"]
                content = message.get("content")
                if isinstance(content, str):
                    text = marks.feed(content) + marks.finish()
                    changed = changed or text != content
                    message["content"] = text
                message["annotations"] = citations(message.get("content") or "", self._passages)
                finished = True
                continue
            delta = choice.get("delta")
            content = (delta or {}).get("content")
            if isinstance(content, str):
                delta["content"] = self._tell(choice.get("index", 0), marks.feed(content))
                changed = changed or delta["content"] != content
            if choice.get("finish_reason"):
                delta = choice["delta"] = delta or {}
                if rest := marks.finish():
                    delta["content"] = (delta.get("content") or "") + self._tell(choice.get("index", 0), rest)
                    changed = True
                told = "".join(self._told.get(choice.get("index", 0), ()))
                delta["annotations"] = citations(told, self._passages)
                finished = True
        if finished:
            document["rag"] = {"sources": sources(self._passages)}
            if invalid := sum(marks.removed for marks in self._marks.values()):
                document["rag"]["invalid_citations"] = invalid
        data = JSON.encode(document)
        return Chunk(data) if changed else Chunk(data, chunk.facts)

    def _marks_of(self, index: int) -> Marks:
        return self._marks.setdefault(index, Marks(len(self._passages)))

    def _unclear(self, index: int, content: str) -> bool:
        """Whether this content may hold a mark, or may end one: all other chunks are relayed to the byte."""
        return "[" in content or content.endswith(" ") or self._marks_of(index).waits

    def _tell(self, index: int, text: str) -> str:
        self._told.setdefault(index, []).append(text)
        return text


class Marks:
    """Takes `[n]` marks that name none of `count` passages out of a text that comes in pieces.

    What may yet become such a mark, and a blank before it, is held back: four characters at most. Code keeps its
    brackets: what stands between backticks, and an index behind a name, a bracket or a parenthesis.
    """

    _MAY_BECOME = re.compile(r" ?\[\d{0,2}\Z| \Z")
    PART = re.compile(r"`+|\[\d{1,2}\]")
    # A name, a parenthesis or another bracket, and any marks behind it: `[1][7]` are two marks, `a[1][7]` is an index.
    INDEXED = re.compile(r"[\w)\]](?<!\[\d\])(?<!\[\d\d\])(\[\d{1,2}\])*\Z")

    def __init__(self, count: int) -> None:
        self.removed = 0
        self._count = count
        self._held = ""
        self._before = ""  # what came before, as far back as matters
        self._fence = ""  # the backticks that opened the code which we are in

    @property
    def waits(self) -> bool:
        return bool(self._held)

    @staticmethod
    def behind(fence: str, ticks: str) -> str:
        """The backticks that are open after `ticks`, where `fence` were before."""
        if not fence:
            return ticks
        return "" if fence == ticks else fence

    def feed(self, text: str) -> str:
        """What can be shown now."""
        text = self._held + text
        self._held = ""
        if may := self._MAY_BECOME.search(text):
            self._held = may[0]
            text = text[: may.start()]
        return self._cleaned(text)

    def finish(self) -> str:
        """The rest: what was held back and became no mark."""
        rest, self._held = self._held, ""
        return rest

    def _cleaned(self, text: str) -> str:
        kept = []
        at = 0
        context = self._before + text
        shift = len(self._before)
        for part in self.PART.finditer(text):
            if part[0].startswith("`"):
                self._fence = self.behind(self._fence, part[0])
                continue
            if self._fence or self.INDEXED.search(context, 0, part.start() + shift):
                continue
            if 1 <= int(part[0][1:-1]) <= self._count:
                continue
            self.removed += 1
            kept.append(text[at : part.start()].removesuffix(" "))
            at = part.end()
        kept.append(text[at:])
        self._before = context[-_CONTEXT:]
        return "".join(kept)


def citations(text: str, passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """One `url_citation` for each mark that names a passage; positions in characters of `text`."""
    found = []
    for mark in _marks(text):
        n = int(mark[0][1:-1])
        if 1 <= n <= len(passages):
            passage = passages[n - 1]
            citation = {
                "url": passage.url,
                "title": passage.title,
                "start_index": mark.start(),
                "end_index": mark.end(),
            }
            found.append({"type": "url_citation", "url_citation": citation})
    return found


def cited(text: str, count: int) -> set[int]:
    """The numbers of those of `count` passages that a whole text cites."""
    return {n for mark in _marks(text) if 1 <= (n := int(mark[0][1:-1])) <= count}


def _marks(text: str) -> Iterator[re.Match[str]]:
    """The marks of a whole text; see Marks for what is none."""
    fence = ""
    for part in Marks.PART.finditer(text):
        if part[0].startswith("`"):
            fence = Marks.behind(fence, part[0])
        elif not fence and not Marks.INDEXED.search(text, max(part.start() - _CONTEXT, 0), part.start()):
            yield part


def sources(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """All passages that the prompt held, in the order of their marks."""
    return [
        {
            "document_id": passage.document_id,
            "version": passage.version,
            "section_id": passage.section_id,
            "collection": passage.collection,
            "score": round(passage.score, 4),
            "title": " > ".join(passage.heading) or passage.title,
            "url": passage.url,
            "quote": passage.text[:_QUOTE],
        }
        for passage in passages
    ]
