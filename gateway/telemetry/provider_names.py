"""What the GenAI conventions call the providers that the configuration names as it likes."""

from __future__ import annotations

from urllib.parse import urlsplit

# `gen_ai.provider.name` of v1.41. A server of one's own has no name there, and is called by its kind.
_BY_KIND = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "cohere": "cohere",
    "mistral": "mistral_ai",
}
_BY_HOST = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "api.moonshot.ai": "moonshot_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}


def provider_name(settings: object) -> str:
    """Of an entry of the configuration's `providers`."""
    kind = str(getattr(settings, "kind", ""))
    if kind == "openai_compatible":
        return _BY_HOST.get(urlsplit(str(getattr(settings, "base_url", ""))).hostname or "", kind)
    if kind == "any_llm":
        return str(getattr(settings, "vendor", kind))
    return _BY_KIND.get(kind, kind)
