"""An imitation of Mistral's chat API where it differs from OpenAI's: https://docs.mistral.ai/api

Start it with `Vendor(answers=MistralAnswer)`.
"""

from __future__ import annotations

import re
from typing import Any

from upstream.vendor import Answer

_KNOWN = {
    "model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "metadata",
    "response_format", "tools", "tool_choice", "presence_penalty", "frequency_penalty", "n", "prediction",
    "parallel_tool_calls", "prompt_mode", "safe_prompt",
}  # fmt: skip
_EMBED = {"model", "input", "output_dimension", "output_dtype", "encoding_format", "metadata"}
_ID = re.compile(r"[a-zA-Z0-9]{9}").fullmatch


class MistralAnswer(Answer):
    def error(self, status: int, message: str) -> dict[str, Any]:
        if status == 422:
            return {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": message, "input": {}}]}
        return {"object": "error", "message": message, "type": "invalid_request_error", "param": None, "code": "1500"}

    def _refusal(self) -> str | None:
        seen, body = self._seen, self._seen.body
        if seen.headers.get("authorization") != f"Bearer {self._vendor.api_key}":
            return "Unauthorized"
        known = _EMBED if seen.path.endswith("/embeddings") else _KNOWN
        if unknown := set(body) - known:
            return f"Extra inputs are not permitted: {sorted(unknown)[0]}"
        for message in body.get("messages", ()):
            if message["role"] not in ("system", "user", "assistant", "tool"):
                return f"unknown role {message['role']}"
            ids = [call["id"] for call in message.get("tool_calls") or ()] + [
                message.get("tool_call_id") or "123456789"
            ]
            if not all(_ID(one) for one in ids):
                return "Tool call id has to be defined: a-z, A-Z, 0-9, with a length of 9."
        return None if body.get("tool_choice") != "required" else "tool_choice"

    def _events(self) -> list[dict[str, Any]]:
        """Theirs have the usage in the last chunk, beside its choice, asked for or not."""
        events = list(super()._events())
        for event in events:
            event.pop("usage", None)
        events[-1]["usage"] = self._usage()
        if self._seen.body.get("prompt_mode") == "reasoning":
            thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "I think so."}]}]
            events[0]["choices"][0]["delta"] = {"role": "assistant", "content": thought}
        return events
