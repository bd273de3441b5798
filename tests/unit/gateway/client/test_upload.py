"""An upload whose indexing takes longer than it waits, and files that a gateway refuses or loses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from gateway.client import Client


class Stores:
    """The part of `/v1/files` and `/v1/vector_stores` that an upload asks, with one file's status to be set."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        self.status = "in_progress"
        self.refuse: int | None = None
        self.asked: list[str] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/v1")
        self.asked.append(f"{request.method} {path}")
        if request.method == "POST" and path == "/files":
            if self.refuse:
                return httpx2.Response(self.refuse, json={"error": {"message": "No.", "code": "c", "type": "t"}})
            return httpx2.Response(200, json={"id": f"file-{len(self.asked)}", "object": "file"})
        if request.method == "POST":
            told = json.loads(request.content)
            self.files[told["file_id"]] = {"id": told["file_id"], "attributes": told["attributes"]}
            return httpx2.Response(200, json=self._entry(told["file_id"]))
        if request.method == "DELETE":
            return httpx2.Response(404, json={"error": {"message": "Gone.", "code": "not_found", "type": "t"}})
        if path.endswith("/files"):
            wanted = request.url.params.get("filter") in (None, self.status)
            data = [self._entry(each) for each in reversed(self.files)] if wanted else []
            return httpx2.Response(200, json={"object": "list", "data": data, "has_more": False})
        file_id = path.rpartition("/")[2]
        if file_id in self.files:
            return httpx2.Response(200, json=self._entry(file_id))
        return httpx2.Response(404, json={"error": {"message": "Gone.", "code": "not_found", "type": "t"}})

    def _entry(self, file_id: str) -> dict[str, Any]:
        return {"object": "vector_store.file", "status": self.status, "last_error": None, **self.files[file_id]}


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture
def upload(stores: Stores, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    file = tmp_path / "a.md"
    file.write_text("# A\n")
    transport = httpx2.MockTransport(stores.answer)
    with Client("http://gateway", http_client=httpx2.Client(transport=transport), max_retries=0) as client:
        yield lambda **more: client.knowledge.upload(file, store_id="vs_1", **more)


def test_who_has_not_waited_long_enough_uploads_again_and_loads_nothing_twice(
    stores: Stores, upload: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(TimeoutError, match=r"1 files are not indexed after 0 s, a\.md among them"):
        upload(within=0)
    assert stores.asked.count("POST /files") == 1

    steps: list[str] = []

    def told(progress: Any) -> None:
        steps.append(progress.step)
        stores.status = "completed"

    loaded = upload(on_progress=told)
    assert steps == ["indexing", "indexed"]
    assert stores.asked.count("POST /files") == 1
    assert [file.file_id for file in loaded.files] == list(stores.files)

    # Changed: the old form goes when the new one is indexed; that somebody else took it away already is no fault.
    (tmp_path / "a.md").write_text("# B\n")
    assert upload().files[0].step == "indexed"
    assert stores.asked[-1] == f"DELETE /files/{loaded.files[0].file_id}"


def test_a_file_that_somebody_takes_away_meanwhile_has_failed(stores: Stores, upload: Callable[..., Any]) -> None:
    def told(progress: Any) -> None:
        if progress.step == "indexing":
            stores.files.clear()

    loaded = upload(on_progress=told)
    assert [(file.step, file.error) for file in loaded.failed] == [("failed", "it was removed meanwhile")]


def test_a_file_that_is_refused_has_failed_and_a_wrong_key_is_an_error(
    stores: Stores, upload: Callable[..., Any]
) -> None:
    stores.refuse = 413
    (failed,) = upload().failed
    assert failed.error is not None
    assert failed.error.endswith("No.")
    stores.refuse = 401
    with pytest.raises(openai.AuthenticationError):
        upload()


def test_a_vector_store_has_to_be_named(stores: Stores, upload: Callable[..., Any], tmp_path: Path) -> None:
    with Client("http://gateway") as client, pytest.raises(ValueError, match="say which vector store"):
        client.knowledge.upload(tmp_path / "a.md")
