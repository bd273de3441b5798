"""An imitation of OpenAI's HTTP API, strict in what it takes, that misbehaves on command.

It is the one thing that the tests imitate. A raw socket server, so that it can do what an HTTP library would not:
cut an event in two, reset a connection, lie about a length. Commands come in the upstream model's name:
`behave:{"gap": 0.05, "die_after": 3}`, or by a name that a test has given a behaviour with `behaviours`; any other
name answers by the book. It keeps its own log of what came and
when each connection closed: the judge of what the gateway really sent.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httptools

MODERATED = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip

KNOWN_FIELDS = {
    "model", "messages", "stream", "stream_options", "n", "temperature", "top_p", "frequency_penalty",
    "presence_penalty", "max_tokens", "max_completion_tokens", "seed", "stop", "logprobs", "top_logprobs",
    "logit_bias", "tools", "tool_choice", "parallel_tool_calls", "response_format", "metadata", "user", "store",
    "reasoning_effort", "service_tier", "safety_identifier", "prompt_cache_key", "modalities", "verbosity",
    "functions", "function_call", "prediction", "audio", "web_search_options",
}  # fmt: skip
EMBEDDING_FIELDS = {"model", "input", "encoding_format", "dimensions", "user"}
RERANK_FIELDS = {"model", "query", "documents", "top_n", "user", "truncate_prompt_tokens"}  # as vLLM takes them


@dataclass
class Seen:
    """One request as it came, and what became of its connection."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes
    at: float
    closed_at: float | None = None
    answered: bool = False
    sent: int = 0  # bytes of a stream that the other side had room for


@dataclass
class Vendor:
    """Start with `with Vendor() as vendor`; it runs in a thread of its own, on a free loopback port."""

    port: int = 0
    requests: list[Seen] = field(default_factory=list)
    open_connections: int = 0
    api_key: str = "sk-upstream-canary-4711"
    behaviours: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: type[Answer] | None = None  # another vendor's format; OpenAI's where not given

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failures: Counter[str] = Counter()
        self.running: Counter[str] = Counter()  # of models with a `capacity`: calls now, and at most
        self.most_running: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Vendor:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; True when the connection may go on. Other vendors' imitations answer otherwise."""
        return await (self.answers or Answer)(self, seen, writer).give()

    def clear(self) -> None:
        """Forget what came and how to behave."""
        self.behaviours.clear()
        self.requests.clear()
        self.failures.clear()
        self.most_running.clear()

    @property
    def unsettled(self) -> list[Seen]:
        """Requests that are neither answered whole nor given up by the gateway."""
        return [seen for seen in list(self.requests) if not seen.answered and seen.closed_at is None]

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, limit=2**26, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen: Seen | None = None
        try:
            while (request := await _read_request(reader)) is not None:
                path, headers, raw = request
                try:
                    body = json.loads(raw)
                except ValueError:
                    body = {}
                seen = Seen(path, headers, body, raw, time.monotonic())
                self.requests.append(seen)
                gone = asyncio.ensure_future(reader.read(1))
                answer = asyncio.ensure_future(self.answer(seen, writer))
                await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
                left = gone.done()
                for task in (gone, answer):
                    task.cancel()  # without effect on the one that is done
                told, _ = await asyncio.gather(answer, gone, return_exceptions=True)
                if isinstance(told, asyncio.CancelledError | ConnectionError):
                    return  # the client left
                if isinstance(told, BaseException):
                    raise told
                seen.answered = True
                if left or not told:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            if seen is not None:
                seen.closed_at = time.monotonic()
            self.open_connections -= 1
            writer.close()


class _Collector:
    def __init__(self) -> None:
        self.url, self.headers, self.body, self.complete = b"", {}, b"", False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        known = name.decode().lower()
        assert known not in self.headers, f"{known} was sent twice"
        self.headers[known] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    while not collector.complete:
        data = await reader.read(65536)
        if not data:
            return None
        parser.feed_data(data)
    return collector.url.decode(), collector.headers, collector.body


@cache
def _bomb() -> bytes:
    return gzip.compress(b"0" * 50_000_000)


class Answer:
    """One answer, by the book or as commanded."""

    request_id = "x-request-id: req_upstream"

    def __init__(self, vendor: Vendor, seen: Seen, writer: asyncio.StreamWriter) -> None:
        self._vendor, self._seen, self._writer = vendor, seen, writer
        model = self.model_of(seen)
        self._model = model
        if str(model).startswith("behave:"):
            self._how: dict[str, Any] = json.loads(model[7:])
        else:
            self._how = vendor.behaviours.get(model, {})

    # -- what differs from vendor to vendor --------------------------------------------------------------
    stream_type = "text/event-stream"
    breakable = '"choices"'  # where `multiline` puts a line break into an event's JSON
    keepalive = b": ping\n\n"
    last_word = b"data: [DONE]\n\n"  # what ends a stream beside its last event

    def model_of(self, seen: Seen) -> str:
        return str(seen.body.get("model", ""))

    def streams(self) -> bool:
        return bool(self._seen.body.get("stream"))

    def document(self) -> dict[str, Any]:
        """The whole answer."""
        if self._seen.path.endswith("/rerank"):
            return self._reranked()
        if self._seen.path.endswith("/moderations"):
            return self._moderated()
        return self._embeddings() if self._seen.path.endswith("/embeddings") else self._completion()

    def error(self, status: int, message: str) -> dict[str, Any]:
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {
            "error": {"message": message, "type": kind, "param": self._how.get("param"), "code": self._how.get("code")}
        }

    def frames(self) -> Iterable[bytes]:
        """The stream's events as they go onto the wire, in the order of their telling; made as they are sent."""
        yield from map(self._sse, self._events())
        yield b"data: [DONE]" + self._newline * 2

    def bad_frame(self) -> bytes:
        return b'data: {"choices": [{"delta": ' + self._newline * 2

    def framed(self, payload: bytes) -> bytes:
        """A stream of one event that holds this, whatever it is."""
        return b"data: " + payload + b"\n\n" + self.last_word

    # ----------------------------------------------------------------------------------------------------
    @property
    def _newline(self) -> bytes:
        return b"\r\n" if self._how.get("crlf") else b"\n"

    def _sse(self, event: dict[str, Any], name: str | None = None) -> bytes:
        """One server-sent event, as plain or as odd as the behaviour asks for."""
        how = self._how
        text = json.dumps(self._spoilt(event), ensure_ascii=False)
        if how.get("multiline"):
            text = text.replace(self.breakable, "\n" + self.breakable, 1)
        lines = [b"data: " + line.encode() for line in text.split("\n")]
        if name is not None:
            lines.insert(0, b"event: " + name.encode())
        if how.get("comments"):
            lines.insert(0, b": a comment")
        return self._newline.join(lines) + self._newline * 2

    def _spoilt(self, document: dict[str, Any]) -> Any:
        """What is told in place of an answer's or an event's JSON; `spoil`, a function of it, is the test's."""
        return self._how["spoil"](document) if "spoil" in self._how else document

    async def give(self) -> bool:
        """Answer; True when the connection may go on."""
        how = self._how
        if fault := self._refusal():
            return await self._error(400, fault)
        if "refuse_key" in how and how["refuse_key"] in self._seen.headers["authorization"]:
            return await self._error(401, "Incorrect API key provided: {key}")
        if "delay" in how:
            await asyncio.sleep(how["delay"])
        if "capacity" in how:
            await self._compute()
        if "status" in how and self._still_fails():
            message = how.get("message", "The server had an error")
            return await self._error(how["status"], message.replace("{key}", self._vendor.api_key))
        if "body" in how:
            return await self._garbage(how["body"])
        if self.streams():
            return await self._stream()
        return await self._json(self.document())

    async def _compute(self) -> None:
        """`work` seconds, as on a GPU: `capacity` calls side by side, and more of them slow each other down so much that
        together they take longer than one after the other."""
        running, model = self._vendor.running, self._model
        running[model] += 1
        try:
            left = float(self._how["work"])
            while left > 0:
                slow = max(1.0, running[model] / self._how["capacity"]) ** 2
                self._vendor.most_running[model] = max(self._vendor.most_running[model], running[model])
                began = time.monotonic()
                await asyncio.sleep(min(left * slow, self._how["work"] / 4))
                left -= (time.monotonic() - began) / slow
        finally:
            running[model] -= 1

    def _still_fails(self) -> bool:
        """Whether a fault is to be; `fail_times` limits how often one is."""
        if "fail_times" not in self._how:
            return True
        self._vendor.failures[self._model] += 1
        return self._vendor.failures[self._model] <= int(self._how["fail_times"])

    def _refusal(self) -> str | None:
        seen, body = self._seen, self._seen.body
        if seen.headers.get("authorization") != f"Bearer {self._vendor.api_key}" and "refuse_key" not in self._how:
            return "Incorrect API key provided"
        if seen.headers.get("content-type") != "application/json":
            return "content-type must be application/json"
        if int(seen.headers["content-length"]) != len(seen.raw):
            return "content-length is wrong"
        of_others = {
            "/v1/embeddings": EMBEDDING_FIELDS, "/v1/rerank": RERANK_FIELDS, "/v1/moderations": {"model", "input"},
        }  # fmt: skip
        known = of_others.get(seen.path, KNOWN_FIELDS)
        if not self._how.get("lenient") and (unknown := set(body) - known):
            return f"Unrecognized request argument supplied: {sorted(unknown)[0]}"
        if "stream_options" in body and not body.get("stream"):
            return "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        if seen.path not in ("/v1/chat/completions", *of_others):
            return f"Invalid URL (POST {seen.path})"
        return None

    # -- answers by the book ----------------------------------------------------------------------------
    def _text(self) -> str:
        if "text" in self._how:
            return str(self._how["text"]) * int(self._how.get("repeat", 1))
        if (form := self._seen.body.get("response_format")) and form["type"] == "json_schema":
            return json.dumps({name: f"a {name}" for name in form["json_schema"]["schema"]["properties"]})
        content = self._seen.body["messages"][-1]["content"]
        text = content if isinstance(content, str) else " ".join(p.get("text", "") for p in content)
        return f"echo: {text}"

    def _frame(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{abs(hash((self._seen.at, self._seen.raw))):x}", "object": kind, "created": 1_760_000_000,
            "model": "mock-2026-01-01", "service_tier": "default", "system_fingerprint": "fp_mock",
        }  # fmt: skip

    def _usage(self) -> dict[str, Any]:
        told = len(self._text()[:100_000].split())  # of 50 MB nobody asks
        return {
            "prompt_tokens": 11, "completion_tokens": told, "total_tokens": 11 + told,
            "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
        }  # fmt: skip

    def _tool_calls(self) -> list[dict[str, Any]]:
        return [
            {"id": f"call_{n}", "type": "function",
             "function": {"name": tool["function"]["name"], "arguments": json.dumps({"city": "Zürich 🏔", "n": n})}}
            for n, tool in enumerate(self._seen.body["tools"])
        ]  # fmt: skip

    def _completion(self) -> dict[str, Any]:
        choices = []
        for index in range(self._seen.body.get("n") or 1):
            message: dict[str, Any] = {"role": "assistant", "content": self._text(), "refusal": None}
            finish = self._how.get("finish", "stop")
            if self._seen.body.get("tools"):
                message |= {"content": None, "tool_calls": self._tool_calls()}
                finish = "tool_calls"
            message |= self._how.get("message_extra", {})
            choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": finish})
        return {**self._frame("chat.completion"), "choices": choices, "usage": self._usage()}

    def _embeddings(self) -> dict[str, Any]:
        given = self._seen.body["input"]
        items = given if isinstance(given, list) else [given]
        data = []
        for index, item in enumerate(items):
            vector: Any = [float(len(item)), 0.5, -1.0]
            if self._seen.body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        return {"object": "list", "data": data, "model": "mock-embed", "usage": usage}

    def _moderated(self) -> dict[str, Any]:
        """What has the word `violence` in it is violent."""
        given = self._seen.body["input"]
        of_one = isinstance(given, str) or isinstance(given[0], dict)
        results = []
        for text in [str(given)] if of_one else given:
            held = {**dict.fromkeys(MODERATED, False), "violence": "violence" in text}
            scores = {category: 0.97 if yes else 0.001 for category, yes in held.items()}
            types = {category: ["text"] for category in held}
            results.append({
                "flagged": any(held.values()), "categories": held, "category_scores": scores,
                "category_applied_input_types": types,
            })  # fmt: skip
        return {"id": "modr-mock", "model": "omni-moderation-mock", "results": results}

    def _reranked(self) -> dict[str, Any]:
        """The longest document first, in vLLM's words."""
        documents = self._seen.body["documents"]
        order = sorted(range(len(documents)), key=lambda n: -len(documents[n]))[: self._seen.body.get("top_n")]
        results = [
            {"index": n, "document": {"text": documents[n], "multi_modal": None}, "relevance_score": 1 / (place + 1)}
            for place, n in enumerate(order)
        ]
        return {"id": "rerank-1", "model": "mock-rerank", "usage": {"total_tokens": 9}, "results": results}

    def _events(self) -> Iterable[dict[str, Any]]:
        frame = self._frame("chat.completion.chunk")

        def event(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            return {**frame, "choices": [choice], "usage": None}

        size = self._how.get("piece", 4)
        for index in range(self._seen.body.get("n") or 1):
            yield event(index, {"role": "assistant", "content": "", "refusal": None})
            if self._seen.body.get("tools"):
                for n, call in enumerate(self._tool_calls()):
                    arguments = call["function"]["arguments"]
                    head = {**call, "index": n, "function": {"name": call["function"]["name"], "arguments": ""}}
                    yield event(index, {"tool_calls": [head]})
                    for i in range(0, len(arguments), 5):
                        piece = {"index": n, "function": {"arguments": arguments[i : i + 5]}}
                        yield event(index, {"tool_calls": [piece]})
                yield event(index, {}, "tool_calls")
                continue
            field_ = self._how.get("field", "content")
            text = self._text()
            cut = self._how.get("cut")
            pieces = [text[:cut], text[cut:]] if cut else [text[i : i + size] for i in range(0, len(text), size)]
            for words in pieces:
                yield event(index, {field_: words})
            yield event(index, {}, self._how.get("finish", "stop"))
        if (self._seen.body.get("stream_options") or {}).get("include_usage"):
            yield {**frame, "choices": [], "usage": self._usage()}

    # -- the wire ---------------------------------------------------------------------------------------
    async def _head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", self.request_id, *(f"{k}: {v}" for k, v in headers.items())]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self._writer.drain()

    async def _json(self, document: dict[str, Any]) -> bool:
        data = json.dumps(self._spoilt(document), ensure_ascii=False).encode()
        await self._head(200, {"content-type": "application/json", "content-length": str(len(data))})
        await self._write(data)
        return True

    async def _error(self, status: int, message: str) -> bool:
        data = json.dumps(self._spoilt(self.error(status, message))).encode()
        headers = {"content-type": "application/json", "content-length": str(len(data))}
        if "retry_after" in self._how:
            headers["retry-after"] = str(self._how["retry_after"])
        if "retry_after_ms" in self._how:
            headers["retry-after-ms"] = str(self._how["retry_after_ms"])
        await self._head(status, headers)
        await self._write(data)
        return True

    async def _write(self, data: bytes) -> None:
        segment = self._how.get("segment")
        if not segment:
            self._writer.write(data)
            await self._writer.drain()
            return
        for start in range(0, len(data), segment):
            self._writer.write(data[start : start + segment])
            await self._writer.drain()
            await asyncio.sleep(0)

    async def _stream(self) -> bool:
        how = self._how
        await self._head(200, {"content-type": self.stream_type, "transfer-encoding": "chunked"})
        if "delay_after" in how:
            await asyncio.sleep(how["delay_after"])
        if how.get("bom"):
            await self._chunk(b"\xef\xbb\xbf")
        for count, frame in enumerate(self.frames()):
            if how.get("die_after") == count and self._still_fails():
                return await self._die(how.get("how", "reset"))
            if how.get("stall_after") == count:
                await self._stall()
            await self._chunk(self.bad_frame() if how.get("bad_event") == count else frame)
            if "gap" in how:
                await asyncio.sleep(how["gap"])
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    async def _chunk(self, data: bytes) -> None:
        segment = self._how.get("segment") or len(data)
        for start in range(0, len(data), segment):
            part = data[start : start + segment]
            self._writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await self._writer.drain()
            self._seen.sent += len(part)
            if self._how.get("segment"):
                await asyncio.sleep(0)

    async def _stall(self) -> None:
        while True:
            if self._how.get("ping"):
                await self._chunk(self.keepalive)
            await asyncio.sleep(0.1)

    async def _die(self, how: str) -> bool:
        if how == "reset":
            await asyncio.sleep(0.05)  # let what was written arrive, or the reset would discard it
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        elif how == "truncated":
            self._writer.write(b"ff\r\ndata: {")
            await self._writer.drain()
        elif how == "end":
            self._writer.write(b"0\r\n\r\n")  # a proper end of the body, but not of the stream
            await self._writer.drain()
        return False

    async def _garbage(self, kind: str) -> bool:
        stream = self.streams()
        headers = {"content-type": self.stream_type if stream else "application/json"}
        good = json.dumps(self.document()).encode()
        data = {
            "html": b"<html><body>It works!</body></html>",
            "bad_json": b'{"id": "x", "choices": [}',
            "bad_utf8": good.replace(b"echo", b"\xff\xfe"),
            "huge_line": b'{"id": "' + b"x" * 10_000_000,
            "not_object": b"[1, 2]",
            "gzip": b"",
            "short": good,
            "long": good + b'{"more": 1}',
            "empty": b"",
        }[kind]
        if kind == "html":
            headers["content-type"] = "text/html"
        if kind == "gzip":
            data = _bomb()
            headers["content-encoding"] = "gzip"
        if stream and kind not in ("html", "gzip"):
            data = self.framed(data)
        length = len(data) + {"short": 50, "long": -11}.get(kind, 0)
        headers["content-length"] = str(length)
        await self._head(200, headers)
        self._writer.write(data)
        await self._writer.drain()
        return False
