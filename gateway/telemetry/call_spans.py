"""A settled call as a tree of spans: the server's, what each stage did beneath it, the model's, and each try at one.

    POST /v1/chat/completions        SERVER    plain HTTP; nothing of `gen_ai` belongs on it
    ├── guardrail input              INTERNAL  what was found, as events
    ├── features                     INTERNAL
    ├── retrieval COLLECTION         CLIENT
    │   ├── embeddings MODEL         CLIENT
    │   └── search COLLECTION        CLIENT    the vector store
    ├── render, cache, queue …       INTERNAL  where they took 50 µs or more
    ├── chat MODEL                   CLIENT    the logical call, with all tries
    │   └── POST                     CLIENT    one a try; the provider is told of it as its parent
    └── guardrail output             INTERNAL

A call that the gateway made of its own begins with an INTERNAL span of its purpose, in its caller's trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.telemetry import names
from gateway.telemetry.attempts import attempt_spans
from gateway.telemetry.inference import inference_span
from gateway.telemetry.labels import error_type
from gateway.telemetry.spans import CLIENT, INTERNAL, SERVER, Tree

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.telemetry.spans import Span, Value

_BRIEF = 50_000  # nanoseconds below which a stage is told by Server-Timing alone
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Facts:
    """What spans tell that no call knows: `provider` gives the conventions' name for a configured provider's."""

    names: names.Names
    provider: Callable[[str], str]
    embedder: str | None = None
    vector_store: str = "milvus"


def call_spans(exchange: Exchange, facts: Facts) -> Tree:
    """Without anything that was said."""
    tree = Tree(exchange.trace_id, exchange.span_id, exchange.trace_state)
    offset = exchange.started_at - exchange.started  # from the monotonic clock to the wall's
    root = _root(exchange, tree, offset)
    calls = [stage for stage in exchange.stages if stage[0] == "call"]
    for stage in exchange.stages:
        name, begin, end = stage
        if name == "call":
            last = stage is calls[-1]
            end = exchange.ended if last else end  # a stream's call lasts until its last chunk
            attempts = [each for each in exchange.attempts if begin <= each.began <= end or (last and not each.began)]
            span = inference_span(exchange, tree, facts, attempts, begin, end, offset, last=last)
            attempt_spans(exchange, tree, span.span_id if span else root.span_id, attempts, offset, last=last)
            continue
        made = _STAGES.get(name)
        if made is not None:
            made(exchange, facts, tree, name, begin + offset, end + offset)
        elif end - begin >= _BRIEF:
            attributes: dict[str, Value] = {names.CACHE: exchange.cache} if name == "cache" else {}
            tree.add(name, INTERNAL, tree.root, begin + offset, end + offset, attributes)
    staged = any(stage[0] == "output_guardrails" for stage in exchange.stages)
    if not staged and any(side == "output" for side, _ in exchange.verdicts):
        # Checks that look at an answer piece by piece, as it comes, are no stage of their own.
        begin = exchange.first_chunk or exchange.ended
        _guardrail(exchange, facts, tree, "output_guardrails", begin + offset, exchange.ended + offset)
    return tree


def _root(exchange: Exchange, tree: Tree, offset: int) -> Span:
    attributes: dict[str, Value] = {names.CALL_ID: exchange.call_id, names.OUTCOME: exchange.outcome}
    if exchange.made_for is not None:
        name, kind = exchange.made_for[0], INTERNAL
        attributes[names.PURPOSE] = name
    else:
        path = names.PATHS[exchange.endpoint]
        name, kind = f"POST {path}", SERVER
        attributes[names.HTTP_METHOD] = "POST"
        attributes[names.HTTP_ROUTE] = attributes[names.URL_PATH] = path
        attributes[names.URL_SCHEME] = "http"
        if exchange.status and not (exchange.outcome == "cancelled" and exchange.status == 499):
            attributes[names.HTTP_STATUS] = exchange.status
    caller = exchange.caller
    if caller is not None:
        attributes[names.KEY] = caller.key_name
        attributes[names.TENANT] = caller.tenant
    told = (
        (names.MODEL, exchange.model),
        (names.TEMPLATE, exchange.template),
        (names.ARM, exchange.arm),
        (names.REVISION, exchange.revision or None),
        (names.COST, exchange.cost),
        (names.TARGET, exchange.target.label if exchange.target is not None else None),
    )
    for key, value in told:
        if value is not None:
            attributes[key] = value
    attributes[names.CACHE] = exchange.cache
    if exchange.degraded:
        attributes[names.DEGRADED] = list(exchange.degraded)
    span = tree.add(
        name,
        kind,
        exchange.trace_parent or "",
        exchange.started + offset,
        exchange.ended + offset,
        attributes,
        tree.root,
    )
    # https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/http/http-spans.md#status: what the
    # client did wrong is no error of the server's.
    if exchange.outcome == "error" and not 400 <= exchange.status < 500:
        span.failed = True
        code = error_type(exchange.error_code)
        attributes[names.ERROR_TYPE] = str(exchange.status) if code == _OTHER else code
    return span


def _guardrail(exchange: Exchange, facts: Facts, tree: Tree, name: str, start: int, end: int) -> None:
    side = "output" if name == "output_guardrails" else "input"
    verdicts = [verdict for stage, verdict in exchange.verdicts if (stage == "output") == (side == "output")]
    span = tree.add(f"guardrail {side}", INTERNAL, tree.root, start, end, {names.GUARDRAIL_STAGE: side})
    for verdict in verdicts:
        told: dict[str, Value] = {names.GUARDRAIL_NAME: verdict.check, names.GUARDRAIL_ACTION: verdict.action}
        if verdict.findings:
            told[names.GUARDRAIL_KINDS] = sorted({finding.kind for finding in verdict.findings})
        span.events.append((names.GUARDRAIL_VERDICT, end, told))


def _retrieval(exchange: Exchange, facts: Facts, tree: Tree, name: str, start: int, end: int) -> None:
    parent = tree.root
    searched = exchange.searched if name == "retrieval" else None
    if name == "file_search":
        attributes: dict[str, Value] = {
            names.OPERATION: "execute_tool", names.TOOL_NAME: "file_search", names.TOOL_TYPE: "datastore",
        }  # fmt: skip
        parent = tree.add("execute_tool file_search", INTERNAL, parent, start, end, attributes).span_id
        collection = ""
    else:
        collection = searched.collection if searched is not None else ""
    attributes = {names.OPERATION: "retrieval", names.PASSAGES: len(exchange.passages)}
    if collection:
        attributes[names.DATA_SOURCE] = collection
    if facts.embedder is not None:
        attributes[names.REQUEST_MODEL] = facts.embedder
    if searched is not None:
        top_k = searched.top_k
        attributes[facts.names.retrieval_top_k] = top_k if facts.names.top_k_is_integer else float(top_k)
        attributes[names.RETRIEVAL_MODE] = searched.mode
    span = tree.add(f"retrieval {collection}".rstrip(), CLIENT, parent, start, end, attributes)
    if name in exchange.degraded or (exchange.error_code == "stage_unavailable" and not exchange.attempts):
        span.failed = True
        attributes[names.ERROR_TYPE] = "stage_unavailable"
    _searches(exchange, facts, tree, span, collection)


def _searches(exchange: Exchange, facts: Facts, tree: Tree, above: Span, collection: str) -> None:
    """What a search asked of others, as it noted it: who was asked, from when to when, and how much came back."""
    offset = exchange.started_at - exchange.started
    for what, begin, end, count in exchange.searches or ():
        if not above.start <= begin + offset <= above.end:
            continue
        if what == "embed":
            model = facts.embedder or ""
            attributes: dict[str, Value] = {names.OPERATION: "embeddings", names.PROVIDER: "rag_gateway"}
            if model:
                attributes[names.REQUEST_MODEL] = model
            tree.add(f"embeddings {model}".rstrip(), CLIENT, above.span_id, begin + offset, end + offset, attributes)
        elif what == "rerank":
            tree.add("rerank", CLIENT, above.span_id, begin + offset, end + offset, {names.PASSAGES: count})
        else:
            attributes = {names.DB_SYSTEM: facts.vector_store, names.DB_OPERATION: what, names.DB_ROWS: count}
            if collection:
                attributes[names.DB_COLLECTION] = collection
            tree.add(f"{what} {collection}".rstrip(), CLIENT, above.span_id, begin + offset, end + offset, attributes)


def _features(exchange: Exchange, facts: Facts, tree: Tree, name: str, start: int, end: int) -> None:
    span = tree.add(name, INTERNAL, tree.root, start, end, {})
    if exchange.features is not None:
        span.attributes["rag_gateway.features.service"] = exchange.features.service
    if name in exchange.degraded:
        span.failed = True
        span.attributes[names.ERROR_TYPE] = "stage_unavailable"


_Made = Callable[["Exchange", Facts, Tree, str, int, int], None]
_STAGES: Mapping[str, _Made] = {
    "input_guardrails": _guardrail,
    "output_guardrails": _guardrail,
    "retrieval": _retrieval,
    "file_search": _retrieval,
    "features": _features,
}
