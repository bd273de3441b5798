"""An imitation of Google's generateContent, strict in what it takes: https://ai.google.dev/api/generate-content

Start it with `Vendor(answers=GeminiAnswer)`. The model's name is in the path, as theirs is, so behaviours go by that.
What a request may hold is judged by the types of Google's own SDK, which know no other fields. It is Vertex AI's
too, with the token service that a service account's key file can name.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.genai import types
from pydantic import BaseModel, ValidationError
from upstream.vendor import Answer, Seen, Vendor

_PATH = re.compile(
    r"/(v1beta|v1|v1/projects/a-project/locations/[^/]+/publishers/google)/models/([^:/]+):"
    r"(generateContent|streamGenerateContent|batchEmbedContents|predict)(\?alt=sse)?"
)
_FIELDS: dict[str, type[BaseModel]] = {
    "contents": types.Content,
    "systemInstruction": types.Content,
    "tools": types.Tool,
    "toolConfig": types.ToolConfig,
    "safetySettings": types.SafetySetting,
    "generationConfig": types.GenerationConfig,
}
SIGNATURE = base64.b64encode(b"a signature").decode()
UNSIGNED = "skip_thought_signature_validator"  # what their documentation gives for calls that another model made
PNG = base64.b64encode(b"\x89PNG").decode()


class GeminiVendor(Vendor):
    """The running imitation; `account` makes the key file of a service account that it knows."""

    def __init__(self) -> None:
        super().__init__(answers=GeminiAnswer)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.tokens = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def account(self, email: str = "gateway@a-project.iam.gserviceaccount.com") -> dict[str, str]:
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account", "project_id": "a-project", "private_key_id": "k1", "client_email": email,
            "private_key": pem.decode(), "token_uri": self.base + "/token",
        }  # fmt: skip

    def signed(self, assertion: str) -> dict[str, Any]:
        """The claims of a JWT that this account signed. Raises InvalidSignature."""
        head, _, signature = assertion.rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        self._key.public_key().verify(raw, head.encode(), padding.PKCS1v15(), hashes.SHA256())
        claims = head.split(".")[1]
        told: dict[str, Any] = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return told


class GeminiAnswer(Answer):
    request_id = "x-goog-request-id: goog_upstream"
    breakable = '"candidates"'
    last_word = b""
    _vendor: GeminiVendor

    def model_of(self, seen: Seen) -> str:
        found = _PATH.fullmatch(unquote(seen.path))
        return found[2] if found else ""

    def streams(self) -> bool:
        return "streamGenerateContent" in self._seen.path

    def error(self, status: int, message: str) -> dict[str, Any]:
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
                 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}  # fmt: skip
        return {"error": {"code": status, "message": message, "status": names.get(status, "INTERNAL")}}

    async def give(self) -> bool:
        return await self._token() if self._seen.path == "/token" else await super().give()

    async def _token(self) -> bool:
        """https://developers.google.com/identity/protocols/oauth2/service-account#httprest"""
        self._vendor.tokens += 1
        form = {name: values[0] for name, values in parse_qs(self._seen.raw.decode()).items()}
        try:
            claims = self._vendor.signed(form["assertion"])
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            assert claims["aud"] == "https://oauth2.googleapis.com/token"  # wherever the key file sends it
            assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
            assert not claims["iss"].startswith("stranger")
        except (KeyError, AssertionError, InvalidSignature):
            return await self._error(400, "invalid_grant")
        return await self._json({"access_token": self._vendor.api_key, "expires_in": 3599, "token_type": "Bearer"})

    def _refusal(self) -> str | None:
        seen, body = self._seen, self._seen.body
        found = _PATH.fullmatch(unquote(seen.path))
        if found is None or (found[3] == "streamGenerateContent") != bool(found[4]):
            return f"unknown path {seen.path}"
        vertex = "projects" in found[1]
        proof, expected = ("authorization", "Bearer ") if vertex else ("x-goog-api-key", "")
        if seen.headers.get(proof) != expected + self._vendor.api_key:
            return "API key not valid. Please pass a valid API key."
        if not seen.headers.get("content-type", "").startswith("application/json"):
            return "content-type should be application/json"
        if found[3] == "predict":
            return _predict(body) if vertex else "predict is Vertex AI's"
        if found[3] == "batchEmbedContents":
            return "batchEmbedContents is the Gemini API's" if vertex else _embeds(body, found[2])
        return _request(body) or _conversation(body["contents"], strict=found[2].startswith("gemini-3"))

    def document(self) -> dict[str, Any]:
        body = self._seen.body
        if "batchEmbedContents" in self._seen.path:
            texts = ["".join(part["text"] for part in one["content"]["parts"]) for one in body["requests"]]
            return {"embeddings": [{"values": [float(len(text)), 0.5, -1.0]} for text in texts]}
        if self._seen.path.endswith(":predict"):
            values = [[float(len(one["content"])), 0.5, -1.0] for one in body["instances"]]
            counted = {"token_count": 2, "truncated": False}
            return {"predictions": [{"embeddings": {"values": one, "statistics": counted}} for one in values]}
        if "block" in self._how:
            return {"promptFeedback": {"blockReason": self._how["block"]}, **self._meta()}
        return {"candidates": [self._candidate(index) for index in range(self._count())], **self._meta()}

    def frames(self) -> Iterable[bytes]:
        if "block" in self._how:
            return [self._sse(self.document())]
        if "error_event" in self._how:
            return [self._sse(self.error(self._how["error_event"], "Overloaded " + self._vendor.api_key))]
        told: list[list[dict[str, Any]]] = []
        for index in range(self._count()):
            whole = self._candidate(index)
            pieces: list[dict[str, Any]] = []
            for part in whole["content"]["parts"]:
                pieces += self._pieces(part) if "text" in part else [part]
            candidates: list[dict[str, Any]] = [
                {"content": {"role": "model", "parts": [piece]}, "index": index} for piece in pieces
            ]
            if "logprobsResult" in whole:
                candidates[-1]["logprobsResult"] = whole["logprobsResult"]
            candidates[-1]["finishReason"] = whole["finishReason"]
            told.append(candidates)
        events = []
        for step in range(max(map(len, told))):  # the candidates' pieces come by turns
            events += [{"candidates": [one[step]], **self._meta()} for one in told if step < len(one)]
        return map(self._sse, events)

    def _pieces(self, part: dict[str, Any]) -> list[dict[str, Any]]:
        text, size = part["text"], self._how.get("piece", 4)
        pieces = [{**part, "text": text[i : i + size]} for i in range(0, len(text), size)] or [part]
        for piece in pieces[:-1]:
            piece.pop("thoughtSignature", None)
        return pieces

    def bad_frame(self) -> bytes:
        return b'data: {"candidates": [' + self._newline * 2

    def _count(self) -> int:
        return self._seen.body.get("generationConfig", {}).get("candidateCount") or 1

    def _candidate(self, index: int) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        generation = self._seen.body.get("generationConfig", {})
        if (generation.get("thinkingConfig") or {}).get("includeThoughts"):
            parts.append({"text": "I think so.", "thought": True})
        declared = [one for tool in self._seen.body.get("tools") or () for one in tool["functionDeclarations"]]
        asked = (self._seen.body.get("toolConfig") or {}).get("functionCallingConfig", {})
        allowed = asked.get("allowedFunctionNames")
        if declared and asked.get("mode") != "NONE" and "functionResponse" not in self._last():
            for number, one in enumerate(one for one in declared if allowed is None or one["name"] in allowed):
                call = {"name": one["name"], "args": {"city": "Zürich 🏔", "n": number}}
                if not self._how.get("no_ids"):
                    call["id"] = f"fc_{number}"
                # Of parallel calls only the first is signed.
                parts.append({"functionCall": call, **({"thoughtSignature": SIGNATURE} if not number else {})})
        else:
            parts.append({"text": self._words()})
        if self._how.get("sign_text"):
            parts[-1]["thoughtSignature"] = SIGNATURE
        if self._how.get("image"):
            parts.append({"inlineData": {"mimeType": "image/png", "data": PNG}})
        candidate: dict[str, Any] = {
            "content": {"role": "model", "parts": parts},
            "finishReason": self._how.get("finish", "STOP"),
            "index": index,
        }
        if generation.get("responseLogprobs"):
            chosen = {"token": "é", "tokenId": 7, "logProbability": -0.25}
            candidate["logprobsResult"] = {
                "chosenCandidates": [chosen],
                "topCandidates": [{"candidates": [chosen] * (generation.get("logprobs") or 0)}],
            }
        return candidate

    def _last(self) -> dict[str, Any]:
        return dict(self._seen.body["contents"][-1]["parts"][-1])

    def _words(self) -> str:
        if "text" in self._how:
            return str(self._how["text"]) * int(self._how.get("repeat", 1))
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


def _request(body: dict[str, Any]) -> str | None:
    """What Google's types, or the rules that they do not tell, have against a request."""
    for name, value in body.items():
        if name not in _FIELDS:
            return f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
        for one in value if isinstance(value, list) else [value]:
            # The SDK has this field in another of its types than the API has.
            plain = {key: item for key, item in one.items() if key != "responseJsonSchema"}
            try:
                _FIELDS[name].model_validate_json(json.dumps(plain))
            except ValidationError as fault:
                return f"Invalid value at '{name}': {fault.errors()[0]['loc']} {fault.errors()[0]['msg']}"
    generation = body.get("generationConfig", {})
    if not 1 <= generation.get("candidateCount", 1) <= 8:
        return "The specified candidate_count is not in the range from 1 to 8"
    if "responseJsonSchema" in generation and generation.get("responseMimeType") != "application/json":
        return "response_json_schema is only for the response_mime_type application/json"
    thinking = generation.get("thinkingConfig") or {}
    if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
        return "You can only set only one of thinking budget and thinking level."
    if "logprobs" in generation and not generation.get("responseLogprobs"):
        return "logprobs needs responseLogprobs"
    for tool in body.get("tools") or ():
        for one in tool["functionDeclarations"]:
            if not re.fullmatch(r"[A-Za-z_][\w.:-]{0,127}", one["name"]):
                return "Invalid function name"
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if calling.get("mode", "AUTO") not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        return "Invalid mode"
    if calling.get("allowedFunctionNames") and calling.get("mode") not in ("ANY", "VALIDATED"):
        return "allowed_function_names is for the modes ANY and VALIDATED"
    return None


def _conversation(contents: list[dict[str, Any]], *, strict: bool) -> str | None:
    if not contents:
        return "contents is not specified"
    open_calls: list[str | None] = []
    for order, turn in enumerate(contents):
        if turn.get("role") not in ("user", "model"):
            return f"Please use a valid role: user, model (contents[{order}])"
        if not turn.get("parts"):
            return f"contents[{order}].parts must not be empty"
        answers = [part["functionResponse"] for part in turn["parts"] if "functionResponse" in part]
        if answers or open_calls:
            if len(answers) != len(open_calls) or len(answers) != len(turn["parts"]):
                return (
                    "Please ensure that the number of function response parts is equal to the number of function "
                    "call parts of the function call turn."
                )
            if sorted(str(one.get("id")) for one in answers) != sorted(map(str, open_calls)):
                return "function responses answer other calls"
        calls = [part for part in turn["parts"] if "functionCall" in part]
        if calls and turn["role"] != "model":
            return "function calls are the model's"
        # Enforced since Gemini 3: https://ai.google.dev/gemini-api/docs/thought-signatures
        if strict and calls and calls[0].get("thoughtSignature") not in (SIGNATURE, UNSIGNED):
            return "Function call is missing a thought_signature in functionCall parts."
        open_calls = [part["functionCall"].get("id") for part in calls]
    return "a function call has no response" if open_calls else None


def _embeds(body: dict[str, Any], model: str) -> str | None:
    for one in body["requests"]:
        if set(one) - {"model", "content", "outputDimensionality", "taskType", "title"}:
            return "Invalid JSON payload received."
        if one["model"] != f"models/{model}":
            return "model is another one than the path's"
    return None


def _predict(body: dict[str, Any]) -> str | None:
    if set(body) - {"instances", "parameters"} or set(body.get("parameters", {})) - {"outputDimensionality"}:
        return "Invalid JSON payload received."
    unknown = [one for one in body["instances"] if set(one) - {"content", "task_type", "title"}]
    return "Invalid instance" if unknown or not body["instances"] else None
