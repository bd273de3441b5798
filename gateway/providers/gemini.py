"""Google's generateContent, as the Gemini API speaks it: https://ai.google.dev/api

`gemini_requests` and `gemini_answers` translate chat; `vertex` is the same over Vertex AI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from gateway.chat import JSON
from gateway.errors import BadRequest, UpstreamFailed
from gateway.providers import gemini_answers, shapes
from gateway.providers.dialect import Asked, Capabilities, Outgoing
from gateway.providers.gemini_requests import body_of, generation_of
from gateway.providers.refusals import Said


class Gemini:
    """The dialect, and what differs over Vertex AI in methods of its own."""

    stream_type: ClassVar[bytes] = b"text/event-stream"
    capabilities: ClassVar[Capabilities] = Capabilities(
        fields={
            "chat.completions": frozenset(
                {
                    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "seed", "tools",
                    "tool_choice", "response_format", "reasoning_effort", "frequency_penalty", "presence_penalty",
                    "logprobs", "top_logprobs", "safety_settings",
                }
            ),
            "embeddings": frozenset({"input", "dimensions", "encoding_format", "task_type"}),
        },
        choices=True,
        images=True,
        tools=True,
        json_schema=True,
        reasoning=True,
        notes=(
            "Images are data URLs, or URLs that Google can read (`gs://`, files of their Files API, https).",
            "`safety_settings` is passed on as it is.",
            "Since Gemini 3 a model always thinks: `reasoning_effort: none` is not to be had.",
            "The Gemini API does not count embeddings' tokens: they are taken as a quarter of the characters.",
        ),
    )  # fmt: skip

    def path(self, model: str, method: str) -> bytes:
        """`model` is a plain name, or a resource's: `models/…`, `tunedModels/…`."""
        resource = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
        return f"/v1beta/{quote(resource, safe='/-._~')}:{method}".encode("ascii")

    def lacking(self, endpoint: str, asked: Asked, model: str) -> list[str]:
        always = endpoint == "chat.completions" and generation_of(model) >= 3
        return ["reasoning_effort"] if always and asked.get("reasoning_effort") == "none" else []

    def outgoing(self, endpoint: str, asked: Asked, model: str, *, stream: bool) -> Outgoing:
        if endpoint == "embeddings":
            return self.embedding(texts_of(asked), asked, model)
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return Outgoing(self.path(model, method), JSON.encode(body_of(asked, model)))

    def answer(self, endpoint: str, body: bytes, asked: Asked) -> dict[str, Any]:
        told = shapes.json_object(body)
        try:
            if endpoint == "embeddings":
                vectors, tokens = self.embedded(told, asked)
                form = asked.get("encoding_format")
                values = [shapes.vector(vector, form) for vector in vectors]
                return shapes.embeddings(str(asked["model"]), values, shapes.usage(tokens, 0))
            return gemini_answers.completion(told)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise UpstreamFailed("The provider's answer can't be read.", code="upstream_bad_answer") from None

    def decoder(self, asked: Asked) -> gemini_answers.StreamDecoder:
        return gemini_answers.StreamDecoder(asked.get("n") or 1)

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
        try:
            told = msgspec.json.decode(body)
            return gemini_answers.said(told[0]["error"] if isinstance(told, list) else told["error"])
        except (
            msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, IndexError, AttributeError
        ):  # fmt: skip
            return Said()

    def embedding(self, texts: list[str], asked: Asked, model: str) -> Outgoing:
        """https://ai.google.dev/api/embeddings#method:-models.batchembedcontents"""
        more: dict[str, Any] = {}
        if asked.get("dimensions"):
            more["outputDimensionality"] = asked["dimensions"]
        if asked.get("task_type"):
            more["taskType"] = asked["task_type"]
        resource = model if model.startswith("models/") else f"models/{model}"
        requests = [{"model": resource, "content": {"parts": [{"text": text}]}, **more} for text in texts]
        return Outgoing(self.path(model, "batchEmbedContents"), JSON.encode({"requests": requests}))

    def embedded(self, told: Mapping[str, Any], asked: Asked) -> tuple[list[list[float]], int]:
        """The vectors and the tokens of an embedding's answer."""
        tokens = (told.get("usageMetadata") or {}).get("promptTokenCount")
        counted = sum(len(text) for text in texts_of(asked)) // 4 if tokens is None else int(tokens)
        return [one["values"] for one in told["embeddings"]], counted


def texts_of(asked: Asked) -> list[str]:
    """What is to be embedded. Raises BadRequest for tokens."""
    given = asked["input"]
    texts = [given] if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest("This target embeds texts, not tokens.", param="input", code="unsupported_parameter")
    return list(texts)
