"""F5 and F6: whatever is written into any field of a search, no row of somebody else is found.

One collection holds canaries of two tenants, of users and of groups. The library is asked as a gateway asks it, and
every request that it sends to Milvus is looked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from embedding_process import EmbeddingProcess

from retrieval.filters import BadFilter
from retrieval.knowledge import Knowledge, KnowledgeSettings
from retrieval.loading import Document
from retrieval.passages import Passage
from retrieval.questions import SearchSettings

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAUGHTY = [
    base64.b64decode(text).decode("utf-8", "replace")
    for text in json.loads((Path(__file__).parent / "data" / "naughty_strings.json").read_text("utf-8"))
]
PAYLOADS = [
    'x"] or tenant in ["acme', 'x" or tenant == "acme', '" or 1 == 1 or tenant == "', "acme' or '1' == '1",
    '\\"] or tenant != "x', 'acme\\", "acme', "acme\n", " acme", "ACME", "ac%", "a_me", "%", "_", "|public|", "|", "public",
    "*", "acme\0", "acme\\", '") or id != "', '" or id like "%', '" or exists attributes["x"] or tenant == "',
    '"] or true or attributes["', '" || true || "', "') or true or ('", "$meta", "{tenant}", "user:ada", "group:board",
    "acme\u2028", "\u202eemca", "ａｃｍｅ", "acme\ud800", "𝐚𝐜𝐦𝐞", "а\u0441me", "acme/../umbrella", "null", "None", "true",
]  # fmt: skip
WRAPPED = [
    '{}" or tenant != "',
    '"] or tenant in ["{}',
    "{}' or true or '",
    "{}\\",
    "%{}%",
    "|{}|",
    '{}") or ("a" == "a',
    "{}\r\n",
]

ALLOWED = {"acme-public", "shared"}


def hostile() -> list[str]:
    """1,000 strings: those that have broken other software, ours, and ours wrapped around names that exist."""
    names = ["acme", "umbrella", "ada", "board", "public", "*", "#", "#acme", ""]
    made = [wrap.format(name) for wrap in WRAPPED for name in (*names, *PAYLOADS)]
    made += [f"{chr(code)}acme{chr(code)} or {chr(code)}" for code in range(256)]
    return list(dict.fromkeys([*PAYLOADS, *made, *NAUGHTY]))[:1000]


def documents() -> Iterator[tuple[str, Document]]:
    def document(tenant: str, name: str, *readers: str, **attributes: Any) -> tuple[str, Document]:
        text = f"The canary of {name} sings about acme, umbrella and the board."
        return tenant, Document(
            name, name, text, name, markdown=False, readers=readers or ("public",), attributes=attributes
        )

    yield document("*", "shared", colour="yellow")
    yield document("acme", "acme-public", colour="yellow", year=2020)
    yield document("acme", "acme-ada", "user:ada", colour="yellow", year=2021)
    yield document("acme", "acme-board", "group:board", colour="yellow", year=2022)
    yield document("acme", "acme-both", "user:ada", "group:board", colour="yellow")
    yield document("umbrella", "umbrella-public", colour="yellow", year=2020)
    yield document("umbrella", "umbrella-ada", "user:ada", colour="yellow", year=2021)
    yield document("umbrella", "umbrella-board", "group:board", colour="yellow", year=2022)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def canaries(tmp_path_factory: pytest.TempPathFactory, embeddings: EmbeddingProcess) -> AsyncIterator[Knowledge]:
    settings = KnowledgeSettings(tmp_path_factory.mktemp("canaries"), embedding_url=embeddings.settings["url"])
    async with Knowledge.open(settings) as knowledge:
        for tenant, document in documents():
            await knowledge.put(document, collection="c", tenant=tenant)
        yield knowledge


HYBRID = SearchSettings(mode="hybrid", near_duplicates=None, neighbours=1)
QUESTION = "What does the canary sing about?"


async def found(knowledge: Knowledge, query: str = QUESTION, **more: Any) -> set[str]:
    asked = {"tenant": "acme", "settings": HYBRID, **more}
    return {passage.document_id for passage in await knowledge.find(query, collection="c", top_k=20, **asked)}


async def test_who_finds_what(canaries: Knowledge) -> None:
    board = frozenset({"board", "other"})
    assert await found(canaries) == ALLOWED
    assert await found(canaries, user="ada") == {*ALLOWED, "acme-ada", "acme-both"}
    assert await found(canaries, groups=board) == {*ALLOWED, "acme-board", "acme-both"}
    assert await found(canaries, user="ada", groups=board) == {*ALLOWED, "acme-ada", "acme-board", "acme-both"}
    assert await found(canaries, user="Ada") == ALLOWED
    assert await found(canaries, tenant="umbrella", user="ada") == {"shared", "umbrella-public", "umbrella-ada"}
    assert await found(canaries, tenant="nobody", user="ada", groups=board) == {"shared"}


@pytest.mark.parametrize("mode", ["hybrid", "dense", "keyword"])
async def test_an_empty_scope_finds_nothing(canaries: Knowledge, mode: Any) -> None:
    """F6: no tenant, no row; not even what everyone may read."""
    settings = SearchSettings(mode=mode)
    board = frozenset({"board"})
    assert await found(canaries, tenant="", user="ada", groups=board, settings=settings) == set()


async def test_hostile_strings_in_every_field_find_nothing_foreign(canaries: Knowledge) -> None:
    """F5: 1,000 strings, in each field that a user has a hand in."""
    strings = hostile()
    assert len(strings) == 1000
    dense = SearchSettings(near_duplicates=None)
    words = SearchSettings(mode="keyword", near_duplicates=None)
    for text in strings:
        if text not in ("acme", "umbrella", "*") and not text.startswith("#"):
            assert await found(canaries, tenant=text, user="ada", settings=dense) <= {"shared"}, text
        assert await found(canaries, user=text if text != "ada" else "x", groups=frozenset({text}), settings=dense) == ALLOWED, text  # fmt: skip
        assert await found(canaries, text, settings=words) <= ALLOWED, text
        for wanted in (
            {"type": "eq", "key": "colour", "value": text},
            {"type": "in", "key": text, "value": [text, "yellow"]},
        ):
            assert await _filtered(canaries, wanted) == set(), text
        every = {
            "type": "or",
            "filters": [{"type": "gte", "key": text, "value": 0}, {"type": "ne", "key": text, "value": 1}],
        }
        assert await _filtered(canaries, every) in (ALLOWED, set()), text


async def _filtered(knowledge: Knowledge, filters: dict[str, Any]) -> set[str]:
    """What a filter finds; nothing where it is refused. Never a failure of Milvus: no filter breaks the expression."""
    try:
        return await found(knowledge, filters=filters, settings=SearchSettings(near_duplicates=None))
    except BadFilter:
        return set()


async def test_filters_narrow_and_never_widen(canaries: Knowledge) -> None:
    year = {"type": "gte", "key": "year", "value": 2020}
    assert await found(canaries, filters=year) == {"acme-public"}
    assert await found(canaries, filters={"type": "ne", "key": "no", "value": "no"}) == ALLOWED
    assert await found(canaries, user="ada", filters=year) == {"acme-public", "acme-ada"}


class Spy:
    """Milvus' client with every filter that it is given written down."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.filters: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.client, name)
        if name not in ("search", "query", "hybrid_search", "get", "delete"):
            return call

        async def noted(*args: Any, **more: Any) -> Any:
            self.filters.append((name, more.get("filter") or more.get("expr") or ""))
            return await call(*args, **more)

        return noted


class Backwards:
    async def rerank(self, query: str, texts: Any) -> list[float]:
        return [float(place) for place in range(len(texts))]


async def test_every_sub_request_is_bound_to_the_tenant(canaries: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    """F6: of a hybrid search with two questions, neighbours, diversity and reranking, nothing goes out unbound."""
    store: Any = canaries.store
    spy = Spy(await store._connected())
    monkeypatch.setattr(store, "_client", spy)
    monkeypatch.setattr(canaries, "_reranker", Backwards())
    settings = SearchSettings(mode="hybrid", near_duplicates=None, neighbours=2, diversity=0.3, rerank=True)

    passages: list[Passage] = await canaries.find(
        QUESTION, collection="c", tenant="acme", user="ada", top_k=3, settings=settings, also=("canary song",)
    )
    await canaries.still_readable(passages, tenant="acme", user="ada")

    assert passages
    # And records of documents that a bound search has found, by ids that are made of their tenant.
    assert sorted(name for name, _ in spy.filters) == ["get", *["query"] * 2, *["search"] * 4]
    bound = 'tenant in ["*", "acme"] and (readers like "%|public|%"'
    assert all(bound in expression for name, expression in spy.filters if name != "get")


async def test_a_change_of_readers_counts_at_once(canaries: Knowledge) -> None:
    def letter(*readers: str) -> Document:
        return Document("letter", "letter", "A letter about the merger.", "v1", markdown=False, readers=readers)

    async def reads(user: str, *groups: str) -> bool:
        return "letter" in await found(canaries, "merger letter", user=user, groups=frozenset(groups))

    await canaries.put(letter("user:eve"), collection="c", tenant="acme")
    (passage,) = await canaries.find("merger letter", collection="c", tenant="acme", user="eve", top_k=1)
    assert await canaries.still_readable([passage], tenant="acme", user="eve")
    assert not await canaries.still_readable([passage], tenant="acme", user="bob")

    report = await canaries.put(letter("group:law"), collection="c", tenant="acme")

    assert (report.sections, report.reused) == (0, 1), "a change of readers embeds nothing"
    assert not await reads("eve")
    assert await reads("bob", "law")
    assert not await canaries.still_readable([passage], tenant="acme", user="eve"), "a kept answer is not served"
    await canaries.remove("letter", collection="c", tenant="acme")
    assert not await reads("bob", "law")
