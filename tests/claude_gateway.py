"""A gateway in front of two imitated vendors, Anthropic and OpenAI, for the tests of Anthropic's API on either side."""

from __future__ import annotations

from typing import Any

from sample_gateway import gateway_configuration
from upstream.anthropic import AnthropicVendor
from upstream.vendor import Vendor


def claude_configuration(openai: Vendor, claude: AnthropicVendor) -> dict[str, Any]:
    """The sample gateway's keys and models, and the same models again over the Anthropic vendor: `claude-…`."""
    configuration = gateway_configuration(openai)
    mock = configuration["providers"]["mock"]
    anthropic = {**mock, "kind": "anthropic", "base_url": claude.url, "api_key": claude.api_key}
    configuration["providers"] |= {
        "claude": anthropic,
        "claude_patient": {**anthropic, "timeouts": configuration["providers"]["patient"]["timeouts"]},
        "claude_dropping": {**anthropic, "unsupported": "drop"},
        "claude_keys": {
            **{name: value for name, value in anthropic.items() if name != "api_key"},
            "api_keys": ["sk-ant-bad-1", claude.api_key],
        },
    }
    models = configuration["models"]
    cached, masked = models["cached"], models["masked"]
    configuration["models"] |= {
        "claude": {"targets": ["claude/claude-sonnet-5"]},
        "claude-old": {"targets": ["claude/claude-sonnet-4-5"]},
        "claude-dropping": {"targets": ["claude_dropping/claude-opus-5"]},
        "claude-masked": {**masked, "targets": ["claude/claude-guarded"]},
        "claude-cached": {**cached, "targets": ["claude_patient/claude-cached"]},
        "claude-blocked": {**models["blocked"], "targets": ["claude/claude-guarded"]},
        "claude-fallback": {"targets": ["claude/claude-first"], "fallbacks": ["mock/second"]},
    }
    return configuration
