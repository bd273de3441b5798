"""An answer's pieces as the output items of a response, and as the events that tell of them.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.api.responses_request import sealed
from gateway.errors import UpstreamFailed

CitedFile = tuple[str, str]
"""A file's id and its name."""

Event = tuple[str, dict[str, Any]]
"""An event's type and its fields, without its number."""


class Output:
    """Items in the order in which they began; `take` and `close` give the events of what they did.

    All items stay open until the answer has ended: a guardrail lets the last words of a text go at the end only, when
    tool calls may have begun.
    """

    def __init__(self, unique: str, files: Sequence[CitedFile | None] = ()) -> None:
        """`unique` makes the items' ids. `files`: what stands behind each passage's mark, where that is a file."""
        self._files = files
        self.items: list[dict[str, Any]] = []
        self._unique = unique
        self._reasoning: int | None = None
        self._message: int | None = None
        self._parts: dict[str, int] = {}  # kinds of the message's parts, in their order
        self._calls: dict[int, int] = {}  # the vendor's index of a call to its item's
        self._unnamed: dict[int, dict[str, Any]] = {}  # calls whose name has not come
        self._thoughts: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, int], list[str]] = {}  # texts, by item and part

    def searched(self, question: str, results: list[dict[str, Any]] | None) -> Iterator[Event]:
        """The file search that came before the answer."""
        item: dict[str, Any] = {"id": f"fs_{self._unique}", "type": "file_search_call", "queries": [question]}
        yield from self._begin({**item, "results": None})
        place = {"item_id": item["id"], "output_index": len(self.items) - 1}
        for step in ("in_progress", "searching", "completed"):
            yield f"response.file_search_call.{step}", place
        self.items[-1] |= {"results": results, "status": "completed"}
        yield "response.output_item.done", {"output_index": len(self.items) - 1, "item": _copy(self.items[-1])}

    def take(self, said: Mapping[str, Any]) -> Iterator[Event]:
        """A stream's delta, or a whole message. Consume it to the end."""
        if reasoning := said.get("reasoning_content") or said.get("reasoning"):
            yield from self._thought(reasoning)
        for order, block in enumerate(said.get("thinking_blocks") or ()):
            self._sign(block.get("index", order), block)
        if said.get("content"):
            yield from self._text("output_text", said["content"])
        if said.get("refusal"):
            yield from self._text("refusal", said["refusal"])
        for order, call in enumerate(said.get("tool_calls") or ()):
            yield from self._call(call.get("index", order), call)
        for annotation in said.get("annotations") or ():
            yield from self._annotate(annotation)

    def close(self, *, whole: bool) -> Iterator[Event]:
        """The answer has ended; `whole` says that nothing cut it off. Consume it to the end.

        Raises UpstreamFailed for a tool call without a name.
        """
        if self._unnamed and whole:
            raise UpstreamFailed("The provider sent a tool call without a name.", code="upstream_bad_answer")
        for at, item in enumerate(self.items):
            if item["type"] == "file_search_call":
                continue  # told whole when it began
            place = {"item_id": item["id"], "output_index": at}
            if item["type"] == "function_call":
                item["arguments"] = self._joined(at, 0)
                done = {**place, "name": item["name"], "arguments": item["arguments"]}
                yield "response.function_call_arguments.done", done
            else:
                yield from self._close_parts(at, item, place)
            if item["type"] == "reasoning" and self._thoughts:
                item["encrypted_content"] = sealed([self._thoughts[n] for n in sorted(self._thoughts)])
            item["status"] = "completed" if whole else "incomplete"
            yield "response.output_item.done", {"output_index": at, "item": item}

    def _close_parts(self, at: int, item: dict[str, Any], place: Mapping[str, Any]) -> Iterator[Event]:
        for order, part in enumerate(item["content"]):
            here = {**place, "content_index": order}
            key = "refusal" if part["type"] == "refusal" else "text"
            part[key] = self._joined(at, order)
            said = {key: part[key], **({"logprobs": []} if part["type"] == "output_text" else {})}
            yield f"response.{part['type']}.done", {**here, **said}
            yield "response.content_part.done", {**here, "part": part}

    def _thought(self, text: str) -> Iterator[Event]:
        if self._reasoning is None:
            self._reasoning = len(self.items)
            yield from self._begin({"id": f"rs_{self._unique}", "type": "reasoning", "summary": [], "content": []})
            yield from self._begin_part(self._reasoning, {"type": "reasoning_text", "text": ""})
        yield self._delta(self._reasoning, 0, "response.reasoning_text.delta", text)

    def _sign(self, index: int, block: Mapping[str, Any]) -> None:
        """A vendor's proof of a thought, in pieces in a stream: strings of one index belong together."""
        kept = self._thoughts.setdefault(index, {})
        for name, value in block.items():
            if isinstance(value, str) and name not in ("type", "id") and isinstance(kept.get(name), str):
                kept[name] += value
            elif name != "index":
                kept[name] = value

    def _text(self, kind: str, text: str) -> Iterator[Event]:
        if self._message is None:
            self._message = len(self.items)
            yield from self._begin({"id": f"msg_{self._unique}", "type": "message", "role": "assistant", "content": []})
        if kind not in self._parts:
            self._parts[kind] = len(self._parts)
            part: dict[str, Any] = {"type": kind, "refusal": ""}
            if kind == "output_text":
                part = {"type": kind, "text": "", "annotations": [], "logprobs": []}
            yield from self._begin_part(self._message, part)
        yield self._delta(self._message, self._parts[kind], f"response.{kind}.delta", text)

    def _call(self, index: int, call: Mapping[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        if index not in self._calls:
            held = self._unnamed.setdefault(index, {"id": None, "name": "", "arguments": ""})
            held["id"] = held["id"] or call.get("id")
            held["name"] += function.get("name") or ""
            held["arguments"] += function.get("arguments") or ""
            held["extra"] = held.get("extra") or call.get("extra_content")
            if not held["name"]:
                return
            del self._unnamed[index]
            at = self._calls[index] = len(self.items)
            item: dict[str, Any] = {"id": f"fc_{self._unique}{index}", "type": "function_call"}
            item |= {"call_id": held["id"] or f"call_{self._unique}{index}", "name": held["name"], "arguments": ""}
            if held["extra"]:
                item["extra_content"] = held["extra"]
            yield from self._begin(item)
            arguments = held["arguments"]
        else:
            at, arguments = self._calls[index], function.get("arguments") or ""
            if call.get("extra_content"):
                self.items[at]["extra_content"] = call["extra_content"]
        if arguments:
            event = self._delta(at, 0, "response.function_call_arguments.delta", arguments)
            event[1].pop("content_index")
            yield event

    def _annotate(self, annotation: Mapping[str, Any]) -> Iterator[Event]:
        cited = annotation.get("url_citation")
        if cited is None or self._message is None or "output_text" not in self._parts:
            return
        at, order = self._message, self._parts["output_text"]
        told = {name: cited.get(name) for name in ("url", "title", "start_index", "end_index")}
        told = {"type": "url_citation", **told, "title": told["title"] or ""}
        if (file := self._cited_file(self._joined(at, order), told)) is not None:
            told = {"type": "file_citation", "index": told["end_index"], "file_id": file[0], "filename": file[1]}
        annotations = self.items[at]["content"][order]["annotations"]
        annotations.append(told)
        place = {"item_id": self.items[at]["id"], "output_index": at, "content_index": order}
        yield (
            "response.output_text.annotation.added",
            {**place, "annotation_index": len(annotations) - 1, "annotation": told},
        )

    def _cited_file(self, text: str, told: Mapping[str, Any]) -> CitedFile | None:
        """The file that the mark at this place names; None where that is another kind of document."""
        number = text[(told["start_index"] or 0) + 1 : (told["end_index"] or 0) - 1]
        place = int(number) - 1 if number.isdecimal() else -1
        return self._files[place] if 0 <= place < len(self._files) else None

    def _begin(self, item: dict[str, Any]) -> Iterator[Event]:
        item["status"] = "in_progress"
        self.items.append(item)
        yield "response.output_item.added", {"output_index": len(self.items) - 1, "item": _copy(item)}

    def _begin_part(self, at: int, part: dict[str, Any]) -> Iterator[Event]:
        item = self.items[at]
        item["content"].append(part)
        place = {"item_id": item["id"], "output_index": at, "content_index": len(item["content"]) - 1}
        yield "response.content_part.added", {**place, "part": _copy(part)}

    def _delta(self, at: int, order: int, kind: str, text: str) -> Event:
        self._pieces.setdefault((at, order), []).append(text)
        told = {"item_id": self.items[at]["id"], "output_index": at, "content_index": order, "delta": text}
        if kind == "response.output_text.delta":
            told["logprobs"] = []
        return kind, told

    def _joined(self, at: int, order: int) -> str:
        return "".join(self._pieces.get((at, order), ()))


def consume(events: Iterable[Event]) -> None:
    """For an answer that is not streamed: only what its events leave in the items counts."""
    for _ in events:
        pass


def _copy(told: Mapping[str, Any]) -> dict[str, Any]:
    """As it is now: the original grows."""
    return {name: list(value) if isinstance(value, list) else value for name, value in told.items()}
