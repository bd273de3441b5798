"""Passages in a better order, by any server that speaks `/rerank` as Cohere and Jina shaped it: TEI, vLLM, Infinity.

https://docs.cohere.com/reference/rerank and https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from retrieval.passages import RetrievalUnavailable


class EndpointReranker:
    """A cross-encoder behind HTTP. `url` ends before `/rerank`."""

    def __init__(self, url: str, *, model: str, api_key: str | None = None) -> None:
        self._model = model
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=httpx.Timeout(30.0, connect=5.0))

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, in the order given. Raises RetrievalUnavailable."""
        body = {"model": self._model, "query": query, "documents": list(texts), "top_n": len(texts)}
        try:
            response = await self._client.post("/rerank", json=body)
        except (httpx.HTTPError, OSError) as error:
            raise RetrievalUnavailable("the reranking server can't be reached") from error
        if response.status_code != 200:
            raise RetrievalUnavailable(f"the reranking server answered with HTTP {response.status_code}")
        try:
            scores = {int(item["index"]): float(item["relevance_score"]) for item in response.json()["results"]}
            return [scores[place] for place in range(len(texts))]
        except (ValueError, KeyError, TypeError) as error:
            raise RetrievalUnavailable("the reranking server's answer can't be read") from error

    async def aclose(self) -> None:
        await self._client.aclose()
