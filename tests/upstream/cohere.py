"""An imitation of Cohere's v2 API, strict in what it takes: https://docs.cohere.com/reference/chat

Start it with `Vendor(answers=CohereAnswer)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from upstream.vendor import Answer

_CHAT = {
    "model", "messages", "stream", "tools", "strict_tools", "documents", "citation_options", "response_format",
    "safety_mode", "max_tokens", "stop_sequences", "temperature", "seed", "frequency_penalty", "presence_penalty", "k",
    "p", "logprobs", "tool_choice", "thinking",
}  # fmt: skip
_EMBED = {
    "model",
    "texts",
    "images",
    "inputs",
    "input_type",
    "embedding_types",
    "output_dimension",
    "truncate",
    "max_tokens",
}
_RERANK = {"model", "query", "documents", "top_n", "max_tokens_per_doc"}


class CohereAnswer(Answer):
    breakable = '"delta"'
    last_word = b""

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"id": "err_1", "message": message}

    def _refusal(self) -> str | None:
        seen, body = self._seen, self._seen.body
        if seen.headers.get("authorization") != f"Bearer {self._vendor.api_key}":
            return "invalid api token"
        known = {"/v2/chat": _CHAT, "/v2/embed": _EMBED, "/v2/rerank": _RERANK}.get(seen.path)
        if known is None:
            return f"unknown path {seen.path}"
        if unknown := set(body) - known:
            return f"unknown field: parameter '{sorted(unknown)[0]}' is not a valid field"
        if seen.path == "/v2/embed":
            return None if body.get("input_type") else "input_type is required"
        if seen.path == "/v2/chat":
            for order, message in enumerate(body["messages"]):
                if message["role"] not in ("user", "assistant", "system", "tool"):
                    return f"messages[{order}]: invalid role"
                if message["role"] == "tool" and not message.get("tool_call_id"):
                    return f"messages[{order}]: tool_call_id is required"
            if body.get("tool_choice") not in (None, "REQUIRED", "NONE"):
                return "tool_choice must be REQUIRED or NONE"
        return None

    def document(self) -> dict[str, Any]:
        body = self._seen.body
        if self._seen.path == "/v2/embed":
            vectors = [[float(len(text)), 0.5, -1.0] for text in body["texts"]]
            return {"id": "e1", "embeddings": {"float": vectors}, "texts": body["texts"],
                    "meta": {"billed_units": {"input_tokens": 5}}}  # fmt: skip
        if self._seen.path == "/v2/rerank":
            order = sorted(range(len(body["documents"])), key=lambda n: -len(body["documents"][n]))
            results = [{"index": n, "relevance_score": 1.0 / (place + 1)} for place, n in enumerate(order)]
            return {"id": "r1", "results": results[: body.get("top_n")], "meta": {"billed_units": {"search_units": 1}}}
        message: dict[str, Any] = {"role": "assistant"}
        if body.get("tools"):
            message |= {"tool_plan": "I will look.", "tool_calls": self._calls()}
        else:
            content = [{"type": "text", "text": self._words()}]
            if (body.get("thinking") or {}).get("type") == "enabled":
                content.insert(0, {"type": "thinking", "thinking": "I think so."})
            message["content"] = content
        return {"id": "c1", "finish_reason": self._finish(), "message": message, "usage": self._used()}

    def frames(self) -> Iterable[bytes]:
        body = self._seen.body
        events: list[dict[str, Any]] = [
            {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}}
        ]
        if body.get("tools"):
            events.append({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will look."}}})
            for index, call in enumerate(self._calls()):
                arguments = call["function"]["arguments"]
                head = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
                events.append({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": head}}})
                events += [
                    {"type": "tool-call-delta", "index": index,
                     "delta": {"message": {"tool_calls": {"function": {"arguments": arguments[i : i + 5]}}}}}
                    for i in range(0, len(arguments), 5)
                ]  # fmt: skip
                events.append({"type": "tool-call-end", "index": index})
        else:
            start = {"message": {"content": {"type": "text", "text": ""}}}
            events.append({"type": "content-start", "index": 0, "delta": start})
            text, size = self._words(), self._how.get("piece", 4)
            events += [
                {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text[i : i + size]}}}}
                for i in range(0, len(text), size)
            ]
            events.append({"type": "content-end", "index": 0})
        events.append({"type": "message-end", "delta": {"finish_reason": self._finish(), "usage": self._used()}})
        return (self._sse(event, event["type"]) for event in events)

    def bad_frame(self) -> bytes:
        return b'data: {"type": "content-' + self._newline * 2

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {"id": f"call_{n}", "type": "function",
             "function": {"name": tool["function"]["name"],
                          "arguments": json.dumps({"city": "Zürich 🏔", "n": n}, ensure_ascii=False)}}
            for n, tool in enumerate(self._seen.body["tools"])
        ]  # fmt: skip

    def _words(self) -> str:
        if "text" in self._how:
            return str(self._how["text"]) * int(self._how.get("repeat", 1))
        content = self._seen.body["messages"][-1]["content"]
        said = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
        return f"echo: {said}"

    def _finish(self) -> str:
        return str(self._how.get("finish", "TOOL_CALL" if self._seen.body.get("tools") else "COMPLETE"))

    def _used(self) -> dict[str, Any]:
        return {"tokens": {"input_tokens": 11, "output_tokens": 7}, "billed_units": {"input_tokens": 4, "output_tokens": 5},
                "cached_tokens": 3}  # fmt: skip
