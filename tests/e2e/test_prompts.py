"""Templates as releases: named by models and clients, moved and rolled back in every worker, tested, compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import httpx
import openai
import pytest
from click.testing import CliRunner, Result
from gateway_process import GatewayProcess, until
from redis_process import RedisProcess
from sample_gateway import KEY_A, KEY_ADMIN, KEY_B, key_entry, plain_configuration
from upstream.vendor import Vendor

from gateway.cli import main
from gateway.client import Client

KEY_OPERATOR_B = "sk-gw-canary-prompts-operator-b-41c7"
KEY_NARROW = "sk-gw-canary-prompts-narrow-93d2"
SUPPORT = """\
description: Answers for customers
direct: true
labels: [production]
inputs: {product: {description: the product}, days: {type: integer, default: 14}}
messages:
  - {role: system, content: "Support for {{ product }}, {{ days }} days."}
  - conversation
"""
ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def place(
    shared_vendor: Vendor, redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """Two workers, which share a Redis."""
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "prompts" / "suites").mkdir(parents=True)
    (folder / "prompts" / "support@1.yaml").write_text(SUPPORT)
    (folder / "prompts" / "lone@1.yaml").write_text(
        "direct: true\ninputs: {text: {}}\nmessages: [{role: user, content: 'Sum up: {{ text }}'}]\n"
    )
    (folder / "prompts" / "small@1.yaml").write_text(
        "max_prompt_tokens: 110\nmessages: [{role: system, content: Hi}, conversation]\n"
    )
    (folder / "prompts" / "inner@1.yaml").write_text(SUPPORT.replace("direct: true\n", ""))
    made = plain_configuration(shared_vendor)
    made["state"] = {"url": redis_server.url, "prefix": f"p{uuid4().hex[:8]}", "deadline": "2s"}
    made["prompts"] = {"release_needs_suite": False}
    made["models"]["labelled"] = {"targets": ["mock/gpt-mock"], "prompt": "support@production", "record_content": True}
    made["models"]["kept"] = {
        "targets": ["patient/gpt-mock"], "prompt": "support@production", "cache": {"exact": {"ttl": "1h"}},
    }  # fmt: skip
    made["models"]["summing"] = {
        "targets": ["mock/gpt-mock"], "prompt": "small@1", "summary": {"model": "patient/summer", "budget": "20s"},
    }  # fmt: skip
    masking = {"input": [{"check": "secrets", "action": "mask"}]}
    made["models"]["veiled"] = {"targets": ["mock/gpt-mock"], "guardrails": masking, "record_content": True}
    made["models"]["cautious"] = {"targets": ["mock/gpt-mock"], "guardrails": {"input": ["secrets"]}}
    made["access"]["keys"] += [
        key_entry("operator b", KEY_OPERATOR_B, tenant="b", role="operator", scope="tenant"),
        key_entry("few prompts", KEY_NARROW, tenant="a", prompts=["other"]),
    ]
    with GatewayProcess(made, folder, arguments=("--workers", "2")) as running:
        yield running
    assert "Traceback" not in running.output, running.output


def admin(place: GatewayProcess, method: str, path: str, key: str = KEY_ADMIN, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.request(method, place.url + "/admin/prompts" + path, headers=headers, timeout=30, **more)


def made(place: GatewayProcess, name: str, source: str, *, tenant: str | None = None, label: str | None = None) -> int:
    """A released version."""
    body = {"source": source} | ({"tenant": tenant} if tenant else {})
    draft = admin(place, "POST", f"/{name}/versions", json=body)
    assert draft.status_code == 201, draft.text
    version = int(draft.json()["version"])
    query = {"tenant": tenant} if tenant else {}
    told = {"label": label} if label else {}
    done = admin(place, "POST", f"/{name}/versions/{version}/release", json=told, params=query)
    assert done.status_code == 200, done.text
    return version


def chat(place: GatewayProcess, key: str = KEY_A, **body: Any) -> httpx.Response:
    """On a connection of its own, so that any worker may take it."""
    body = {"model": "plain", "messages": ASKED, **body}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(place.url + "/v1/chat/completions", headers=headers, json=body, timeout=30)


def systems(place: GatewayProcess, vendor: Vendor, calls: int = 6, **body: Any) -> set[str]:
    """What the vendor was told as the system message, over connections to all workers."""
    vendor.clear()
    with ThreadPoolExecutor(calls) as pool:
        answers = list(pool.map(lambda _: chat(place, **body), range(calls)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    return {seen.body["messages"][0]["content"] for seen in vendor.requests}


def recorded(place: GatewayProcess, answer: httpx.Response) -> Any:
    """The call's record, once it is in the store: another worker knows of a call a moment later."""
    path = f"{place.url}/v1/calls/{answer.headers['x-gateway-call-id']}"

    def found() -> Any:
        told = httpx.get(path, headers={"authorization": f"Bearer {KEY_A}"}, timeout=30)
        return told.json() if told.status_code == 200 else None

    return until(found, 30, "the record")


def names(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["code"]


# --- clients --------------------------------------------------------------------------------------------
def test_the_sdks_name_a_template(place: GatewayProcess, vendor: Vendor) -> None:
    prompt = {"id": "support", "version": "1", "variables": {"product": "Moon {{ 7*7 }}"}}
    with openai.OpenAI(base_url=place.url + "/v1", api_key=KEY_A, max_retries=0, timeout=30) as client:
        client.chat.completions.create(model="plain", messages=ASKED, extra_body={"prompt": prompt})  # type: ignore[arg-type]  # a message is a dict
        client.responses.create(model="plain", input="hello", prompt=prompt)  # type: ignore[arg-type]  # as above
        told = client.responses.create(
            model="mock/gpt-mock",
            prompt={"id": "support", "variables": {"product": {"type": "input_text", "text": "Moon {{ 7*7 }}"}}},
            input="hello",
        )
    assert told.prompt is not None
    assert told.prompt.id == "support"
    with Client(place.url, api_key=KEY_A, prompt={"id": "support", "variables": {"product": "Moon {{ 7*7 }}"}}) as ours:
        ours.ask("hello", model="plain")
    expected = [{"role": "system", "content": "Support for Moon {{ 7*7 }}, 14 days."}, *ASKED]
    assert [seen.body["messages"] for seen in vendor.requests] == [expected] * 4
    assert all("prompt" not in seen.body for seen in vendor.requests)


def test_a_template_may_be_filled_by_variables_alone(place: GatewayProcess, vendor: Vendor) -> None:
    prompt: Any = {"id": "lone", "variables": {"text": "a\nb"}}
    with Client(place.url, api_key=KEY_A) as ours:
        assert ours.ask([], model="plain", prompt=prompt).text == "echo: Sum up: a\nb"
        assert ours.responses.create(model="plain", prompt=prompt).output_text == "echo: Sum up: a\nb"
    assert names(chat(place, prompt=prompt))[:2] == (400, "messages")
    assert names(chat(place, messages=[])) == (400, "messages", None)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ({"id": "support"}, (400, "prompt.variables.product", "missing_required_parameter")),
        ({"id": "support", "variables": {"prodct": "x"}}, (400, "prompt.variables.prodct", None)),
        ({"id": "support", "variables": {"product": "x", "days": "many"}}, (400, "prompt.variables.days", None)),
        ({"id": "support", "variables": {"product": ["x"]}}, (400, "prompt.variables.product", None)),
        ({"id": "support", "variables": "x"}, (400, "prompt.variables", None)),
        ({"id": "support", "colour": "x"}, (400, "prompt.colour", "unknown_parameter")),
        ({"id": "suport"}, (404, "prompt.id", "prompt_not_found")),
        ({"id": "support", "version": "9"}, (404, "prompt.version", "prompt_not_found")),
        ({"id": "support", "version": "candidate"}, (404, "prompt.version", "prompt_not_found")),
        ({"id": "support@1", "version": "2"}, (400, "prompt.version", None)),
        ({"id": "inner", "variables": {"product": "x"}}, (404, "prompt.id", "prompt_not_found")),
        ({"id": "../../etc/passwd"}, (404, "prompt.id", "prompt_not_found")),
        ({"variables": {"product": "x"}}, (400, "prompt.id", None)),
    ],
)
def test_what_is_wrong_is_named(
    place: GatewayProcess, vendor: Vendor, prompt: Any, expected: tuple[int, str | None, str | None]
) -> None:
    assert names(chat(place, prompt=prompt)) == expected
    assert vendor.requests == []


def test_a_model_keeps_its_own_template(place: GatewayProcess, vendor: Vendor) -> None:
    other = chat(place, model="labelled", prompt={"id": "inner", "variables": {"product": "x"}})
    assert names(other) == (400, "prompt.id", None)
    assert names(chat(place, model="labelled")) == (400, "prompt.variables.product", "missing_required_parameter")
    assert vendor.requests == []
    for prompt in ({}, {"id": "support"}, {"id": "support", "version": 1}):
        answer = chat(place, model="labelled", prompt={**prompt, "variables": {"product": "Sun"}})
        assert answer.status_code == 200, answer.text
    assert recorded(place, answer)["template"]["reference"] == "support@1"


def test_a_key_may_be_bound_to_some_templates(place: GatewayProcess) -> None:
    answer = chat(place, KEY_NARROW, prompt={"id": "support", "variables": {"product": "x"}})
    assert names(answer) == (404, "prompt.id", "prompt_not_found")


def test_guardrails_screen_what_fills_a_template(place: GatewayProcess, vendor: Vendor) -> None:
    secret = "AKIAIOSFODNN7EXAMPLE"
    prompt = {"id": "support", "variables": {"product": f"key {secret}"}}
    assert names(chat(place, model="cautious", prompt=prompt)) == (400, "prompt", "content_filter")
    assert vendor.requests == []
    answer = chat(place, model="veiled", prompt=prompt)
    assert answer.status_code == 200, answer.text
    told = vendor.requests[-1].body["messages"][0]["content"]
    assert told.startswith("Support for key ")
    assert secret not in told
    assert secret not in json.dumps(recorded(place, answer))


def test_turns_without_room_are_summed_up_by_a_call_of_its_own(place: GatewayProcess, vendor: Vendor) -> None:
    turns = [{"role": "user", "content": "old " * 120}, {"role": "assistant", "content": "Fine."}, *ASKED]
    answer = chat(place, model="summing", messages=turns)
    assert answer.status_code == 200, answer.text
    summing, asked = (seen.body for seen in vendor.requests)
    assert (summing["model"], asked["model"]) == ("summer", "gpt-mock")
    assert summing["messages"][0]["content"].endswith("assistant: Fine.")
    first, summary, last = asked["messages"]
    assert (first["role"], summary["role"], last) == ("system", "user", ASKED[0])
    assert summary["content"].startswith("What was said before in this conversation, summed up by a model:\n\necho: ")


# --- drafts, releases, labels ---------------------------------------------------------------------------
def test_a_draft_is_for_operators_alone(place: GatewayProcess, vendor: Vendor) -> None:
    draft = admin(place, "POST", "/drafted/versions", json={"source": SUPPORT, "notes": "first"}).json()
    assert (draft["status"], draft["version"]) == ("draft", 1)
    prompt = {"id": "drafted", "variables": {"product": "x"}}
    for key in (KEY_A, KEY_OPERATOR_B):
        for which in (prompt, {**prompt, "version": "1"}, {**prompt, "version": "latest"}):
            assert chat(place, key, prompt=which).status_code == 404
    assert admin(place, "PUT", "/drafted/labels/production", json={"version": 1}).status_code == 409
    assert vendor.requests == []
    assert chat(place, KEY_ADMIN, prompt={**prompt, "version": "1"}).status_code == 200
    assert chat(place, KEY_ADMIN, prompt=prompt).status_code == 404


def test_what_is_released_never_changes(place: GatewayProcess) -> None:
    version = made(place, "settled", SUPPORT)
    path = f"/settled/versions/{version}"
    assert admin(place, "PUT", path, json={"source": SUPPORT}).status_code == 409
    assert admin(place, "DELETE", path).status_code == 409
    assert admin(place, "POST", path + "/release", json={}).status_code == 409
    broken = admin(place, "POST", "/settled/versions", json={"source": SUPPORT.replace("{{ product }}", "{{ nope }}")})
    assert names(broken) == (400, "source", None)
    assert (
        "source:6: messages[0].content: Jinja: there is nothing called `nope` here" in broken.json()["error"]["message"]
    )


def test_a_label_is_moved_and_rolled_back_in_every_worker(place: GatewayProcess, vendor: Vendor) -> None:
    asked = {"model": "labelled", "prompt": {"variables": {"product": "Sun"}}}
    now = {"Support for Sun, 14 days."}
    assert systems(place, vendor, **asked) == now
    version = made(place, "support", SUPPORT.replace("labels: [production]\n", "").replace("Support", "Help"))
    assert version >= 2
    assert systems(place, vendor, **asked) == now
    moved = admin(place, "PUT", "/support/labels/production", json={"version": version, "expected": 1, "reason": "new"})
    assert moved.json()["version"] == version
    until(lambda: systems(place, vendor, **asked) == {"Help for Sun, 14 days."}, 20, "the new version in all workers")
    crossed = admin(place, "PUT", "/support/labels/production", json={"version": 1, "expected": 1})
    assert names(crossed)[:2] == (409, "expected")
    assert admin(place, "DELETE", "/support/labels/production").status_code == 409  # a model names it
    rolled = admin(place, "POST", "/support/labels/production/rollback", json={"reason": "bad"})
    assert rolled.json()["version"] == 1
    until(lambda: systems(place, vendor, **asked) == now, 20, "the version before in all workers")
    events = admin(place, "GET", "/support/history").json()["data"]
    assert [(each["action"], each["before"], each["after"], each["reason"]) for each in events[:2]] == [
        ("prompts.rollback", version, 1, "bad"),
        ("prompts.label", 1, version, "new"),
    ]
    said = admin(place, "GET", f"/support/diff?before=1&after={version}").json()["diff"]
    assert '+  - {role: system, content: "Help for {{ product }}, {{ days }} days."}' in said


def test_a_kept_answer_is_of_the_version_that_made_it(place: GatewayProcess, vendor: Vendor) -> None:
    def cached(product: str, which: str) -> str:
        prompt = {"id": "support", "version": which, "variables": {"product": product}}
        return chat(place, model="kept", prompt=prompt).headers["x-gateway-cache"]

    version = made(place, "support", SUPPORT.replace("labels: [production]\n", "") + "# the same words\n")
    assert [cached("x", "1"), cached("x", "1"), cached("y", "1")] == ["miss", "hit", "miss"]
    until(lambda: chat(place, model="kept", prompt={"id": "support", "version": str(version), "variables": {"product": "z"}}).status_code == 200, 20)  # fmt: skip
    assert cached("x", str(version)) == "miss"


def test_a_tenants_templates_are_its_own(place: GatewayProcess, vendor: Vendor) -> None:
    source = SUPPORT.replace("direct: true\n", "").replace("Support", "Theirs")
    version = made(place, "private", source, tenant="b")
    assert version == 1
    prompt = {"id": "private", "variables": {"product": "x"}}
    assert names(chat(place, KEY_A, prompt=prompt)) == (404, "prompt.id", "prompt_not_found")
    until(lambda: chat(place, KEY_B, prompt=prompt).status_code == 200, 20, "the template in every worker")
    assert vendor.requests[-1].body["messages"][0]["content"] == "Theirs for x, 14 days."
    # Its operator sees it, and nothing of the gateway's own.
    listed = admin(place, "GET", "", KEY_OPERATOR_B).json()["data"]
    assert {(each["name"], each["tenant"]) for each in listed} == {("private", "b")}
    assert admin(place, "GET", "/support", KEY_OPERATOR_B).status_code == 404
    assert admin(place, "POST", "/support/versions", KEY_OPERATOR_B, json={"source": source}).json()["tenant"] == "b"
    assert admin(place, "DELETE", "/support/versions/1", KEY_OPERATOR_B).status_code == 204
    assert admin(place, "GET", "", KEY_A).status_code == 403


def test_a_tenants_template_says_nothing_that_its_callers_may_not(place: GatewayProcess, vendor: Vendor) -> None:
    """The guardrails of a model are its operator's: who may write templates for itself does not get round them."""
    secret = "AKIAIOSFODNN7EXAMPLE"
    made(place, "smuggled", SUPPORT.replace("Support", f"Key {secret} support"), tenant="a")
    prompt = {"id": "smuggled", "variables": {"product": "x"}}
    until(lambda: chat(place, KEY_A, prompt=prompt).status_code == 200, what="the template in a worker")
    vendor.clear()
    until(lambda: chat(place, KEY_A, model="cautious", prompt=prompt).status_code != 404, what="the one that is asked")
    assert names(chat(place, KEY_A, model="cautious", prompt=prompt))[::2] == (400, "content_filter")
    assert vendor.requests == []
    until(lambda: chat(place, KEY_A, model="veiled", prompt=prompt).status_code == 200, what="the one that is asked")
    assert secret not in json.dumps(vendor.requests[-1].body)


@pytest.mark.parametrize("label", ["latest", "production"])
def test_a_release_whose_label_can_not_be_moved_is_no_release(place: GatewayProcess, label: str) -> None:
    source = "collections: [manuals]\n" + SUPPORT
    version = admin(place, "POST", "/support/versions", json={"source": source}).json()["version"]
    answer = admin(place, "POST", f"/support/versions/{version}/release", json={"label": label})
    assert answer.status_code == (400 if label == "latest" else 409), answer.text
    assert admin(place, "GET", f"/support/versions/{version}").json()["status"] == "draft"
    assert admin(place, "DELETE", f"/support/versions/{version}").status_code == 204


@pytest.mark.parametrize("version", ["9" * 12, "9" * 30, "9" * 200])
def test_a_version_that_no_number_is_is_none(place: GatewayProcess, version: str) -> None:
    prompt = {"id": "support", "version": version, "variables": {"product": "x"}}
    assert names(chat(place, KEY_ADMIN, prompt=prompt)) == (404, "prompt.version", "prompt_not_found")


def test_of_releases_at_once_one_is_done(place: GatewayProcess) -> None:
    admin(place, "POST", "/raced/versions", json={"source": SUPPORT})
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: admin(place, "POST", "/raced/versions/1/release", json={}), range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 5]


def test_a_version_is_looked_at_before_anybody_is_asked(place: GatewayProcess, vendor: Vendor) -> None:
    body = {"variables": {"product": "Moon"}, "messages": ASKED}
    told = admin(place, "POST", "/support/versions/1/render", json=body).json()
    assert told["messages"][0] == {"role": "system", "content": "Support for Moon, 14 days."}
    assert [(part["message"], part["origin"]) for part in told["parts"]] == [
        (0, "template"), (0, "input"), (1, "conversation"),
    ]  # fmt: skip
    assert names(admin(place, "POST", "/support/versions/1/render", json={})) == (400, "variables.product", None)
    assert vendor.requests == []


# --- the command line -----------------------------------------------------------------------------------
def cli(place: GatewayProcess, *arguments: str) -> Result:
    environment = {
        "RAG_GATEWAY_URL": place.url, "RAG_GATEWAY_API_KEY": KEY_ADMIN, "RAG_GATEWAY_CONFIG": str(place.file),
    }  # fmt: skip
    return CliRunner().invoke(main, ["prompts", *arguments], env=environment)


def test_a_template_goes_its_way_by_command(place: GatewayProcess, tmp_path: Path) -> None:
    file = tmp_path / "draft.yaml"
    for words in ("First", "Second"):
        file.write_text(SUPPORT.replace("Support", words))
        assert cli(place, "create", "travels", str(file), "--notes", words).exit_code == 0
    assert "travels@1 is released, production → 1" in cli(place, "release", "travels@1", "--label", "production").output
    assert "is a draft: release it" in cli(place, "label", "travels@2", "production").output
    assert cli(place, "release", "travels@2", "--reason", "go").exit_code == 0
    assert "travels@production → 2" in cli(place, "label", "travels@2", "production", "--expected", "1").output
    assert "travels@production → 1" in cli(place, "rollback", "travels@production", "--reason", "bad").output
    assert '+  - {role: system, content: "Second' in cli(place, "diff", "travels@1", "2").output
    assert "rollback  production: 2 → 1  by admin  bad" in cli(place, "history", "travels").output
    assert "production → 1" in cli(place, "show", "travels").output
    assert cli(place, "show", "travels@production").output.startswith("description: Answers")
    assert "First for Moon" in cli(place, "render", "travels@1", "--var", "product=Moon").output
    assert "travels" in cli(place, "list").output
    assert "is released, and stays as it is" in cli(place, "delete", "travels@2").output
    file.write_text("messages: []")
    broken = cli(place, "create", "travels", str(file))
    assert broken.exit_code == 1
    assert "source:1: messages: list should have at least 1 item" in broken.output


SUITE = """\
targets: [plain, labelled]
judge: mock/judge
embeddings: embedder
tests:
  - description: it echoes
    vars: {product: Moon}
    question: what of {{product}}?
    assert:
      - {type: contains, value: "{{product}}"}
      - {type: not-contains, value: sorry}
      - {type: similar, value: "echo: what of Moon?"}
      - {type: guardrails}
      - {type: latency, threshold: 60000}
"""


def test_a_suite_runs_against_several_targets_and_a_release_may_need_it(place: GatewayProcess, tmp_path: Path) -> None:
    file, report = tmp_path / "suite.yaml", tmp_path / "junit.xml"
    file.write_text(SUITE)
    version = made(place, "support", SUPPORT.replace("labels: [production]\n", "").replace("Support", "Tested"))
    run = ("test", f"support@{version}", "--suite", str(file), "--junit", str(report), "--record")
    passed = cli(place, *run)
    assert passed.exit_code == 0, passed.output
    assert f"support@{version} on labelled: 1 of 1 passed" in passed.output
    told = ElementTree.parse(report).getroot()
    assert [(each.get("name"), each.get("tests"), each.get("failures")) for each in told] == [
        ("plain", "1", "0"),
        ("labelled", "1", "0"),
    ]
    results = admin(place, "GET", f"/support/versions/{version}").json()["results"]
    assert [(each["passed"], each["failed"]) for each in results] == [(2, 0)]
    file.write_text(SUITE.replace("value: sorry", "value: echo"))
    failed = cli(place, *run)
    assert failed.exit_code == 3, failed.output
    assert "not-contains: it should not: echo" in failed.output
    assert ElementTree.parse(report).getroot().get("failures") == "2"
    graded = SUITE.replace("type: guardrails", "type: llm-rubric, value: it is polite")
    file.write_text(graded)
    assert "the judge said no grade" in cli(place, "test", f"support@{version}", "--suite", str(file)).output
    missing = cli(place, "test", "support", "--suite", str(file), "--target", "nowhere")
    assert (missing.exit_code, "the gateway shows this key no model nowhere" in missing.output) == (1, True)


def test_two_versions_are_compared_on_recorded_calls(place: GatewayProcess, vendor: Vendor) -> None:
    draft = admin(place, "POST", "/support/versions", json={"source": SUPPORT.replace("Support", "Other")}).json()
    for product in ("Sun", "Moon"):
        answer = chat(place, model="labelled", prompt={"variables": {"product": product}})
        assert answer.status_code == 200
        recorded(place, answer)
    run = ("compare", "support@1", f"support@{draft['version']}", "--on", "last:2,model:labelled", "--no-embeddings")
    told = cli(place, *run, "--judge", "mock/judge", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.output[told.output.index("{") :])
    assert (found["calls"], found["compared"], found["same"]) == (2, 2, 2)
    assert found["measures"]["judge"]["ties"] == 2
    assert found["verdict"].startswith("No difference between")
    words = {seen.body["messages"][0]["content"] for seen in vendor.requests}
    assert {"Support for Sun, 14 days.", "Other for Moon, 14 days."} <= words


def test_a_template_that_nobody_has_stops_the_start(shared_vendor: Vendor, tmp_path: Path) -> None:
    configuration = plain_configuration(shared_vendor)
    configuration["models"]["m"] = {"targets": ["mock/gpt-mock"], "prompt": "nowhere@production"}
    walked = GatewayProcess(configuration, tmp_path / "gateway")
    checked = CliRunner().invoke(main, ["check", str(walked.file)])
    assert checked.exit_code == 1
    assert "models.m.prompt: is neither in the prompts folder nor in the record store" in checked.output
    with pytest.raises(AssertionError, match=r"models\.m\.prompt: is neither in the prompts folder"), walked:
        pass
