"""What a template makes of a request: its variables as guardrails left them, its hints, a summary of what has no room."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from gateway.chat import ChatRequest
from gateway.errors import BadRequest, GatewayError, StageFailed, UpstreamFailed
from gateway.exchange import Exchange
from gateway.prompts.library import read_template
from gateway.stages import rendering
from gateway.stages.rendering import PromptStage
from gateway.stages.request_texts import fields_of, places_of
from gateway.values import Caller


def stage(text: str, **more: Any) -> PromptStage:
    return PromptStage(read_template(text, "t", 1, "t@1.yaml", {}), **more)


def request(**more: Any) -> ChatRequest:
    return ChatRequest(json.dumps({"model": "m", "messages": [], **more}).encode())


def exchange() -> Exchange:
    made = Exchange("chat.completions")
    made.caller = Caller("key")
    return made


ASKS = "inputs: {product: {}}\nmessages: [{role: user, content: 'About {{ product }}'}]"


async def test_variables_are_screened_with_the_rest_and_gone_before_a_provider_sees_them() -> None:
    asked = request(prompt={"id": "t", "variables": {"product": "secret"}})
    fields = fields_of(asked)
    (place,) = [place for place in places_of(asked.messages, fields) if place.holder.get(place.key) == "secret"]
    place.holder[place.key] = "[masked]"
    asked.fields["prompt"] = asked.fields["prompt"].__class__(json.dumps(fields["prompt"]).encode())
    told = exchange()
    await stage(ASKS).render(asked, told)
    assert asked.messages == [{"role": "user", "content": "About [masked]"}]
    assert json.loads(asked.body_for("x")) == {"model": "x", "messages": asked.messages}
    assert asked.variables == {"product": "[masked]"}  # what the record may tell of them
    assert (told.template, told.template_hash) == ("t@1", stage(ASKS).template.content_hash)
    assert [(part.origin, part.characters) for part in told.prompt_parts] == [("template", 6), ("input", 8)]


async def test_a_tenants_template_is_filled_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    filled, where = rendering._rendered, []

    def watched(*given: Any) -> Any:
        where.append(threading.get_ident() == loop)
        return filled(*given)

    loop = threading.get_ident()
    monkeypatch.setattr(rendering, "_rendered", watched)
    for tenant in ("", "acme"):
        asked = request(prompt={"id": "t", "variables": {"product": "x"}})
        await PromptStage(read_template(ASKS, "t", 1, "t@1", {}, tenant=tenant)).render(asked, exchange())
        assert asked.messages == [{"role": "user", "content": "About x"}]
    assert where == [True, False]


def test_no_string_of_the_variables_escapes_the_guardrails() -> None:
    """Whatever a variable or a value within it is called, and however deep it lies."""
    variables = {"type": "s1", "id": "s2", "role": ["s3", ["s4", {"index": "s5"}]], "o": {"s6": {"type": "s7"}}}
    asked = request(prompt={"id": "t", "variables": variables})
    fields = fields_of(asked)
    found = list(places_of(asked.messages, fields))
    said = {str(place.holder[place.key]) for place in found}
    assert {f"s{n}" for n in range(1, 8)} <= said
    for place in found:
        text = place.holder[place.key]
        if text.startswith("s"):
            place.holder[place.key] = text.replace("s", "*")
    assert fields["prompt"]["variables"] == {
        "type": "*1", "id": "*2", "role": ["*3", ["*4", {"index": "*5"}]], "o": {"*6": {"type": "*7"}},
    }  # fmt: skip


async def test_hints_fill_in_what_the_request_does_not_say() -> None:
    text = "hints: {parameters: {temperature: 0.2, max_completion_tokens: 9, seed: 1}}\n" + ASKS
    asked = request(prompt={"variables": {"product": "x"}}, temperature=1, max_tokens=5)
    await stage(text).render(asked, exchange())
    body = json.loads(asked.body_for("x"))
    assert {name: body.get(name) for name in ("temperature", "max_tokens", "max_completion_tokens", "seed")} == {
        "temperature": 1, "max_tokens": 5, "max_completion_tokens": None, "seed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": {"variables": {}}}, "prompt.variables.product"),
        ({"prompt": {"variables": {"product": "x", "colour": "y"}}}, "prompt.variables.colour"),
        ({"prompt": {"variables": {"product": "x"}}, "messages": [{"role": "user", "content": "q"}]}, "messages"),
    ],
)
async def test_what_does_not_fit_is_a_400_that_names_it(more: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        await stage(ASKS).render(request(**more), exchange())
    assert raised.value.param == param


async def test_a_template_that_can_not_be_filled_without_variables_is_not_the_callers_fault() -> None:
    text = "features: {n: 1}\nmessages: [{role: system, content: '{{ 10 // user.n }}'}, conversation]"
    made = stage(text)
    from features.vector import FeatureVector

    told = exchange()
    told.features = FeatureVector("s", {}, {"n": 0})
    with pytest.raises(StageFailed):
        await made.render(request(messages=[{"role": "user", "content": "q"}]), told)


async def test_a_label_that_points_nowhere_is_a_503() -> None:
    with pytest.raises(StageFailed, match="t@production can't be had now"):
        await PromptStage(None, lambda: None, "t@production").render(request(prompt={"variables": {}}), exchange())


class Helper:
    budget = 5.0

    def __init__(self, summary: str | GatewayError) -> None:
        self.summary = summary
        self.asked: list[tuple[str, str | None]] = []

    async def complete(self, prompt: str, exchange: Exchange, sensitivity: str | None) -> str:
        self.asked.append((prompt, sensitivity))
        if isinstance(self.summary, GatewayError):
            raise self.summary
        return self.summary


LONG = [
    {"role": "user", "content": "old " * 90},
    {"role": "assistant", "content": "It is blue."},
    {"role": "user", "content": "new"},
]
SHORT = "max_prompt_tokens: 100\nmessages: [{role: system, content: Hi}, conversation]"


async def test_turns_without_room_are_summed_up_as_words_of_the_caller() -> None:
    helper = Helper(" It was about the old. ")
    asked = request(messages=LONG, metadata={"sensitivity": "internal"})
    told = exchange()
    await stage(SHORT, summary=helper).render(asked, told)
    assert [message["role"] for message in asked.messages] == ["system", "user", "user"]
    assert asked.messages[1]["content"].endswith("\n\nIt was about the old.")
    assert told.trimmed == ("2 messages of an early turn", "early turns summed up")
    ((prompt, sensitivity),) = helper.asked
    assert prompt.endswith("assistant: It is blue.")
    assert sensitivity == "internal"


async def test_a_summary_that_can_not_be_had_leaves_turns_out_and_says_so() -> None:
    asked, told = request(messages=LONG), exchange()
    await stage(SHORT, summary=Helper(UpstreamFailed("away"))).render(asked, told)
    assert [message["role"] for message in asked.messages] == ["system", "user"]
    assert (told.trimmed, told.degraded) == (("2 messages of an early turn",), ["summary"])


async def test_a_summary_that_says_too_much_is_cut_and_one_without_room_is_left_out() -> None:
    asked, told = request(messages=LONG), exchange()
    await stage(SHORT, summary=Helper("word " * 500)).render(asked, told)
    assert len(asked.messages[1]["content"]) < 75 + 70
    full = [*LONG[:2], {"role": "user", "content": "x" * 340}]
    asked, told = request(messages=full), exchange()
    await stage(SHORT, summary=Helper("word " * 500)).render(asked, told)
    assert [message["role"] for message in asked.messages] == ["system", "user"]
    assert told.degraded == ["summary"]


async def test_where_all_has_room_nobody_is_asked() -> None:
    helper = Helper("x")
    await stage(SHORT, summary=helper).render(request(messages=LONG[1:]), exchange())
    assert helper.asked == []
