"""Whose features a call reads, what stands in for those that are not there, and what is kept of sensitive ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from features.vector import FeaturesUnavailable, FeatureVector, WrongEntity
from gateway.chat import ChatRequest
from gateway.entities import EntityTemplate
from gateway.errors import BadRequest, StageFailed
from gateway.exchange import Exchange
from gateway.stages.features import FeatureStage, headers_of
from gateway.values import Caller


@dataclass
class Reader:
    """Tells what it is asked for, or fails."""

    asked: list[Mapping[str, str]] = field(default_factory=list)
    fails: Exception | None = None
    hangs: bool = False
    sensitive: tuple[str, ...] = ()

    async def read(
        self, service: str, entity: Mapping[str, str], max_age: Mapping[str, float] | float | None = None
    ) -> FeatureVector:
        self.asked.append(dict(entity))
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        if "product_id" in entity and not entity["product_id"].isdecimal():
            raise WrongEntity("product_id", "a whole number")
        return FeatureVector(service, entity, {"tier": None, "word": "walnut"}, ("tier",), sensitive=self.sensitive)

    def unread(self, service: str) -> FeatureVector | None:
        return (
            FeatureVector(service, {}, {"word": None}, ("word",), sensitive=self.sensitive) if self.sensitive else None
        )


def stage(reader: Reader, entities: dict[str, str] | None = None, **more: Any) -> FeatureStage:
    templates = {key: EntityTemplate.parse(text) for key, text in (entities or {"user_id": "{user}"}).items()}
    made = {"budget": 5.0, "on_failure": "continue", **more}
    return FeatureStage(reader, "shop", templates, headers=headers_of(templates), **made)


def called(tenant: str = "a", user: str | None = "ada", **body: Any) -> tuple[ChatRequest, Exchange]:
    said = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    exchange = Exchange("chat.completions")
    exchange.caller = Caller("key", tenant, user)
    return ChatRequest(json.dumps(said).encode()), exchange


async def test_plain_names_are_the_owners_users_and_nobody_elses() -> None:
    reader = Reader()
    for tenant in ("a", "b"):
        await stage(reader, owner="a").fetch(*called(tenant))
        await stage(reader, {"user_id": "{tenant}/{user}"}, owner="a").fetch(*called(tenant))
        await stage(reader, owner="*").fetch(*called(tenant))
    assert reader.asked == [
        {"user_id": "ada"}, {"user_id": "a/ada"}, {"user_id": "ada"}, {"user_id": "b/ada"}, {"user_id": "ada"},
    ]  # fmt: skip


async def test_nobody_is_asked_about_when_nobody_is_known() -> None:
    reader = Reader()
    request, exchange = called(user=None)
    await stage(reader).fetch(request, exchange)
    assert (reader.asked, exchange.features) == ([], None)
    await stage(reader, defaults={"tier": "none"}).fetch(request, exchange)
    assert exchange.features == FeatureVector("shop", {}, {"tier": "none"}, ("tier",))


async def test_a_default_stands_in_for_what_is_missing() -> None:
    request, exchange = called()
    await stage(Reader(), defaults={"tier": "none", "word": "x"}).fetch(request, exchange)
    assert exchange.features is not None
    assert exchange.features.values == {"tier": "none", "word": "walnut"}
    assert exchange.features.missing == ("tier",)


async def test_metadata_that_names_an_entity_is_not_said_to_the_provider() -> None:
    reader = Reader()
    request, exchange = called(metadata={"product_id": "5", "kept": "yes"})
    mapped = {"product_id": "{metadata.product_id}", "session": "{metadata.conversation_id}"}
    await stage(reader, mapped).fetch(request, exchange)
    assert reader.asked == [{"product_id": "5"}]
    assert json.loads(bytes(request.fields["metadata"])) == {"kept": "yes"}
    request, exchange = called(metadata={"product_id": "5", "conversation_id": "c1"})
    await stage(reader, mapped).fetch(request, exchange)
    assert reader.asked[-1] == {"product_id": "5", "session": "c1"}
    assert "metadata" not in request.fields


async def test_a_header_is_one_of_those_that_were_kept_for_it() -> None:
    reader = Reader()
    made = stage(reader, {"session": "{header.X-Session}"})
    assert made.headers == (b"x-session",)
    request, exchange = called()
    exchange.headers = {b"x-session": b"s1"}
    await made.fetch(request, exchange)
    assert reader.asked == [{"session": "s1"}]


@pytest.mark.parametrize("value", ["five", "x" * 257, "5\n"])
async def test_what_a_caller_names_wrongly_is_the_callers_fault(value: str) -> None:
    request, exchange = called(metadata={"product_id": value})
    with pytest.raises(BadRequest) as told:
        await stage(Reader(), {"product_id": "{metadata.product_id}"}).fetch(request, exchange)
    assert told.value.param == "metadata.product_id"


async def test_a_user_that_the_store_can_not_have_is_nobody() -> None:
    reader = Reader()
    request, exchange = called()
    await stage(reader, {"product_id": "{user}"}).fetch(request, exchange)
    assert exchange.features is not None
    assert exchange.features.values == {}


@pytest.mark.parametrize("reader", [Reader(hangs=True), Reader(fails=FeaturesUnavailable("away"))])
async def test_a_store_that_is_away_leaves_the_defaults_or_refuses(reader: Reader) -> None:
    request, exchange = called()
    await stage(reader, defaults={"tier": "none"}, budget=0.01).fetch(request, exchange)
    assert exchange.degraded == ["features"]
    assert exchange.features is not None
    assert exchange.features.values == {"tier": "none"}
    with pytest.raises(StageFailed, match="The features stage is unavailable"):
        await stage(reader, budget=0.01, on_failure="refuse").fetch(*called())


@pytest.mark.parametrize("reader", [Reader(fails=FeaturesUnavailable("away"), sensitive=("word",))])
async def test_of_what_could_not_be_read_it_is_known_how_sensitive_it_is(reader: Reader) -> None:
    """The conversation may hold what earlier calls have read."""
    request, exchange = called()
    await stage(reader).fetch(request, exchange)
    assert exchange.features is not None
    assert exchange.features.sensitive == ("word",)
    exchange.asked = exchange.messages = request.messages
    exchange.answer_text, exchange.answer_calls = "a walnut", [{"function": {"arguments": "walnut"}}]
    exchange.settle()
    assert not any((exchange.asked, exchange.messages, exchange.answer_text, exchange.answer_calls))


async def test_earlier_answers_in_a_conversation_are_masked_too() -> None:
    parts = [{"type": "text", "text": "walnut cake"}]
    turns = [{"role": "assistant", "content": "no walnut"}, {"role": "user", "content": parts}]
    request, exchange = called(messages=turns)
    await stage(Reader(sensitive=("word",))).fetch(request, exchange)
    exchange.asked = exchange.messages = request.messages
    exchange.settle()
    assert exchange.messages == exchange.asked
    assert "walnut" not in json.dumps(exchange.messages)
    assert request.messages == turns, "what the target is told stays as it is"


async def test_what_is_sensitive_comes_to_rest_nowhere() -> None:
    request, exchange = called()
    await stage(Reader(sensitive=("word",))).fetch(request, exchange)
    exchange.asked = request.messages
    exchange.messages = [{"role": "system", "content": "walnut"}, *request.messages]
    exchange.answer_text = "a walnut, walnuts"
    exchange.answer_calls = [{"id": "1", "function": {"name": "find", "arguments": '{"what": "walnut"}'}}]
    exchange.settle()
    assert exchange.messages == exchange.asked
    assert exchange.answer_calls == [{"id": "1", "function": {"name": "find", "arguments": '{"what": "[masked]"}'}}]
    assert exchange.answer_text == "a [masked], [masked]s"
    assert exchange.features is not None
    assert exchange.features.shown() == {"tier": None, "word": "[masked]"}


async def test_whoever_wants_to_hear_of_the_end_hears_of_it() -> None:
    ended: list[Exchange] = []
    request, exchange = called()
    await stage(Reader(), told=ended.append).fetch(request, exchange)
    assert ended == []
    exchange.settle()
    assert ended == [exchange]


def test_values_are_json() -> None:
    """Digests of caches and records are made of them."""
    vector = FeatureVector("s", {"p": 5}, {"a": ["x"], "b": 1.5, "c": None})
    assert msgspec.json.decode(msgspec.json.encode(vector.shown())) == vector.values
