"""The SDK client against a live gateway: asking, sources, provenance, feedback, the cache, uploads, errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess
from sample_gateway import KEY_A, key_entry
from upstream.vendor import Vendor

from gateway.client import (
    AsyncClient,
    Blocked,
    BudgetSpent,
    Client,
    NotCached,
    Progress,
    ProviderFailed,
    RateLimited,
    StageUnavailable,
    call_id_of,
    citations_of,
    facts_of,
    sources_of,
)

KEYS = {name: f"sk-gw-canary-sdk-{name}-41d8" for name in ("plain", "front", "limited", "poor", "admin")}
ROOT = Path(__file__).parents[2]
QUESTION = "How long is parental leave for employees?"


@pytest.fixture(scope="module")
def office(
    shared_vendor: Vendor, embeddings: EmbeddingProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    docs = tmp_path_factory.mktemp("office")
    for name, text in {
        "leave/leave.md": "# Leave\n\nParental leave for employees is fourteen weeks.\n",
        "leave/canteen.md": "# Canteen\n\nThe canteen serves pea soup on Mondays.\n",
        "handbook/providers.md": "# Providers\n\nYou add a provider by an entry of its own in the configuration.\n",
        "ada/ada.md": "# Ada\n\nThe bonus of Ada is seven thousand.\n",
    }.items():
        (docs / name).parent.mkdir(exist_ok=True)
        (docs / name).write_text(text)
    mock = {
        "kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key,
        "retries": {"attempts": 0}, "prices": {"*": {"input": 1000, "output": 1000}},
    }  # fmt: skip
    away = {"check": "webhook", "name": "ours", "url": "http://127.0.0.1:1/judge"}
    plain = {"targets": ["mock/gpt-mock"]}
    configuration = {
        "access": {
            "open_on_loopback": False,
            "user_header": "x-user",
            "keys": [
                key_entry("plain", KEYS["plain"], tenant="a"),
                key_entry("front", KEYS["front"], tenant="a", speaks_for_users=True),
                key_entry("limited", KEYS["limited"], tenant="a", limits={"requests_per_minute": 1}),
                key_entry("poor", KEYS["poor"], tenant="a", limits={"budget": 0.000001, "budget_period": "day"}),
                key_entry("admin", KEYS["admin"], admin=True),
            ],
        },
        "prompts": {"folder": str(ROOT / "configs" / "prompts")},
        "providers": {"mock": mock, "openai": mock, "extractive": {"kind": "extractive"}},
        "retrieval": {
            "embeddings": embeddings.settings,
            "collections": {
                "leave": {"load": [str(docs / "leave")]},
                "handbook": {"load": [str(docs / "handbook")]},
                "ada": {"load": [str(docs / "ada")], "tenant": "a", "readers": ["user:ada"]},
            },
        },
        "models": {
            "plain": plain,
            "both": {"targets": ["mock/one", "mock/two"], "cache": {"exact": {"ttl": "1h"}}},
            "arms": {
                "targets": [
                    {"provider": "mock", "model": "one", "arm": "old"},
                    {"provider": "mock", "model": "two", "arm": "new"},
                ],
                "strategy": {"kind": "blue_green", "active": "old"},
            },
            "kept": {"targets": ["mock/gpt-mock"], "cache": {"exact": {"ttl": "1h"}}},
            "guarded": {**plain, "guardrails": {"input": ["secrets"]}},
            "unjudged": {**plain, "guardrails": {"input": [away]}},
            **{
                name: {
                    "targets": ["extractive"],
                    "prompt": "handbook@1",
                    "retrieval": {"collection": name, "top_k": 2},
                }
                for name in ("leave", "handbook", "ada")
            },
        },
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("gateway")) as running:
        yield running
        assert "Traceback" not in running.output, running.output


def made(gateway: GatewayProcess, key: str = "plain", **options: Any) -> Client:
    return Client(gateway.url, api_key=KEYS[key], max_retries=0, timeout=60, **options)


@pytest.fixture
def sdk(office: GatewayProcess, vendor: Vendor) -> Iterator[Client]:
    with made(office) as client:
        yield client


@pytest.fixture
async def asdk(office: GatewayProcess, vendor: Vendor) -> Any:
    async with AsyncClient(office.url, api_key=KEYS["plain"], max_retries=0, timeout=60) as client:
        yield client


def test_the_documentations_examples_run(
    office: GatewayProcess, vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "minutes").mkdir()
    (tmp_path / "minutes" / "parrot.md").write_text("# Minutes\n\nIt was decided that the parrot stays.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_GATEWAY_URL", office.url)
    monkeypatch.setenv("RAG_GATEWAY_API_KEY", KEYS["front"])
    examples = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "client.md").read_text("utf-8"), re.M | re.S)
    text = "\n".join(examples).replace('Client("http://127.0.0.1:8080", api_key="sk-gw-…")', "Client()")
    names: dict[str, Any] = {}
    try:
        exec(compile(text, "docs/client.md", "exec"), names)
    finally:
        for client in [each for each in names.values() if isinstance(each, Client)]:
            client.close()

    said = capsys.readouterr().out
    assert "1/1 minutes/parrot.md: indexed" in said
    assert "the parrot stays" in names["answer"].text
    assert "[1] Providers (handbook/providers.md), score 0." in said
    assert "[1] is Providers" in said
    assert len(examples) == (ROOT / "docs" / "client.md").read_text("utf-8").count("```python")


# -- answers and where they come from ----------------------------------------------------------------------
def test_an_answer_with_its_sources(sdk: Client) -> None:
    answer = sdk.ask(QUESTION, model="leave")

    assert "fourteen weeks" in answer.text
    first = answer.sources[0]
    assert (first.n, first.document_id, first.collection, first.title) == (1, "leave/leave.md", "leave", "Leave")
    assert "fourteen weeks" in first.quote
    cited = answer.citations[0]
    assert cited.source == first
    assert answer.text[cited.start : cited.end] == "[1]"
    assert (answer.facts.target, answer.facts.cache, answer.facts.degraded) == ("extractive", "off", ())
    assert answer.facts.timings is not None
    assert {"retrieval", "total"} <= set(answer.facts.timings)


def test_a_stream_says_the_same(sdk: Client) -> None:
    whole = sdk.ask(QUESTION, model="leave")
    with sdk.stream(QUESTION, model="leave") as stream:
        assert stream.facts.target == "extractive"
        text = "".join(stream)

    assert (text, stream.sources, stream.citations) == (whole.text, whole.sources, whole.citations)
    answer = stream.answer()
    assert (answer.text, answer.sources, answer.citations) == (whole.text, whole.sources, whole.citations)
    assert answer.usage is not None


async def test_the_asynchronous_client_says_the_same(asdk: AsyncClient) -> None:
    whole = await asdk.ask(QUESTION, model="leave")
    async with await asdk.stream(QUESTION, model="leave") as stream:
        text = "".join([piece async for piece in stream])
        answer = await stream.answer()

    assert "fourteen weeks" in whole.text
    assert (text, answer.text, answer.sources, answer.citations) == (
        whole.text, whole.text, whole.sources, whole.citations,
    )  # fmt: skip
    assert (await asdk.explain(answer)).id == answer.facts.call_id
    assert (await asdk.feedback(answer, score=True, comment="Yes.")).call_id == answer.facts.call_id


def test_the_sdks_own_methods_tell_theirs_too(sdk: Client) -> None:
    told = sdk.chat.completions.create(model="leave", messages=[{"role": "user", "content": QUESTION}])
    response = sdk.with_call(rag={"top_k": 1}).responses.create(model="leave", input=QUESTION)
    embedded = sdk.embeddings.with_raw_response.create(model="mock/mock-embed", input="x")

    assert sources_of(told)[0].document_id == "leave/leave.md"
    assert citations_of(told)[0].n == 1
    assert facts_of(told).target == "extractive"
    assert "fourteen weeks" in response.output_text
    assert next((cited.title, cited.n) for cited in citations_of(response)) == ("Leave", 1)
    assert facts_of(response).target == "extractive"
    assert len(sdk.explain(response).passages) == 1
    assert facts_of(embedded).target == "mock/mock-embed"
    assert "plain" in [model.id for model in sdk.models.list()]


def test_rag_options_narrow(sdk: Client) -> None:
    assert len(sdk.ask(QUESTION, model="leave", rag={"top_k": 1}).sources) == 1
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.ask(QUESTION, model="leave", rag={"top_k": 1_000})
    assert refused.value.param == "rag.top_k"


@pytest.mark.parametrize("options", [{}, {"user_header": "x-user"}])
def test_a_front_end_speaks_for_its_users(office: GatewayProcess, options: dict[str, str]) -> None:
    with made(office, "front", **options) as front:
        assert front.ask("How high is the bonus?", model="ada").sources == ()
        answer = front.ask("How high is the bonus?", model="ada", user="ada")
        assert [source.document_id for source in answer.sources] == ["ada/ada.md"]
        assert front.explain(answer).caller.user == "ada"
    with made(office, "front", user="ada", **options) as ada:
        assert "seven thousand" in ada.ask("How high is the bonus?", model="ada").text


# -- provenance, feedback, cache ---------------------------------------------------------------------------
def test_an_explanation_is_typed_and_whole(sdk: Client) -> None:
    answer = sdk.ask(QUESTION, model="leave", extra_headers={"x-request-id": "my-own-1"})
    told = sdk.explain(answer)

    assert (told.id, told.request_id, told.answer_id) == (answer.facts.call_id, "my-own-1", answer.completion.id)
    assert (told.caller.key, told.caller.tenant, told.model, told.target) == ("plain", "a", "leave", "extractive")
    assert [passage.document_id for passage in told.passages] == [source.document_id for source in answer.sources]
    assert (told.status, told.outcome, told.error, told.degraded) == (200, "ok", None, [])
    assert told.timings.total_ms > 0
    assert told.template is not None
    assert (told.template.reference, told.template.trimmed) == ("handbook@1", [])
    assert "retrieval" in [stage.name for stage in told.stages]
    assert (told.attempts[0].target, told.attempts[0].outcome) == ("extractive", "ok")
    assert set(told.model_extra or ()) <= {"object", "mirrors"}
    assert sdk.explain("my-own-1").id == sdk.explain(answer.completion).id == told.id
    with pytest.raises(openai.NotFoundError):
        sdk.explain("no-such-call")


def test_feedback_of_answers_streams_and_ids(sdk: Client) -> None:
    answer = sdk.ask(QUESTION, model="leave")
    with sdk.stream(QUESTION, model="leave") as stream:
        list(stream)

    assert sdk.feedback(answer, score=0.8, label="helpful").call_id == answer.facts.call_id
    assert sdk.feedback(answer.completion, score=False, correction="Sixteen.").call_id == answer.facts.call_id
    assert sdk.feedback(stream, comment="Thanks").call_id == stream.facts.call_id
    assert sdk.feedback(answer.facts.call_id, score=1).call_id == answer.facts.call_id
    with pytest.raises(openai.BadRequestError, match="at least one of score"):
        sdk.feedback(answer)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.feedback(answer, score=3)
    assert refused.value.param == "score"


def test_the_cache_as_a_call_wants_it(sdk: Client, vendor: Vendor) -> None:
    def asked(cache: Any = None) -> str | None:
        return sdk.ask("Is this kept?", model="kept", cache=cache).facts.cache

    with pytest.raises(NotCached) as missed:
        asked("only")
    assert (missed.value.status_code, missed.value.facts.cache) == (504, "miss")
    assert vendor.requests == []
    assert [asked(), asked(), asked("refresh"), asked("off"), asked("only")] == ["miss", "hit", "miss", "off", "hit"]
    hit = sdk.ask("Is this kept?", model="kept")
    assert hit.facts.age is not None
    assert len(vendor.requests) == 3


# -- files -------------------------------------------------------------------------------------------------
def test_a_folder_is_uploaded_searched_and_uploaded_again(sdk: Client, tmp_path: Path) -> None:
    folder = tmp_path / "minutes"
    folder.mkdir()
    (folder / "parrot.md").write_text("# Minutes\n\nThe office parrot Quetzalcoatl eats walnuts at noon.\n")
    (folder / "menu.md").write_text("# Menu\n\nOn Mondays the canteen serves pea soup.\n")
    (folder / "bad.pdf").write_bytes(b"no pdf")
    told: list[Progress] = []
    loaded = sdk.knowledge.upload(folder, store="minutes", attributes={"team": "kitchen"}, on_progress=told.append)

    steps = {file.path: file.step for file in loaded.files}
    assert steps == {"minutes/bad.pdf": "failed", "minutes/menu.md": "indexed", "minutes/parrot.md": "indexed"}
    (failed,) = loaded.failed
    assert failed.error is not None
    assert "not a PDF" in failed.error
    assert (told[-1].done, told[-1].total) == (3, 3)
    assert {event.step for event in told} == {"uploading", "indexing", "indexed", "failed"}
    team: Any = {"type": "eq", "key": "team", "value": "kitchen"}
    found = list(sdk.vector_stores.search(loaded.store_id, query="What does the parrot eat?", filters=team))
    assert found[0].filename == "parrot.md"

    (folder / "bad.pdf").unlink()
    (folder / "parrot.md").write_text("# Minutes\n\nThe office parrot eats hazelnuts now.\n")
    again = sdk.knowledge.upload([folder], store="minutes", attributes={"team": "kitchen"})
    assert again.store_id == loaded.store_id
    assert {file.path: file.step for file in again.files} == {
        "minutes/menu.md": "unchanged",
        "minutes/parrot.md": "indexed",
    }
    texts = [
        part.text
        for each in sdk.vector_stores.search(loaded.store_id, query="What does the parrot eat?")
        for part in each.content
    ]
    assert any("hazelnuts" in text for text in texts)
    assert not any("walnuts" in text for text in texts)

    answer = sdk.ask(
        "What does the parrot eat?",
        model="extractive/any",
        extra_body={"tools": [{"type": "file_search", "vector_store_ids": [loaded.store_id]}]},
    )
    assert "hazelnuts" in answer.text
    assert "hazelnuts" in answer.sources[0].quote


async def test_one_file_by_the_asynchronous_client(asdk: AsyncClient, tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text("# Notes\n\nThe lift is out of order.\n")
    store = await asdk.vector_stores.create(name="notes")
    told: list[Progress] = []
    loaded = await asdk.knowledge.upload(file, store_id=store.id, on_progress=told.append)

    assert [(each.path, each.step) for each in loaded.files] == [("notes.md", "indexed")]
    assert [event.step for event in told] == ["uploading", "indexing", "indexed"]
    again = await asdk.knowledge.upload(file, store="notes")
    assert (again.store_id, again.files[0].step, again.files[0].file_id) == (
        store.id, "unchanged", loaded.files[0].file_id,
    )  # fmt: skip
    file.write_text("# Notes\n\nThe lift works.\n")
    changed = await asdk.knowledge.upload(file, store="notes")
    assert changed.files[0].step == "indexed"
    assert [each.id async for each in asdk.vector_stores.files.list(store.id)] == [changed.files[0].file_id]


# -- errors ------------------------------------------------------------------------------------------------
def test_a_guardrail_says_why(sdk: Client, vendor: Vendor) -> None:
    with pytest.raises(Blocked) as blocked:
        sdk.ask(f"Is ghp_{'b7' * 18} mine?", model="guarded")

    assert "secrets" in blocked.value.reasons
    assert sdk.explain(blocked.value).outcome == "blocked"
    assert vendor.requests == []
    with pytest.raises(openai.BadRequestError):
        sdk.stream(f"Is ghp_{'b7' * 18} mine?", model="guarded")


def test_an_output_that_a_guardrail_replaces_is_refused(gateway: GatewayProcess, vendor: Vendor) -> None:
    vendor.behaviours["guarded"] = {"text": "Write to anna.muster@example.com. "}
    with Client(gateway.url, api_key=KEY_A, max_retries=0) as client:
        answer = client.ask("To whom?", model="blocked")
        with client.stream("To whom?", model="blocked") as stream:
            streamed = stream.answer()

    assert answer.refused
    assert streamed.refused
    assert "anna.muster" not in answer.text + streamed.text
    assert streamed.finish_reason == "content_filter"


def test_limits_and_budgets(office: GatewayProcess, vendor: Vendor) -> None:
    with made(office, "limited") as limited:
        limited.ask("Hi?", model="plain")
        with pytest.raises(RateLimited) as reached:
            limited.ask("Hi?", model="plain")
    assert not isinstance(reached.value, BudgetSpent)
    assert reached.value.retry_after is not None
    assert 0 < reached.value.retry_after <= 60
    assert reached.value.remaining["requests"] == 0
    with made(office, "poor") as poor, pytest.raises(BudgetSpent) as spent:
        for _ in range(3):
            poor.ask("Hi?", model="plain")
    assert isinstance(spent.value, openai.RateLimitError)
    assert spent.value.retry_after is not None


def test_a_stage_that_is_away(sdk: Client) -> None:
    with pytest.raises(StageUnavailable) as away:
        sdk.ask("Hi?", model="unjudged")
    assert (away.value.stage, away.value.status_code) == ("guardrails.ours", 503)


def test_a_provider_that_fails_before_its_answer_and_in_it(sdk: Client, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {"status": 500}
    with pytest.raises(ProviderFailed) as failed:
        sdk.stream("Hi?", model="plain")
    assert failed.value.status_code == 502

    vendor.behaviours["gpt-mock"] = {"text": "word ", "repeat": 20, "die_after": 2}
    with sdk.stream("Hi?", model="plain") as stream, pytest.raises(ProviderFailed) as broken:
        list(stream)
    assert call_id_of(broken.value) == stream.facts.call_id
    assert not stream.finished


def test_no_gateway_there(office: GatewayProcess) -> None:
    with Client("http://127.0.0.1:1", api_key="k", max_retries=0) as nowhere:
        with pytest.raises(openai.APIConnectionError):
            nowhere.ask("Hi?", model="plain")
    assert httpx.get(office.url + "/healthz").status_code == 200


# -- a target for a call -----------------------------------------------------------------------------------
def test_a_tester_names_the_target_and_the_cache_is_passed_by(office: GatewayProcess, vendor: Vendor) -> None:
    with made(office, "admin") as client:
        assert client.ask("who are you?", model="both").facts.target == "mock/one"
        for _ in range(2):
            told = client.ask("who are you?", model="both", target="mock/two").facts
            assert (told.target, told.cache) == ("mock/two", "off")
        assert client.ask("who are you?", model="both").facts.target == "mock/one"  # as it was kept
        for named in ("new", "mock/two"):
            assert client.ask("who are you?", model="arms", target=named).facts.target == "mock/two"
        with pytest.raises(openai.BadRequestError, match="mock/one, mock/two") as refused:
            client.ask("who are you?", model="both", target="mock/three")
        assert refused.value.param == "x-gateway-use-target"
    assert [seen.body["model"] for seen in vendor.requests] == ["one", "two", "two", "two", "two"]


def test_who_has_no_role_names_no_target(sdk: Client, vendor: Vendor) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="operator"):
        sdk.ask("who are you?", model="both", target="mock/two")
    assert vendor.requests == []
