"""An imitation of Bedrock's Converse API: checks the signature as AWS does, and speaks its event-stream framing.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
Start it with `Vendor(answers=BedrockAnswer)`.
"""

from __future__ import annotations

import binascii
import json
import re
import struct
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from upstream.vendor import Answer, Seen

ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI-canary", "eu-central-1"
_PATH = re.compile(r"/model/([^/]+)/(converse|converse-stream|invoke)")
_TOP = {
    "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig", "additionalModelRequestFields",
    "promptVariables", "requestMetadata", "performanceConfig",
}  # fmt: skip
_BLOCKS = {
    "text",
    "image",
    "document",
    "video",
    "toolUse",
    "toolResult",
    "guardContent",
    "cachePoint",
    "reasoningContent",
}
REASONING = {"reasoningText": {"text": "I think so.", "signature": "c2ln"}}


def _event(kind: str) -> dict[str, str]:
    return {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html"""
    told = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(told) + len(payload), len(told))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    return prelude + told + payload + struct.pack(">I", binascii.crc32(prelude + told + payload))


class BedrockAnswer(Answer):
    request_id = "x-amzn-RequestId: amzn_upstream"
    stream_type = "application/vnd.amazon.eventstream"
    # Their framing has no comments; what clients must pass over is an event of a type that they do not know.
    keepalive = frame(_event("ping"), b"{}")

    def model_of(self, seen: Seen) -> str:
        found = _PATH.fullmatch(seen.path)
        return unquote(found[1]) if found else ""

    def streams(self) -> bool:
        return self._seen.path.endswith("/converse-stream")

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"message": message}

    def _refusal(self) -> str | None:
        seen, body = self._seen, self._seen.body
        if seen.headers.get("authorization") != f"Bearer {self._vendor.api_key}" and not self._signed():
            return "The request signature we calculated does not match the signature you provided."
        found = _PATH.fullmatch(seen.path)
        if found is None:
            return f"unknown path {seen.path}"
        if found[2] == "invoke":
            return None
        if unknown := set(body) - _TOP:
            return f"extraneous key [{sorted(unknown)[0]}] is not permitted"
        if unknown := set(body.get("inferenceConfig", {})) - {"maxTokens", "temperature", "topP", "stopSequences"}:
            return f"extraneous key [{sorted(unknown)[0]}] is not permitted"
        return _messages(body)

    def _signed(self) -> bool:
        """Sign again what came, with the secret that only both sides know, and compare."""
        headers = self._seen.headers
        given = headers.get("authorization", "")
        names = re.search(r"SignedHeaders=([^,]+)", given)
        if names is None or "x-amz-date" not in headers:
            return False
        request = AWSRequest(
            method="POST",
            url=f"http://{headers['host']}{self._seen.path}",
            data=self._seen.raw,
            headers={name: headers[name] for name in names[1].split(";") if name not in ("host", "x-amz-date")},
        )
        request.context["timestamp"] = headers["x-amz-date"]
        signer = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "bedrock", REGION)
        request.headers["X-Amz-Date"] = headers["x-amz-date"]
        canonical = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        return given.endswith(f"Signature={signature}")

    def document(self) -> dict[str, Any]:
        if self._seen.path.endswith("/invoke"):
            body = self._seen.body
            if "texts" in body:
                return {"embeddings": {"float": [[float(len(text)), 0.5] for text in body["texts"]]}}
            return {"embedding": [float(len(body["inputText"])), 0.5, -1.0], "inputTextTokenCount": 5}
        return {
            "output": {"message": {"role": "assistant", "content": self._blocks()}},
            "stopReason": self._stop(),
            "usage": self._usage(),
            "metrics": {"latencyMs": 5},
        }

    def frames(self) -> Iterable[bytes]:
        events: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
        for index, block in enumerate(self._blocks()):
            at = {"contentBlockIndex": index}
            if "text" in block:
                size = self._how.get("piece", 4)
                text = block["text"]
                deltas: list[dict[str, Any]] = [{"text": text[i : i + size]} for i in range(0, len(text), size)]
            elif "toolUse" in block:
                call = block["toolUse"]
                start = {"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}}
                events.append(("contentBlockStart", {**at, "start": start}))
                told = json.dumps(call["input"], ensure_ascii=False)
                deltas = [{"toolUse": {"input": told[i : i + 5]}} for i in range(0, len(told), 5)]
            else:
                told = block["reasoningContent"]["reasoningText"]
                deltas = [
                    {"reasoningContent": {"text": told["text"]}},
                    {"reasoningContent": {"signature": told["signature"]}},
                ]
            events += [("contentBlockDelta", {**at, "delta": delta}) for delta in deltas]
            events.append(("contentBlockStop", at))
        events.append(("messageStop", {"stopReason": self._stop()}))
        events.append(("metadata", {"usage": self._usage(), "metrics": {"latencyMs": 5}}))
        last = self._how.get("exception_after", 0) if "exception" in self._how else len(events)
        for kind, event in events[:last]:
            yield frame(_event(kind), self._json_of(event))
        if "exception" in self._how:
            told = {":message-type": "exception", ":exception-type": self._how["exception"]}
            yield frame(told, self._json_of({"message": "it went wrong"}))

    def bad_frame(self) -> bytes:
        good = frame(_event("contentBlockDelta"), b'{"contentBlockIndex": 0}')
        return good[:-1] + bytes([good[-1] ^ 1])  # its checksum is wrong

    def framed(self, payload: bytes) -> bytes:
        return frame(_event("contentBlockDelta"), payload)

    def _json_of(self, event: dict[str, Any]) -> bytes:
        return json.dumps(self._spoilt(event), ensure_ascii=False).encode()

    def _blocks(self) -> list[dict[str, Any]]:
        body = self._seen.body
        blocks: list[dict[str, Any]] = []
        if body.get("additionalModelRequestFields"):
            blocks.append({"reasoningContent": REASONING})
        if body.get("toolConfig"):
            return blocks + [
                {"toolUse": {"toolUseId": f"tooluse_{n}", "name": tool["toolSpec"]["name"],
                             "input": {"city": "Zürich 🏔", "n": n}}}
                for n, tool in enumerate(body["toolConfig"]["tools"])
            ]  # fmt: skip
        content = body["messages"][-1]["content"]
        said = " ".join(block.get("text") or json.dumps(block, sort_keys=True) for block in content)
        told = str(self._how["text"]) * int(self._how.get("repeat", 1)) if "text" in self._how else f"echo: {said}"
        return [*blocks, {"text": told}]

    def _stop(self) -> str:
        return str(self._how.get("finish", "tool_use" if self._seen.body.get("toolConfig") else "end_turn"))

    def _usage(self) -> dict[str, int]:
        return {
            "inputTokens": 8,
            "outputTokens": 5,
            "totalTokens": 16,
            "cacheReadInputTokens": 3,
            "cacheWriteInputTokens": 0,
        }


def _messages(body: dict[str, Any]) -> str | None:
    turns = body["messages"]
    if not turns or turns[0]["role"] != "user":
        return "A conversation must start with a user message."
    open_calls: set[str] = set()
    for order, turn in enumerate(turns):
        if order and turn["role"] == turns[order - 1]["role"]:
            return "A conversation must alternate between user and assistant roles."
        if not turn["content"]:
            return f"The content field at messages.{order} is empty."
        for block in turn["content"]:
            if len(block) != 1 or set(block) - _BLOCKS:
                return f"messages.{order}: a content block holds exactly one known member"
            if "text" in block and not block["text"]:
                return f"messages.{order}: text is blank"
            if "toolUse" in block:
                open_calls.add(block["toolUse"]["toolUseId"])
            if "toolResult" in block:
                if block["toolResult"]["toolUseId"] not in open_calls:
                    return "a toolResult has no toolUse before it"
                open_calls.discard(block["toolResult"]["toolUseId"])
            if "reasoningContent" in block and block["reasoningContent"] != REASONING:
                return "the reasoning's signature is not the one that was given"
            if "image" in block:
                binascii.a2b_base64(block["image"]["source"]["bytes"], strict_mode=True)
    return None
