"""The SDK client: OpenAI's own, with sources, provenance, feedback and what else a rag-gateway adds.

It needs the `openai` package, and nothing of what the gateway's server needs. docs/client.md shows how it is used.
"""

from gateway.client.answers import (
    Answer,
    AnswerStream,
    AsyncAnswerStream,
    call_id_of,
    citations_of,
    facts_of,
    sources_of,
)
from gateway.client.async_client import AsyncClient
from gateway.client.errors import (
    Blocked,
    BudgetSpent,
    GatewayFault,
    NotCached,
    Overloaded,
    ProviderFailed,
    RateLimited,
    StageUnavailable,
)
from gateway.client.facts import CallFacts
from gateway.client.loading import Loaded, LoadedFile, Progress
from gateway.client.options import Cache, PromptOptions, RagOptions
from gateway.client.provenance import Explanation, Feedback
from gateway.client.sources import Citation, Source
from gateway.client.sync_client import Client

__all__ = [
    "Answer",
    "AnswerStream",
    "AsyncAnswerStream",
    "AsyncClient",
    "Blocked",
    "BudgetSpent",
    "Cache",
    "CallFacts",
    "Citation",
    "Client",
    "Explanation",
    "Feedback",
    "GatewayFault",
    "Loaded",
    "LoadedFile",
    "NotCached",
    "Overloaded",
    "Progress",
    "PromptOptions",
    "ProviderFailed",
    "RagOptions",
    "RateLimited",
    "Source",
    "StageUnavailable",
    "call_id_of",
    "citations_of",
    "facts_of",
    "sources_of",
]
