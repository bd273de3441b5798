"""`rag-gateway providers`: what each kind of provider can do, as the table of docs/providers.md."""

from __future__ import annotations

from collections.abc import Iterator

import click

from gateway.providers.dialect import Capabilities

_SERVED = "`chat.completions`, `embeddings`, `rerank`"
_MODERATING = frozenset({"openai", "openai_compatible"})
_OPENAI = ("yes", "yes", "yes", "yes", "yes", "all are relayed")
_RELAYED = {
    "openai": "OpenAI",
    "openai_compatible": "any service with OpenAI's API",
    "vllm": "a vLLM server",
    "azure_openai": "Azure OpenAI",
}
_ANY = ("`chat.completions`, `embeddings`", *["as any-llm has it"] * 5, "as any-llm has it")
_HEAD = ("kind", "what it is", "serves", "images", "tools", "JSON schema", "reasoning", "`n`", "other chat fields")
_IN_COLUMNS = {"tools", "response_format", "reasoning_effort"}


@click.command("providers")
def providers() -> None:
    """Print what each kind of provider can do, as a table in Markdown."""
    click.echo("\n".join(table()))


def table() -> Iterator[str]:
    """The lines of the table and the notes under it, made from what the dialects say of themselves."""
    yield _row(*_HEAD)
    yield _row(*("---" for _ in _HEAD))
    for kind, title in _RELAYED.items():
        served = f"{_SERVED}, `moderations`" if kind in _MODERATING else _SERVED
        yield _row(f"`{kind}`", title, served, *_OPENAI)
    dialects = _dialects()
    for kind, (title, can) in dialects.items():
        fields = ", ".join(f"`{name}`" for name in sorted(can.fields["chat.completions"] - _IN_COLUMNS))
        yield _row(
            f"`{kind}`",
            title,
            ", ".join(f"`{endpoint}`" for endpoint in can.fields),
            *("yes" if able else "no" for able in (can.images, can.tools, can.json_schema, can.reasoning)),
            "yes" if can.choices else "by calls side by side",
            fields,
        )
    yield _row("`any_llm`", "a vendor of the long tail, through any-llm", *_ANY)
    yield ""
    noted: dict[str, list[str]] = {}
    for kind, (_, can) in dialects.items():
        for note in can.notes:
            noted.setdefault(note, []).append(f"`{kind}`")
    for note, those in noted.items():
        yield f"- {', '.join(those)}: {note}"


def _dialects() -> dict[str, tuple[str, Capabilities]]:
    from gateway.providers.anthropic import Anthropic
    from gateway.providers.bedrock import Bedrock
    from gateway.providers.cohere import Cohere
    from gateway.providers.gemini import Gemini
    from gateway.providers.mistral import Mistral
    from gateway.providers.vertex import Vertex

    return {
        "anthropic": ("Anthropic's Messages API", Anthropic.capabilities),
        "gemini": ("Google's Gemini API", Gemini.capabilities),
        "vertex": ("Gemini on Vertex AI", Vertex.capabilities),
        "bedrock": ("Amazon Bedrock's Converse API", Bedrock.capabilities),
        "mistral": ("Mistral's API", Mistral.capabilities),
        "cohere": ("Cohere's v2 API", Cohere.capabilities),
    }


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
