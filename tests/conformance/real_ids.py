"""A pytest plugin for OpenAI's own suite: the ids that it makes up become those of objects that are there.

The suite is written for a mock that knows every id. Loaded with `-p real_ids`, each made-up id in a request's path or
body becomes that of a file, vector store, batch or response that was made at the gateway just before.
"""

from __future__ import annotations

import os
import time
from functools import cached_property
from typing import Any

import httpx
import pytest
from openai import _base_client

_KINDS = {
    "file_id": "file", "file-abc123": "file",
    "vector_store_id": "vector_store", "vs_abc123": "vector_store",
    "batch_id": "batch", "vsfb_abc123": "batch",
    "response_id": "response", "resp_123": "response", "resp_677efb5139a88190b512bc3fef8e535d": "response",
}  # fmt: skip


class Objects:
    """A file, in a vector store by a batch, and a response; each made when it is first asked for."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def _made(self, answer: httpx.Response) -> str:
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    @cached_property
    def file(self) -> str:
        sent = {"file": ("parrot.md", b"The office parrot eats walnuts at noon."), "purpose": (None, "assistants")}
        return self._made(self._client.post("/files", files=sent))

    @cached_property
    def vector_store(self) -> str:
        return self._made(self._client.post("/vector_stores", json={"name": "office"}))

    @cached_property
    def batch(self) -> str:
        path = f"/vector_stores/{self.vector_store}/file_batches"
        batch = self._made(self._client.post(path, json={"file_ids": [self.file]}))
        while self._client.get(f"{path}/{batch}").json()["status"] == "in_progress":
            time.sleep(0.02)
        return batch

    @cached_property
    def response(self) -> str:
        asked = {"model": "gpt-6-astra", "input": "hello"}
        return self._made(self._client.post("/responses", json=asked))


class _Ids:
    def __init__(self) -> None:
        self.client = httpx.Client(base_url=os.environ["TEST_API_BASE_URL"], timeout=60, trust_env=False)
        self._objects = Objects(self.client)

    def of(self, name: str) -> str:
        if _KINDS[name] in ("file", "vector_store"):
            _ = self._objects.batch  # the file is in the store
        return str(getattr(self._objects, _KINDS[name]))

    def filled(self, value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return self.of("file_id" if key == "file_ids" else value) if value in _KINDS or key == "file_ids" else value
        if isinstance(value, dict):
            return {name: self.filled(part, name) for name, part in value.items()}
        return [self.filled(part, key) for part in value] if isinstance(value, list | tuple) else value

    def put_into(self, options: Any) -> None:
        parts = options.url.split("/")
        options.url = "/".join(self.of(part) if part in _KINDS else part for part in parts)
        if isinstance(options.json_data, dict):
            options.json_data = self.filled(options.json_data)
        if options.method == "delete":
            self._objects = Objects(self.client)


_IDS = _Ids()
_MOCKED = False


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Some tests bring a mock of their own, which knows the made-up ids."""
    global _MOCKED
    _MOCKED = "respx2_mock" in getattr(item, "fixturenames", ())


def pytest_configure() -> None:
    build = _base_client.BaseClient._build_request

    def with_real_ids(self: Any, options: Any, *, retries_taken: int = 0) -> Any:
        if not retries_taken and not _MOCKED:
            _IDS.put_into(options)
        return build(self, options, retries_taken=retries_taken)

    _base_client.BaseClient._build_request = with_real_ids  # type: ignore[method-assign]  # one place for all clients


def pytest_unconfigure() -> None:
    _IDS.client.close()
