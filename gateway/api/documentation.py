"""The hot paths in the API's documentation: FastAPI does not serve them, so it is told what they take."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI

from gateway.api.completions import CompletionEnvelope
from gateway.api.messages_request import MessagesEnvelope
from gateway.api.responses_request import ResponsesEnvelope
from gateway.envelopes import ChatEnvelope, EmbeddingsEnvelope, ModerationsEnvelope, RerankEnvelope

_PATHS = {
    "/v1/chat/completions": (ChatEnvelope, "Chat completion, streamed or not", "chat"),
    "/v1/completions": (CompletionEnvelope, "OpenAI's older text completion, streamed or not", "chat"),
    "/v1/messages": (MessagesEnvelope, "Anthropic's Messages API, streamed or not", "chat"),
    "/v1/responses": (ResponsesEnvelope, "OpenAI's Responses API, streamed or not", "responses"),
    "/v1/embeddings": (EmbeddingsEnvelope, "Embeddings", "embeddings"),
    "/v1/rerank": (RerankEnvelope, "Documents by their relevance to a query", "rerank"),
    "/v1/moderations": (ModerationsEnvelope, "What is harmful in texts and pictures", "moderations"),
}


def install(app: FastAPI) -> None:
    """Add the hot paths to what `/openapi.json` and `/docs` show. Fields that are not named there pass through."""
    of_routes = app.openapi

    def openapi() -> dict[str, Any]:
        document = of_routes()
        _, shapes = msgspec.json.schema_components(
            [envelope for envelope, _, _ in _PATHS.values()], ref_template="#/components/schemas/{name}"
        )
        document.setdefault("components", {}).setdefault("schemas", {}).update(shapes)
        for path, (envelope, summary, tag) in _PATHS.items():
            shape = {"$ref": f"#/components/schemas/{envelope.__name__}"}
            body = {"required": True, "content": {"application/json": {"schema": shape}}}
            answers = {"200": {"description": "As the API's vendor answers"}, "default": {"description": "Its error"}}
            document["paths"][path] = {
                "post": {"tags": [tag], "summary": summary, "requestBody": body, "responses": answers}
            }
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
