"""OpenTelemetry names in one place: GenAI semantic conventions v1.41, and ours where there is no convention.

https://github.com/open-telemetry/semantic-conventions/tree/v1.41.0/docs/gen-ai
The conventions have moved since, and some names with them, without a release so far. Who wants those of tomorrow says
so as for any other instrumentation: `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
CONVERSATION = "gen_ai.conversation.id"
OUTPUT_TYPE = "gen_ai.output.type"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
CHOICE_COUNT = "gen_ai.request.choice.count"
STOP_SEQUENCES = "gen_ai.request.stop_sequences"
ENCODING_FORMATS = "gen_ai.request.encoding_formats"
DIMENSIONS = "gen_ai.embeddings.dimension.count"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
DATA_SOURCE = "gen_ai.data_source.id"
RETRIEVAL_QUERY = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS = "gen_ai.retrieval.documents"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
OPENAI_API = "openai.api.type"
OPENAI_TIER = "openai.request.service_tier"
OPERATION_EXCEPTION = "gen_ai.client.operation.exception"  # an event
EVALUATION_RESULT = "gen_ai.evaluation.result"  # an event
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EXCEPTION_TYPE = "exception.type"
ERROR_TYPE = "error.type"

HTTP_METHOD = "http.request.method"
HTTP_RESEND = "http.request.resend_count"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
URL_FULL = "url.full"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"

DB_SYSTEM = "db.system.name"
DB_OPERATION = "db.operation.name"
DB_COLLECTION = "db.collection.name"
DB_ROWS = "db.response.returned_rows"

CALL_ID = "rag_gateway.call.id"
PURPOSE = "rag_gateway.call.purpose"
MODEL = "rag_gateway.model"
TARGET = "rag_gateway.target"
KEY = "rag_gateway.key"
TENANT = "rag_gateway.tenant"
REVISION = "rag_gateway.revision"
OUTCOME = "rag_gateway.outcome"
CACHE = "rag_gateway.cache"
TEMPLATE = "rag_gateway.template"
ARM = "rag_gateway.arm"
DEGRADED = "rag_gateway.degraded"
COST = "rag_gateway.cost.usd"
ATTEMPTS = "rag_gateway.attempts"
UPSTREAM_ID = "rag_gateway.upstream.request_id"
PASSAGES = "rag_gateway.retrieval.passages"
RETRIEVAL_MODE = "rag_gateway.retrieval.mode"
GUARDRAIL_STAGE = "rag_gateway.guardrail.stage"
GUARDRAIL_NAME = "rag_gateway.guardrail.name"
GUARDRAIL_ACTION = "rag_gateway.guardrail.action"
GUARDRAIL_KINDS = "rag_gateway.guardrail.kinds"
GUARDRAIL_VERDICT = "rag_gateway.guardrail.verdict"
CONTENT = "rag_gateway.content"
EVALUATED_BY = "rag_gateway.evaluation.by"
DRIFT_THRESHOLD = "rag_gateway.drift.threshold"

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

# A request's numbers, by their names at OpenAI. Those of Cohere and vLLM are among them.
FLOATS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
INTEGERS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
}


@dataclass(frozen=True, slots=True)
class Names:
    """Those that differ between the conventions' versions; None where one has no such name."""

    schema_url: str
    retrieval_top_k: str
    top_k_is_integer: bool
    prompt_name: str | None
    prompt_version: str | None
    reasoning_level: str | None
    finish_reason_in_messages: bool


V1_41 = Names(
    schema_url=SCHEMA_URL,
    retrieval_top_k="gen_ai.request.top_k",
    top_k_is_integer=False,
    prompt_name=None,
    prompt_version=None,
    reasoning_level=None,
    finish_reason_in_messages=True,
)
LATEST = Names(
    schema_url="",  # none was published
    retrieval_top_k="gen_ai.retrieval.top_k",
    top_k_is_integer=True,
    prompt_name="gen_ai.prompt.name",
    prompt_version="gen_ai.prompt.version",
    reasoning_level="gen_ai.request.reasoning.level",
    finish_reason_in_messages=False,
)


def chosen(environment: Mapping[str, str]) -> Names:
    """The names that the environment asks for."""
    opted = {name.strip() for name in environment.get(OPT_IN, "").split(",")}
    return LATEST if "gen_ai_latest_experimental" in opted else V1_41
