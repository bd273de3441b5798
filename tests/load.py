"""Calls at a gateway, one after the other from each of a few clients, and what each client saw of its answers."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer that its client has read to the end; `at` is `time.monotonic()` then."""

    call_id: str
    status: int
    at: float
    body: bytes


class Load:
    """Runs as a context manager, in threads. Every other call is a stream."""

    def __init__(self, url: str, key: str, *, model: str = "plain", clients: int = 3) -> None:
        self._address = url.removeprefix("http://")
        self._key = key
        self._model = model
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        self.seen: list[Seen] = []
        self.broken = 0  # calls whose answer did not come whole

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def answered(self) -> list[Seen]:
        return [seen for seen in list(self.seen) if seen.status == 200]

    @property
    def statuses(self) -> set[int]:
        return {seen.status for seen in list(self.seen)}

    def _client(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            for order in range(1_000_000):
                if self._ending.is_set():
                    return
                self._call(connection, stream=bool(order % 2))
        except (OSError, http.client.HTTPException):  # the gateway is gone
            self.broken += 1
        finally:
            connection.close()

    def _call(self, connection: http.client.HTTPConnection, *, stream: bool) -> None:
        asked: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": stream,
        }
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200 and stream and b"[DONE]" not in body:
            self.broken += 1
            return
        self.seen.append(Seen(answer.headers["x-gateway-call-id"], answer.status, time.monotonic(), body))
