"""What spans tell of a request: its settings, never what was said. Copied when its call is settled, read off the path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TOLD = frozenset(
    {
        "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "frequency_penalty",
        "presence_penalty", "seed", "n", "stop", "response_format", "service_tier", "reasoning_effort", "dimensions",
        "encoding_format",
    }
)  # fmt: skip
_MOST = 1_000  # bytes; a JSON schema is as long as one likes


def parameters(fields: Mapping[str, Any]) -> dict[str, bytes]:
    """The raw JSON of those that are told. Copied, since a raw value holds on to the whole request."""
    return {name: bytes(fields[name])[:_MOST] for name in fields.keys() & _TOLD}
