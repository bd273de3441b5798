"""Gemini and embedding models on Vertex AI: the Gemini API's contents at other paths, its embeddings by `predict`.

https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference and …/text-embeddings-api
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.chat import JSON
from gateway.providers.dialect import Asked, Outgoing
from gateway.providers.gemini import Gemini


class Vertex(Gemini):
    """The dialect for one project and location."""

    def __init__(self, project: str, location: str) -> None:
        self._where = f"/v1/projects/{quote(project, safe=':-._~')}/locations/{location}"

    def path(self, model: str, method: str) -> bytes:
        """`model` is a name of Google's, `publisher/name`, or a tuned model's `endpoints/…`."""
        publisher, _, name = model.rpartition("/")
        if publisher == "endpoints":
            resource = f"endpoints/{quote(name, safe='-._~')}"
        else:
            whose = quote(publisher or "google", safe="-._~")
            resource = f"publishers/{whose}/models/{quote(name, safe='-._~@')}"
        return f"{self._where}/{resource}:{method}".encode("ascii")

    def embedding(self, texts: list[str], asked: Asked, model: str) -> Outgoing:
        kind = {"task_type": asked["task_type"]} if asked.get("task_type") else {}
        body: dict[str, Any] = {"instances": [{"content": text, **kind} for text in texts]}
        if asked.get("dimensions"):
            body["parameters"] = {"outputDimensionality": asked["dimensions"]}
        return Outgoing(self.path(model, "predict"), JSON.encode(body))

    def embedded(self, told: Mapping[str, Any], asked: Asked) -> tuple[list[list[float]], int]:
        embeddings = [one["embeddings"] for one in told["predictions"]]
        tokens = sum(int((one.get("statistics") or {}).get("token_count") or 0) for one in embeddings)
        return [one["values"] for one in embeddings], tokens
