"""A model with features and knowledge, its stages real, its stores imitated: what shapes a prompt shapes the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cache_asking import Upstream, answer, cache_of, exchange_for, request_of

from features.vector import FeatureValue, FeatureVector
from gateway.cache.answers import AnswerCache
from gateway.cache.memory import MemoryEntries
from gateway.cache.protocol import Purge
from gateway.entities import EntityTemplate
from gateway.pipeline import Pipeline
from gateway.prompts.library import TemplateLibrary
from gateway.stages.features import FeatureStage
from gateway.stages.preparation import RetrievalStage
from gateway.stages.rendering import PromptStage
from retrieval.passages import Passage

TEMPLATE = """
features: {city: nowhere}
max_prompt_tokens: 1000
messages:
  - role: system
    content: "They work in {{ user.city }}. {{ passages }}"
  - conversation
"""
LEAVE = Passage("leave.md", "v1", "leave.md#0", "handbook", 0.9, "Leave", "", "Twenty-five days.")
SECRET = Passage("board.md", "v1", "board.md#0", "handbook", 0.8, "Board", "", "A merger in May.")


@dataclass
class Stores:
    """What Feast and Milvus would say now."""

    values: dict[str, dict[str, FeatureValue]] = field(default_factory=lambda: {"ann": {"city": "Oslo"}})
    labels: tuple[str, ...] = ()
    documents: list[Passage] = field(default_factory=lambda: [LEAVE])
    readers: dict[str, set[str | None]] = field(default_factory=dict)

    async def read(self, service: str, entity: Mapping[str, str], max_age: object = None) -> FeatureVector:
        return FeatureVector(service, entity, self.values.get(entity["user_id"], {}), (), self.labels)

    async def find(self, query: str, *, user: str | None, **_: Any) -> list[Passage]:
        return [each for each in self.documents if user in self.readers.get(each.document_id, {user})]


def template(folder: Path, text: str = TEMPLATE) -> PromptStage:
    folder.mkdir(exist_ok=True)
    (folder / "staff@1.yaml").write_text(text)
    return PromptStage(TemplateLibrary.load(folder).get("staff@1"))


@dataclass
class Model:
    stores: Stores
    prompt: PromptStage
    entries: MemoryEntries = field(default_factory=lambda: MemoryEntries(100_000, 50_000))
    upstream: Upstream = field(default_factory=lambda: Upstream(answer("as told [1].")))

    async def ask(self, user: str | None = "ann") -> str:
        cache: AnswerCache = cache_of(self.entries)
        pipeline = Pipeline(
            "m",
            frozenset({"chat.completions"}),
            _Calls(self.upstream),
            FeatureStage(self.stores, "staff", {"user_id": EntityTemplate.parse("{user}")}, 1.0, "continue"),
            RetrievalStage(self.stores, "handbook", 3, None, 1.0, "refuse"),
            prompt=self.prompt,
            cache=cache,
        )
        exchange = exchange_for(user=user)
        chunks = await pipeline.answer(request_of(), exchange)
        while await chunks.next():
            pass
        chunks.close()
        return exchange.cache


@dataclass
class _Calls:
    upstream: Upstream

    async def call(self, request: Any, exchange: Any) -> Any:
        return await self.upstream(request, exchange)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(Stores(), template(tmp_path / "prompts"))


async def test_nothing_has_changed(model: Model) -> None:
    assert [await model.ask(), await model.ask()] == ["miss", "hit"]


async def test_a_feature_s_value_changes(model: Model) -> None:
    await model.ask()
    model.stores.values["ann"]["city"] = "Rome"
    assert await model.ask() == "miss"
    model.stores.values["ann"]["city"] = "Oslo"
    assert await model.ask() == "hit"


async def test_a_feature_s_definition_changes(model: Model) -> None:
    """Its service has other features now, or none of that name: the template's default stands in."""
    await model.ask()
    del model.stores.values["ann"]["city"]
    model.stores.values["ann"]["office"] = "Oslo"
    assert await model.ask() == "miss"


async def test_a_feature_s_sensitivity_changes(model: Model) -> None:
    await model.ask()
    model.stores.labels = ("secret",)
    assert await model.ask() == "miss"


async def test_users_with_other_features_share_nothing(model: Model) -> None:
    model.stores.values["bob"] = {"city": "Rome"}
    assert [await model.ask("ann"), await model.ask("bob"), await model.ask(None)] == ["miss"] * 3


async def test_a_document_changes(model: Model) -> None:
    await model.ask()
    model.stores.documents = [replace(LEAVE, version="v2", text="Thirty days.")]
    assert await model.ask() == "miss"


async def test_a_document_is_changed_in_what_the_prompt_does_not_show(model: Model) -> None:
    """The answer's sources tell the version."""
    await model.ask()
    model.stores.documents = [replace(LEAVE, version="v2")]
    assert await model.ask() == "miss"


async def test_a_document_is_deleted(model: Model) -> None:
    await model.ask()
    model.stores.documents = []
    assert await model.ask() == "miss"


async def test_a_document_comes_that_answers_better(model: Model) -> None:
    await model.ask()
    model.stores.documents = [replace(LEAVE, document_id="new.md", section_id="new.md#0"), LEAVE]
    assert await model.ask() == "miss"


async def test_a_document_s_label_changes(model: Model) -> None:
    await model.ask()
    model.stores.documents = [replace(LEAVE, sensitivity="secret")]
    assert await model.ask() == "miss"


async def test_an_access_right_is_taken_away(model: Model) -> None:
    model.stores.documents = [LEAVE, SECRET]
    assert [await model.ask(), await model.ask()] == ["miss", "hit"]
    model.stores.readers["board.md"] = {"bob"}
    assert await model.ask() == "miss"
    model.stores.readers["board.md"] = {"ann", "bob"}
    assert await model.ask() == "hit"


async def test_what_one_user_alone_may_read_shapes_an_answer_of_that_user_alone(model: Model) -> None:
    model.stores.values["bob"] = {"city": "Oslo"}
    model.stores.documents = [LEAVE, SECRET]
    model.stores.readers["board.md"] = {"ann"}
    assert [await model.ask("ann"), await model.ask("bob"), await model.ask("ann")] == ["miss", "miss", "hit"]


async def test_a_template_changes(model: Model, tmp_path: Path) -> None:
    """Its text is in the messages; what only its version tells is in the scope, see test_caching.py."""
    await model.ask()
    model.prompt = template(tmp_path / "later", TEMPLATE.replace("They work", "They live"))
    assert await model.ask() == "miss"


async def test_what_was_made_of_a_document_is_purged_by_it(model: Model) -> None:
    await model.ask()
    assert await model.entries.purge(Purge(document="board.md")) == 0
    assert await model.entries.purge(Purge(collection="handbook", document="leave.md")) == 1
    assert await model.ask() == "miss"
