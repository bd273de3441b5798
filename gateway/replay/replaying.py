"""Stored calls, run again with a change: each through the pipeline that its model would have with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.chat import JSON, ChatRequest
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.replay.blocked import guardrails_alone
from gateway.replay.changed import FILE_SEARCH, names_its_template
from gateway.replay.changes import Change, ReplayFault
from gateway.replay.differences import compared, run_again, run_then
from gateway.replay.outcomes import Quality, Replayed
from gateway.replay.pinned import features_of, masked_features, retrieval_of
from gateway.replay.stored import ENDPOINTS, StoredCall
from gateway.routing.beside import note_answer, note_failure
from gateway.values import FROM_CACHE, Caller

if TYPE_CHECKING:
    from gateway.pipeline import Pipeline
    from gateway.replay.bench import Bench, Journey
    from gateway.replay.scoring import Scoring

log = logging.getLogger(__name__)


async def replay_all(
    calls: Sequence[StoredCall],
    change: Change,
    bench: Bench,
    scoring: Scoring | None = None,
    *,
    concurrency: int = 4,
    charge: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> list[Replayed]:
    """Each of `calls` with the same change, in their order; `progress` is told of each that is done."""
    places = asyncio.Semaphore(concurrency)

    async def one(call: StoredCall) -> Replayed:
        async with places:
            try:
                replayed = await replay(call, change, bench, scoring, charge=charge)
            except Exception as fault:  # whatever it is of this one, the others are run
                log.exception("the replay of call %s broke off", call.id)
                replayed = Replayed(call, change, run_then(call), failure=f"it broke off: {type(fault).__name__}")
            progress()
            return replayed

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(call)) for call in calls]
    return [task.result() for task in tasks]


async def replay(
    call: StoredCall, change: Change, bench: Bench, scoring: Scoring | None = None, *, charge: bool = False
) -> Replayed:
    """The call again, with `change`: whole, not streamed, asked of no cache, and with a record of its own.

    It is charged to nobody, unless `charge` says to whomever the call was made for. What hinders it is told in
    `failure`; where it runs and fails, in `again`.
    """
    then, wanted = run_then(call), change
    if call.stopped:  # it saw nothing to which it could be pinned
        change = replace(change, pinned=False)
    alone = call.stopped and change.target is None
    try:
        request = _request(call, change, named=names_its_template(bench.configuration, call))
        journey = await bench.journey(call, change)
        pipeline = guardrails_alone(journey.pipeline) if alone else await _pinned(journey.pipeline, call, change, bench)
    except ReplayFault as fault:
        return Replayed(call, wanted, then, failure=str(fault))
    except GatewayError as fault:
        return Replayed(call, wanted, then, failure=fault.message)
    if pipeline.retrieval is None or not change.searches:
        request.rag = None
    if not change.searches:
        request.file_search = None
    exchange = _exchange(call, journey, bench)
    answer = await _run(pipeline, request, exchange, journey if charge else None)
    again = run_again(exchange, answer)
    quality = Quality()
    if scoring is not None:
        quality = await scoring.score(call, then.answer, answer, exchange)
    notes = _notes(call, change, exchange)
    if alone and exchange.outcome == "ok":
        notes.append("no guardrail blocks it now; nobody was asked: `--target` has it answered")
    return Replayed(call, wanted, then, again, compared(then, again), quality, tuple(notes))


def _request(call: StoredCall, change: Change, *, named: bool) -> ChatRequest:
    """`named`: the request names its template, and no model does. Raises ReplayFault and BadRequest."""
    if call.endpoint not in ENDPOINTS:
        raise ReplayFault(f"calls of {call.endpoint} are not replayed: only those that are answered with words")
    if call.conversation is None:
        raise ReplayFault(
            "a guardrail blocked it on its way in, and what it asked was not kept: with `records: {blocked: on}` and "
            "content recorded, it is kept, encrypted; unless a rule masks that judges whole texts"
            if call.stopped
            else "what was said was not kept: `records: {content: on}`, or `record_content: true` for its model, keeps it"
        )
    body: dict[str, Any] = {**call.parameters, "model": call.model, "messages": list(call.conversation)}
    if "prompt" in body:
        body["prompt"] = _prompt(body["prompt"], call, change, named)
    if call.rag is not None:
        body["rag"] = dict(call.rag)
    if call.file_search is not None:
        body["tools"] = [*body.get("tools", ()), dict(call.file_search)]
    return ChatRequest(JSON.encode(body))


def _prompt(said: dict[str, Any], call: StoredCall, change: Change, named: bool) -> dict[str, Any]:
    """The template that the caller named, with its variables: in the version that it was, unless that is changed."""
    variables = {"variables": said["variables"]} if "variables" in said else {}
    if change.template is not None and not named:
        return variables  # for the model's template, which is the changed one
    wanted = change.template or (call.template if change.pinned else None)
    if wanted is None:
        return said
    name, _, version = wanted.partition("@")
    return {"id": name, "version": version, **variables}


async def _pinned(pipeline: Pipeline, call: StoredCall, change: Change, bench: Bench) -> Pipeline:
    """The pipeline with what the call saw in the place of what would be looked up. Raises ReplayFault."""
    if change.pinned:
        given = None
        if pipeline.prompt is not None and call.features is not None:
            told = "facts" in pipeline.prompt.template.uses
            given = features_of(call, await bench.defined(call.features["service"]) if told else ())
        pipeline = replace(pipeline, features=given)  # type: ignore[arg-type]  # it does what the stage does
    if change.searches:
        if call.file_search is not None and pipeline.file_search is None:
            raise ReplayFault("it searched files, and the configuration has no `retrieval` any more")
        return pipeline
    found = retrieval_of(call)
    prompt = pipeline.prompt
    if prompt is None and call.template == FILE_SEARCH:
        from gateway.prompts.library import built_in
        from gateway.stages.rendering import PromptStage

        prompt = PromptStage(built_in(FILE_SEARCH))
    if found is not None and prompt is None:
        raise ReplayFault("it had passages, and no template would show them: name one")
    return replace(pipeline, retrieval=found, prompt=prompt)


def _exchange(call: StoredCall, journey: Journey, bench: Bench) -> Exchange:
    told = call.record["caller"]
    exchange = Exchange("chat.completions")
    exchange.made_for = ("replay", call.id)
    exchange.caller = Caller(
        call.key_name,
        tenant=call.tenant,
        user=call.user,
        groups=frozenset(told.get("groups") or ()),
        key_id=told.get("key_id") or "",
        priority="low",
        role="operator",  # who replays may name any template that the call's tenant may, drafts among them
    )
    exchange.requested_model = exchange.model = call.model
    exchange.revision = journey.revision.name
    exchange.trace_flags = "00"
    exchange.account = bench.account
    residency = bench.configuration.residency
    if residency is not None:
        # It may have become stricter, and never less strict. What ended before a target was chosen for it, or while
        # there was no such section, has no label: whether it may leave was never found, so it does not.
        exchange.sensitivity = call.sensitivity if call.sensitivity is not None else residency.stays
    return exchange


async def _run(pipeline: Pipeline, request: ChatRequest, exchange: Exchange, charged_by: Journey | None) -> str | None:
    """The words of the answer; `exchange` is settled, however it ends."""
    assert exchange.account is not None
    exchange.account.begin(exchange)
    try:
        if charged_by is not None and charged_by.revision.limits is not None:
            await charged_by.revision.limits.admit(request, exchange)
        chunks = await pipeline.answer(request, exchange)
        try:
            (chunk,) = await chunks.next()
        finally:
            chunks.close()
        exchange.first_chunk = time.perf_counter_ns()
        return note_answer(exchange, chunk)
    except GatewayError as error:
        note_failure(exchange, error)
    except asyncio.CancelledError:
        exchange.outcome = "cancelled"
        raise
    except Exception:
        exchange.outcome, exchange.status, exchange.error_code = "error", 500, "internal_error"
        log.exception("the replay of call %s failed", exchange.made_for)
    finally:
        exchange.settle()
    return None


def _notes(call: StoredCall, change: Change, exchange: Exchange) -> list[str]:
    """What who compares should know."""
    notes = []
    if call.template is not None and exchange.template == call.template:
        then, now = call.template_hash, exchange.template_hash
        if then is not None and now is not None and then != now:
            notes.append(f"{call.template} is not the text that it was: {then} then, {now} now")
    if call.record.get("cache") in FROM_CACHE:
        notes.append("the answer then was a kept one")
    if "tool_calls" in (call.record.get("finish_reason"), exchange.finish_reason):
        notes.append("tools were called: answers are compared by their words alone")
    if change.pinned and (masked := masked_features(call)):
        notes.append(f"sensitive features are not kept, so the template's defaults stood for {', '.join(masked)}")
    if exchange.degraded:
        notes.append(f"without {', '.join(exchange.degraded)}")
    return notes
