"""An imitation of Google's generateContent, strict in what it takes: https://ai.google.dev/api/generate-content

Start it with `Vendor(answers=GeminiAnswer)`. The model's name is in the path, as theirs is, so behaviours go by that.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from upstream.vendor import Answer, Seen

_PATH = re.compile(
    r"/(?:v1beta|v1|v1/projects/[^/]+/locations/[^/]+/publishers/google)/models/([^:/]+):"
    r"(generateContent|streamGenerateContent|batchEmbedContents)(\?alt=sse)?"
)
_TOP = {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig", "cachedContent"}
_GENERATION = {
    "stopSequences", "responseMimeType", "responseSchema", "responseJsonSchema", "candidateCount", "maxOutputTokens",
    "temperature", "topP", "topK", "seed", "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs",
    "thinkingConfig",
}  # fmt: skip
_PARTS = {"text", "inlineData", "fileData", "functionCall", "functionResponse", "thought", "thoughtSignature"}
SIGNATURE = "c2lnbmF0dXJl"


class GeminiAnswer(Answer):
    request_id = "x-goog-request-id: goog_upstream"

    def model_of(self, seen: Seen) -> str:
        found = _PATH.fullmatch(unquote(seen.path))
        return found[1] if found else ""

    def streams(self) -> bool:
        return "streamGenerateContent" in self._seen.path

    def error(self, status: int, message: str) -> dict[str, Any]:
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
        return {"error": {"code": status, "message": message, "status": names.get(status, "INTERNAL")}}

    def _refusal(self) -> str | None:
        seen, body = self._seen, self._seen.body
        key, bearer = seen.headers.get("x-goog-api-key"), seen.headers.get("authorization")
        if key != self._vendor.api_key and bearer != f"Bearer {self._vendor.api_key}":
            return "API key not valid. Please pass a valid API key."
        found = _PATH.fullmatch(unquote(seen.path))
        if found is None or (found[2] == "streamGenerateContent") != bool(found[3]):
            return f"unknown path {seen.path}"
        if found[2] == "batchEmbedContents":
            return (
                None
                if all(set(one) <= {"model", "content", "outputDimensionality", "taskType"} for one in body["requests"])
                else "requests"
            )
        if unknown := set(body) - _TOP | (set(body.get("generationConfig", {})) - _GENERATION):
            return f"Invalid JSON payload received. Unknown name {sorted(unknown)[0]!r}"
        return _contents(body["contents"]) or _tools(body)

    def document(self) -> dict[str, Any]:
        if "batchEmbedContents" in self._seen.path:
            texts = ["".join(part["text"] for part in one["content"]["parts"]) for one in self._seen.body["requests"]]
            return {"embeddings": [{"values": [float(len(text)), 0.5, -1.0]} for text in texts]}
        if "block" in self._how:
            return {"promptFeedback": {"blockReason": self._how["block"]}, **self._meta()}
        count = self._seen.body.get("generationConfig", {}).get("candidateCount") or 1
        return {"candidates": [self._candidate(index) for index in range(count)], **self._meta()}

    def frames(self) -> list[bytes]:
        if "block" in self._how:
            return [self._sse(self.document())]
        count = self._seen.body.get("generationConfig", {}).get("candidateCount") or 1
        events = []
        for index in range(count):
            whole = self._candidate(index)
            parts = whole["content"]["parts"]
            pieces: list[dict[str, Any]] = []
            for part in parts:
                if "text" in part:
                    size = self._how.get("piece", 4)
                    pieces += [{**part, "text": part["text"][i : i + size]} for i in range(0, len(part["text"]), size)]
                else:
                    pieces.append(part)
            for order, piece in enumerate(pieces):
                candidate: dict[str, Any] = {"content": {"role": "model", "parts": [piece]}, "index": index}
                if order == len(pieces) - 1:
                    candidate["finishReason"] = whole["finishReason"]
                events.append({"candidates": [candidate], **self._meta()})
        return [self._sse(event) for event in events]

    def bad_frame(self) -> bytes:
        return b'data: {"candidates": [' + self._newline * 2

    def _candidate(self, index: int) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        body = self._seen.body
        if (body.get("generationConfig", {}).get("thinkingConfig") or {}).get("includeThoughts"):
            parts.append({"text": "I think so.", "thought": True})
        if body.get("tools"):
            for number, one in enumerate(body["tools"][0]["functionDeclarations"]):
                call = {"name": one["name"], "args": {"city": "Zürich 🏔", "n": number}}
                parts.append({"functionCall": call, "thoughtSignature": SIGNATURE})
        else:
            parts.append({"text": self._words()})
        return {
            "content": {"role": "model", "parts": parts},
            "finishReason": self._how.get("finish", "STOP"),
            "index": index,
        }

    def _words(self) -> str:
        if "text" in self._how:
            return str(self._how["text"])
        if schema := self._seen.body.get("generationConfig", {}).get("responseJsonSchema"):
            return json.dumps({name: f"a {name}" for name in schema["properties"]})
        parts = self._seen.body["contents"][-1]["parts"]
        return "echo: " + " ".join(part.get("text", "") or json.dumps(part, sort_keys=True) for part in parts)

    def _meta(self) -> dict[str, Any]:
        used = {
            "promptTokenCount": 11, "candidatesTokenCount": 5, "totalTokenCount": 18, "cachedContentTokenCount": 3,
            "thoughtsTokenCount": 2,
        }  # fmt: skip
        return {"usageMetadata": used, "modelVersion": "gemini-mock-001", "responseId": "resp_1"}


def _contents(contents: list[dict[str, Any]]) -> str | None:
    if not contents:
        return "contents is not specified"
    calls = 0
    for order, turn in enumerate(contents):
        if turn.get("role") not in ("user", "model"):
            return f"Please use a valid role: user, model (contents[{order}])"
        if not turn.get("parts"):
            return f"contents[{order}].parts must not be empty"
        for part in turn["parts"]:
            if unknown := set(part) - _PARTS:
                return f"Unknown name {sorted(unknown)[0]!r} at 'contents[{order}].parts'"
            if "functionCall" in part:
                calls += 1
                if part.get("thoughtSignature") != SIGNATURE:
                    return "Function call is missing a thought_signature"
            if "functionResponse" in part:
                calls -= 1
                if not isinstance(part["functionResponse"].get("response"), dict):
                    return "function_response.response should be a Struct"
    return "the number of function response parts is not that of the function call parts" if calls else None


def _tools(body: dict[str, Any]) -> str | None:
    for tool in body.get("tools") or ():
        for one in tool["functionDeclarations"]:
            if set(one) - {
                "name",
                "description",
                "parameters",
                "parametersJsonSchema",
                "parameters_json_schema",
            } or not one.get("name"):
                return "Invalid function declaration"
    mode = ((body.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("mode", "AUTO")
    return None if mode in ("AUTO", "ANY", "NONE") else "Invalid mode"
