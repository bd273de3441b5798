"""OpenTelemetry names in one place: GenAI semantic conventions v1.41, and ours where there is no convention.

https://github.com/open-telemetry/semantic-conventions/tree/v1.41.0/docs/gen-ai
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
DATA_SOURCE = "gen_ai.data_source.id"
ERROR_TYPE = "error.type"

HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"

CALL_ID = "rag_gateway.call.id"
MODEL = "rag_gateway.model"
KEY = "rag_gateway.key"
TENANT = "rag_gateway.tenant"
CACHE = "rag_gateway.cache"
TEMPLATE = "rag_gateway.template"
DEGRADED = "rag_gateway.degraded"
ATTEMPTS = "rag_gateway.attempts"
PASSAGES = "rag_gateway.passages"
GUARDRAIL = "rag_gateway.guardrail.verdicts"

# By an API's name in records: the conventions' name for what it does, and its path.
OPERATIONS = {
    "chat.completions": "chat",
    "completions": "text_completion",
    "messages": "chat",
    "responses": "chat",
    "embeddings": "embeddings",
    "rerank": "rerank",
    "moderations": "moderations",
}
PATHS = {
    "chat.completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "moderations": "/v1/moderations",
}
