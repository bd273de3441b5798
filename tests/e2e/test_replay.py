"""Calls of a running gateway, listed, shown, and run again from the command line: as they were, or with a change."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from gateway_process import GatewayProcess, until
from postgres_process import PostgresProcess
from sample_gateway import key_entry
from sqlalchemy import func, select
from upstream.vendor import Vendor

from gateway.cli import main
from gateway.records.database import Database
from gateway.records.schema import spend

KEYS = {name: f"sk-gw-canary-replay-{name}-31d0" for name in ("app", "jo", "kim", "other", "admin")}
PRICES = {"old": {"input": 1.0, "output": 2.0}, "*": {"input": 10.0, "output": 20.0}}


@pytest.fixture(scope="module")
def place(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    vendor = shared_vendor
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    names = {"check": "keywords", "lists": [{"kind": "name", "words": ["Bluebird", "Falcon"]}]}
    configuration = {
        "records": {"content": "on", "blocked": "on", "encryption_keys": [base64.b64encode(b"k" * 32).decode()]},
        "residency": {"labels": ["public", "internal"], "default": "public", "stays": "internal"},
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("app", KEYS["app"], tenant="a", speaks_for_users=True),
                key_entry("jo", KEYS["jo"], tenant="a", user="jo"),
                key_entry("kim", KEYS["kim"], tenant="a", user="kim"),
                key_entry("other", KEYS["other"], tenant="b"),
                key_entry("admin", KEYS["admin"], admin=True),
            ],
        },
        "limits": [{"per": ["tenant"], "budget": 5.0, "budget_period": "month"}],
        "providers": {
            "mock": {**mock, "prices": PRICES, "retries": {"attempts": 0}},
            "house": {**mock, "residency": "on_premises", "prices": PRICES},
            "nobody": {**mock, "base_url": "http://127.0.0.1:1/v1", "retries": {"attempts": 0}},
        },
        "guardrails": {"strict": [{**names, "action": "block"}]},
        "models": {
            "plain": {"targets": ["mock/old"]},
            "unkept": {"targets": ["mock/old"], "record_content": False},
            "masked": {"targets": ["mock/old"], "guardrails": {"input": [{**names, "action": "mask"}]}},
            "several": {"targets": ["nobody/x"], "fallbacks": ["mock/old"]},
            "house": {"targets": ["house/old"], "fallbacks": ["mock/old"]},
            "guarded": {
                "targets": ["house/old"],
                "guardrails": {"input": [{"check": "pii", "action": "mask"}, {**names, "action": "block"}]},
            },
            "guarded-unkept": {
                "targets": ["house/old"],
                "guardrails": {"input": [{**names, "action": "block"}]},
                "record_content": False,
            },
        },
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("replay")) as running:
        yield running


@pytest.fixture
def office(place: GatewayProcess, vendor: Vendor) -> GatewayProcess:
    vendor.behaviours["old"] = {"text": "The train leaves at nine. Bring a ticket."}
    vendor.behaviours["new"] = {"text": "The train leaves at ten. Bring a ticket."}
    return place


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[key]}"}


def ask(office: GatewayProcess, model: str = "plain", key: str = "app", **more: Any) -> str:
    """The call's id."""
    body = {"model": model, "messages": [{"role": "user", "content": "When does the train leave?"}], **more}
    answer = httpx.post(office.url + "/v1/chat/completions", json=body, headers=bearer(key), timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-gateway-call-id"])


def get(office: GatewayProcess, path: str, key: str = "app") -> Any:
    return httpx.get(office.url + path, headers=bearer(key), timeout=60).json()


def run(office: GatewayProcess, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["calls", *arguments, "--config", str(office.file)])


def kept(office: GatewayProcess, *calls: str) -> None:
    """Wait for the store to have them: the command line reads it beside the gateway."""
    for call in calls:
        until(lambda call=call: run(office, "show", call).exit_code == 0, what="the record")  # type: ignore[misc]  # the default binds the loop's value


def replayed(office: GatewayProcess, *arguments: str, status: int = 0) -> dict[str, Any]:
    result = run(office, "replay", *arguments, "--json")
    assert result.exit_code == status, result.output
    return dict(json.loads(result.stdout))


def test_a_call_is_run_again_at_another_target(office: GatewayProcess, vendor: Vendor) -> None:
    call = ask(office, temperature=0.25, user="jo", safety_identifier="jo-canary")
    kept(office, call)
    spent = _spent(office, "a")
    assert get(office, f"/v1/calls/{call}")["parameters"] == {"temperature": 0.25}
    vendor.requests.clear()
    told = replayed(office, call, "--target", "mock/new")
    assert [(seen.body["model"], seen.body["temperature"]) for seen in vendor.requests] == [("new", 0.25)]
    (one,) = told["replays"]
    assert (one["then"]["target"], one["again"]["target"]) == ("mock/old", "mock/new")
    assert one["differences"]["text"].splitlines()[3:] == [
        "-The train leaves at nine.", "+The train leaves at ten.", " Bring a ticket.",
    ]  # fmt: skip
    assert one["again"]["cost"] == pytest.approx(10 * one["then"]["cost"])
    assert told["cost"]["again"] == pytest.approx(one["again"]["cost"])
    record = get(office, "/v1/calls/" + one["again"]["call_id"])
    assert record["made_for"] == {"purpose": "replay", "call_id": call}
    assert (record["caller"]["tenant"], record["caller"]["user"]) == ("a", "jo")
    assert record["answer"] == "The train leaves at ten. Bring a ticket."
    assert _spent(office, "a") == spent > 0, "a replay is charged to nobody"
    again = get(office, f"/v1/calls?made_for=replay&since={time.time() - 600}")["data"]
    assert one["again"]["call_id"] in [listed["id"] for listed in again]
    own = get(office, "/v1/calls?limit=100")["data"]
    assert one["again"]["call_id"] not in [listed["id"] for listed in own]
    shown = run(office, "replay", call, "--target", "mock/new").output
    assert "-The train leaves at nine." in shown
    assert "mock/new" in shown


def test_it_may_be_charged_to_whom_the_call_was_made_for(office: GatewayProcess) -> None:
    call = ask(office, key="other")
    kept(office, call)
    (free,) = replayed(office, call)["replays"]
    assert _spent(office, "b") == pytest.approx(free["then"]["cost"])
    (one,) = replayed(office, call, "--charge")["replays"]
    assert _spent(office, "b") == pytest.approx(one["then"]["cost"] + one["again"]["cost"])


def _spent(office: GatewayProcess, tenant: str) -> float:
    """Of the tenant's budget, as the record store counts it."""
    database = Database(f"sqlite:///{office.folder / 'data' / 'gateway.db'}")
    database.prepare()
    try:
        with database.reading() as connection:
            of_tenant = spend.c.subject.contains(f"tenant={tenant}")
            return float(connection.scalar(select(func.sum(spend.c.usd)).where(of_tenant)) or 0.0)
    finally:
        database.close()


def test_calls_are_selected_and_what_is_asked_of_them_decides_the_exit_status(office: GatewayProcess) -> None:
    calls = [ask(office, user="selected") for _ in range(3)]
    for call, score in zip(calls, (0.1, 0.9, 0.2), strict=True):
        said = {"call_id": call, "score": score, "label": "wrong" if score < 0.5 else "right"}
        assert httpx.post(office.url + "/v1/feedback", json=said, headers=bearer("app")).status_code == 201
    kept(office, *calls)
    mine = ("--user", "selected")
    bad = replayed(office, *mine, "--label", "wrong")
    assert [one["call_id"] for one in bad["replays"]] == [calls[2], calls[0]]
    assert bad["same"] == 2
    assert replayed(office, *mine, "--max-score", "0.15")["calls"] == 1
    assert replayed(office, "--on", "last:2,user:selected", "--fail-on", "text")["calls"] == 2
    changed = (*mine, "--last", "3", "--target", "mock/new")
    assert replayed(office, *changed, "--max-cost-ratio", "11")["text_changed"] == 3
    assert replayed(office, *changed, "--fail-on", "text", status=3)["broken"] == ["3 of 3 calls differ in: text"]
    assert len(replayed(office, *changed, "--max-cost-ratio", "9", status=3)["broken"]) == 1
    failed = replayed(office, *mine, "--last", "1", "--target", "nobody/x", "--fail-on", "error", status=3)
    assert failed["replays"][0]["again"]["outcome"] == "error"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "which calls?"),
        (("call_0",), "no call call_0 is recorded here"),
        (("--model", "nothing"), "no call is recorded that this selects"),
        (("--model", "unkept"), "nothing of what was said in these calls was kept"),
        (("--on", "newest:5"), "'newest' selects no calls"),
        (("--since", "soon"), "since soon"),
        (("call_0", "--last", "3"), "not both"),
    ],
)
def test_what_can_not_be_replayed_is_told(office: GatewayProcess, arguments: tuple[str, ...], told: str) -> None:
    kept(office, ask(office, "unkept"))
    result = run(office, "replay", *arguments)
    assert result.exit_code == 1
    assert told in result.output


def test_what_can_not_be_changed_is_told_of_each_call(office: GatewayProcess) -> None:
    call, unkept = ask(office), ask(office, "unkept")
    kept(office, call, unkept)
    for change, told in (
        (("--target", "else/x"), "there is no provider else"),
        (("--template", "none@1"), "none@1"),
        (("--set", "top_k=3"), "no retrieval"),
        (("--input-guardrails", "lax"), "no set of guardrails lax"),
    ):
        (one,) = replayed(office, call, *change, status=1)["replays"]
        assert told in one["failure"]
        assert one["again"] is None
    (one,) = replayed(office, unkept, status=1)["replays"]
    assert "what was said was not kept" in one["failure"]


def test_other_guardrails_are_tried_on_what_was_kept(office: GatewayProcess, vendor: Vendor) -> None:
    """What was masked then is kept masked: its verdict is not missed."""
    said = [{"role": "user", "content": "When does Bluebird leave, and when does Falcon?"}]
    call, open_call = ask(office, "masked", messages=said), ask(office, messages=said)
    kept(office, call, open_call)
    (same,) = replayed(office, call, "--fail-on", "verdicts")["replays"]
    assert [verdict.split()[:3] for verdict in same["then"]["verdicts"]] == [["input", "keywords", "mask"]]
    vendor.requests.clear()
    (blocked,) = replayed(office, open_call, "--input-guardrails", "strict", "--fail-on", "error", status=3)["replays"]
    assert (blocked["differences"]["outcome"], vendor.requests) == (["ok", "blocked"], [])
    assert blocked["differences"]["verdicts_gained"][0].startswith("input keywords block")
    (freed,) = replayed(office, call, "--input-guardrails", "-")["replays"]
    assert freed["again"]["outcome"] == "ok"


def blocked(office: GatewayProcess, model: str) -> str:
    """The id of a call that a guardrail blocks on its way in."""
    said = [{"role": "user", "content": "Does Bluebird leave at nine? Tell kim@example.org."}]
    tools = [{"type": "function", "function": {"name": "board", "description": "For kim@example.org alone."}}]
    body = {"model": model, "messages": said, "temperature": 0.5, "tools": tools}
    answer = httpx.post(office.url + "/v1/chat/completions", json=body, headers=bearer("app"), timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "content_filter"), answer.text
    return str(answer.headers["x-gateway-call-id"])


def test_what_was_blocked_is_kept_masked_and_encrypted_and_asked_of_other_guardrails(
    office: GatewayProcess, vendor: Vendor
) -> None:
    call = blocked(office, "guarded")
    kept(office, call)
    vendor.requests.clear()
    record = json.loads(run(office, "show", call, "--json").stdout)
    assert record["conversation"] == [{"role": "user", "content": "Does Bluebird leave at nine? Tell <EMAIL_ADDRESS>."}]
    assert record["parameters"]["tools"][0]["function"]["description"] == "For <EMAIL_ADDRESS> alone."
    assert (record["messages"], record["answer"], record["parameters"]["temperature"]) == (None, None, 0.5)
    assert b"Does Bluebird" not in office.stored()
    assert b"kim@example.org" not in office.stored()

    (same,) = replayed(office, call, "--fail-on", "error")["replays"]
    assert (same["then"]["outcome"], same["again"]["outcome"]) == ("blocked", "blocked")
    assert [verdict for verdict in same["again"]["verdicts"] if verdict.startswith("input keywords block")]
    (freed,) = replayed(office, call, "--input-guardrails", "-")["replays"]
    assert freed["differences"]["outcome"] == ["blocked", "ok"]
    assert "nobody was asked" in freed["notes"][-1]
    assert ", 2 no longer blocked." in run(office, "replay", call, call, "--input-guardrails", "-").output
    assert vendor.requests == [], "what was blocked goes nowhere"
    (asked,) = replayed(office, call, "--input-guardrails", "-", "--target", "house/new")["replays"]
    assert asked["again"]["outcome"] == "ok"
    assert [seen.body["messages"] for seen in vendor.requests] == [record["conversation"]]


def test_a_blocked_call_that_was_not_kept_is_told_and_never_selected(office: GatewayProcess) -> None:
    unkept, call = blocked(office, "guarded-unkept"), blocked(office, "guarded")
    kept(office, unkept, call)
    (one,) = replayed(office, unkept, status=1)["replays"]
    assert "records: {blocked: on}" in one["failure"]
    assert replayed(office, "--outcome", "blocked", "--last", "1")["replays"][0]["call_id"] == call
    result = run(office, "replay", "--model", "guarded-unkept")
    assert (result.exit_code, "records: {blocked: on}" in result.output) == (1, True)


def test_what_may_not_leave_the_premises_does_not_for_a_replay(office: GatewayProcess, vendor: Vendor) -> None:
    call = ask(office, "house", metadata={"sensitivity": "internal"})
    kept(office, call)
    vendor.requests.clear()
    (one,) = replayed(office, call, "--target", "mock/new", "--fail-on", "error", status=3)["replays"]
    assert (one["again"]["outcome"], vendor.requests) == ("error", [])
    assert "residency" in one["again"]["error"]
    (one,) = replayed(office, call, "--target", "house/new")["replays"]
    assert one["again"]["outcome"] == "ok"


def test_a_record_says_how_a_target_was_chosen(office: GatewayProcess) -> None:
    call = get(office, "/v1/calls/" + ask(office, "several"))
    assert call["routing"]["strategy"] == "priority"
    assert call["routing"]["candidates"] == ["nobody/x", "mock/old"]
    failed, answered = call["attempts"]
    assert (failed["target"], "usage" in failed) == ("nobody/x", False)
    assert (answered["target"], answered["usage"], answered["cost"]) == ("mock/old", call["usage"], call["cost"])
    assert answered["start_ms"] > failed["start_ms"] >= 0
    labelled = get(office, "/v1/calls/" + ask(office, "house", metadata={"sensitivity": "internal"}))
    assert labelled["routing"]["passed_over"] == [{"target": "mock/old", "why": "residency"}]


def test_calls_are_listed_page_by_page_to_those_whom_they_concern(office: GatewayProcess) -> None:
    first = [ask(office, user="paged", temperature=0.5) for _ in range(5)]
    pages, path = [], "/v1/calls?user=paged&limit=2"
    while True:
        page = get(office, path)
        pages.append([call["id"] for call in page["data"]])
        if not page["has_more"]:
            break
        path = f"/v1/calls?user=paged&limit=2&after={page['next']}"
    assert pages == [first[:2:-1], first[2:0:-1], first[:1]]
    jos, kims = ask(office, key="jo"), ask(office, key="kim")
    listed = {key: [call["id"] for call in get(office, "/v1/calls?limit=100", key)["data"]] for key in KEYS}
    assert jos in listed["jo"]
    assert not {kims, *first} & set(listed["jo"]), "another user's, or nobody's"
    assert {jos, kims} <= set(listed["app"])
    assert not set(listed["app"]) & set(listed["other"])
    assert get(office, "/v1/calls?user=kim", "jo")["data"] == []
    assert (
        get(office, "/v1/calls?target=mock/old&outcome=ok&cache=off&user=paged&model=plain")["data"][0]["id"]
        == first[-1]
    )
    assert get(office, "/v1/calls?user=paged&since=8999999999")["data"] == []
    for wrong, param in (("after=x", "after"), ("limit=0", "limit"), ("outcome=fine", "outcome")):
        assert get(office, f"/v1/calls?{wrong}")["error"]["param"] == param
    kept(office, *first)
    shown = run(office, "list", "--user", "paged", "--last", "2")
    assert [line.split()[2] for line in shown.output.splitlines()[1:]] == first[:2:-1]


def test_feedback_is_shown_with_the_call_and_counts_once(office: GatewayProcess) -> None:
    call = ask(office, key="jo")
    said = {"call_id": call, "score": 0.0, "comment": "It left at ten.", "correction": "At ten."}
    for key, status in (("jo", 201), ("jo", 201), ("kim", 404), ("other", 404)):
        answer = httpx.post(office.url + "/v1/feedback", json=said, headers=bearer(key))
        assert answer.status_code == status
    httpx.post(office.url + "/v1/feedback", json={"call_id": call, "label": "seen"}, headers=bearer("app"))
    of_all = get(office, f"/v1/calls/{call}")["feedback"]
    assert [(one["user"], one["score"], one["label"], one["comment"]) for one in of_all] == [
        ("jo", 0.0, None, "It left at ten."), (None, None, "seen", None),
    ]  # fmt: skip
    assert [one["user"] for one in get(office, f"/v1/calls/{call}", "jo")["feedback"]] == ["jo"]
    kept(office, call)
    assert "It left at ten." in run(office, "show", call).output


# --- PostgreSQL, and templates of a tenant's own --------------------------------------------------------
SUPPORT = "messages: [{{role: system, content: 'Support for {{{{ product }}}}, {}.'}}, conversation]\ninputs: {{product: {{}}}}\n"


@pytest.fixture(scope="module")
def branch(
    shared_vendor: Vendor, postgres_server: PostgresProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    url = postgres_server.database()
    database = Database(url)
    database.upgrade()
    database.close()
    mock = {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
    configuration = {
        "records": {"content": "on", "url": url},
        "lake": {"every": "100ms"},
        "access": {
            "open_on_loopback": False,
            "keys": [key_entry("app", KEYS["app"], tenant="a"), key_entry("admin", KEYS["admin"], admin=True)],
        },
        "providers": {"mock": {**mock, "prices": PRICES}},
        "models": {"plain": {"targets": ["mock/old"]}},
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("branch")) as running:
        yield running


def own_templates(branch: GatewayProcess, folder: Path) -> None:
    """Two released versions of the tenant's own, and a draft."""
    file = folder / "support.yaml"
    to = ["--tenant", "a", "--url", branch.url, "--api-key", KEYS["admin"]]
    for words in ("be brief", "take your time", "be kind"):
        file.write_text(SUPPORT.format(words))
        made = CliRunner().invoke(main, ["prompts", "create", "support", str(file), *to])
        assert made.exit_code == 0, made.output
    for version in (1, 2):
        released = CliRunner().invoke(main, ["prompts", "release", f"support@{version}", *to])
        assert released.exit_code == 0, released.output


def test_a_tenants_own_templates_are_replayed_from_postgresql(
    branch: GatewayProcess, vendor: Vendor, tmp_path: Path
) -> None:
    vendor.behaviours["old"] = {"text": "It does."}
    own_templates(branch, tmp_path)
    prompt = {"id": "support", "version": "1", "variables": {"product": "Moon"}}
    call = until(lambda: _asked(branch, prompt), what="the template's way to the gateway")
    kept(branch, call)

    def systems(*arguments: str) -> list[str]:
        vendor.requests.clear()
        assert replayed(branch, call, *arguments)["run"] == 1
        return [seen.body["messages"][0]["content"] for seen in vendor.requests]

    assert systems() == ["Support for Moon, be brief."]
    assert systems("--template", "support@2") == ["Support for Moon, take your time."]
    assert systems("--template", "support@3") == ["Support for Moon, be kind."], "a draft can be tried"
    (one,) = replayed(branch, "--template", "support@9", "--last", "1", "--model", "plain")["replays"]
    assert one["again"]["error"].startswith("prompt_not_found")
    assert (one["then"]["template"], one["call_id"]) == ("support@1", call)


def _asked(branch: GatewayProcess, prompt: dict[str, Any]) -> str | None:
    """The call's id; None where the template has not come to the gateway yet."""
    body = {"model": "plain", "messages": [{"role": "user", "content": "Does it?"}], "prompt": prompt}
    answer = httpx.post(branch.url + "/v1/chat/completions", json=body, headers=bearer("app"), timeout=60)
    return str(answer.headers["x-gateway-call-id"]) if answer.status_code == 200 else None


def test_calls_are_listed_shown_and_queried_from_postgresql(branch: GatewayProcess) -> None:
    calls = [ask(branch, temperature=0.5) for _ in range(3)]
    said = {"call_id": calls[0], "score": 0.0, "label": "late", "comment": "It left at ten."}
    assert httpx.post(branch.url + "/v1/feedback", json=said, headers=bearer("app")).status_code == 201
    kept(branch, *calls)
    listed = [json.loads(line)["id"] for line in run(branch, "list", "--json", "--last", "3").stdout.splitlines()]
    assert listed == calls[::-1]
    labelled = run(branch, "list", "--label", "late", "--json").stdout
    assert [json.loads(line)["id"] for line in labelled.splitlines()] == calls[:1]
    assert "It left at ten." in run(branch, "show", calls[0]).output
    assert [one["call_id"] for one in replayed(branch, "--label", "late")["replays"]] == calls[:1]

    def in_lake() -> list[Any]:
        sql = "SELECT c.call_id, f.score FROM calls c JOIN feedback f USING (call_id) WHERE f.label = 'late'"
        told = run(branch, "query", sql, "--format", "json")
        assert told.exit_code == 0, told.output
        return [json.loads(line) for line in told.stdout.splitlines()]

    assert until(in_lake, what="its way to the lake") == [{"call_id": calls[0], "score": 0.0}]
