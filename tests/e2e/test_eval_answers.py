"""`rag-gateway eval answers` against a gateway that runs: its own knowledge and embedder, answers of all kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from gateway_process import GatewayProcess
from sample_gateway import key_entry
from upstream.vendor import Vendor

from gateway.cli import main

ROOT = Path(__file__).parents[2]
KEY = "sk-gw-canary-eval-answers-2b8d"
LEAVE = "How long is parental leave for employees?"
# The last sentence of this section stands behind the 300 characters that `rag.sources` quotes.
REST = "Parking: " + "the garage under the main house has two hundred places, which are given out by the porter. " * 4
TUNNEL = "The secret tunnel to the harbour opens at midnight."


@pytest.fixture(scope="module")
def office(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    docs = tmp_path_factory.mktemp("office")
    for name, text in {
        "leave.md": "# Leave\n\nParental leave for employees is fourteen weeks.\n",
        "parking.md": f"# Parking\n\n{REST}{TUNNEL}\n",
    }.items():
        (docs / name).write_text(text)
    mock = {
        "kind": "openai_compatible",
        "base_url": shared_vendor.url,
        "api_key": shared_vendor.api_key,
        "retries": {"attempts": 0},
    }
    prices = {"told": {"input": 100, "output": 0}}
    (docs / "vault").mkdir()
    (docs / "vault" / "merger.md").write_text("# Merger\n\nThe merger with Umbrella is planned for May.\n")
    from_knowledge = {"prompt": "handbook@1", "retrieval": {"collection": "office", "top_k": 2, "budget": "60s"}}
    configuration = {
        "access": {"open_on_loopback": False, "keys": [key_entry("eval", KEY)]},
        "prompts": {"folder": str(ROOT / "configs" / "prompts")},
        "providers": {
            "mock": {**mock, "prices": prices},
            "extractive": {"kind": "extractive"},
            "local": {"kind": "local_embeddings"},
        },
        "retrieval": {
            "collections": {
                "office": {"load": [str(docs / "leave.md"), str(docs / "parking.md")]},
                "vault": {"load": [str(docs / "vault")], "sensitivity": "restricted"},
            }
        },
        "residency": {"stays": "restricted"},
        "models": {
            "extracts": {"targets": ["extractive"], **from_knowledge, "record_content": True},
            "unrecorded": {"targets": ["extractive"], **from_knowledge},
            "told": {"targets": ["mock/told"], **from_knowledge, "cache": {"exact": {"ttl": "1h"}}},
            "vault": {
                "targets": ["extractive"],
                "prompt": "handbook@1",
                "retrieval": {"collection": "vault", "budget": "60s"},
                "record_content": True,
            },
            "judge": {"targets": ["mock/judge"]},
            "outside": {"targets": ["mock/embeds"]},
            "all-MiniLM-L6-v2": {"targets": ["local/all-MiniLM-L6-v2"]},
        },
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return tmp_path / "questions.jsonl"


def ask(file: Path, url: str, model: str, *options: str, lines: list[dict[str, Any]] | None = None) -> Result:
    if lines is not None:
        file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    command = ["eval", "answers", "--model", model, "--questions", str(file), "--url", url, *options]
    return CliRunner().invoke(main, command, env={"RAG_GATEWAY_API_KEY": KEY}, catch_exceptions=False)


def report(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


def values(result: Result) -> dict[str, float]:
    return {name: mean["mean"] for name, mean in report(result)["measures"].items()}


def test_answers_from_passages_are_scored(office: GatewayProcess, questions: Path) -> None:
    lines = [
        {"question": LEAVE, "answers": ["14 weeks", "fourteen weeks"], "documents": ["leave.md"]},
        {"question": "Wann öffnet der Tunnel? When does the tunnel open?"},
    ]
    result = ask(questions, office.url, "extracts", "--json", lines=lines)

    assert result.exit_code == 0, result.output
    told = report(result)
    named = {Path(document).name for document in told["answers"][0]["documents"]}
    assert named == {"leave.md", "parking.md"}
    assert "fourteen weeks" in told["answers"][0]["answer"]
    assert "midnight" in told["answers"][1]["answer"]
    assert {
        name: told[name] for name in ("questions", "answered", "failed", "refused", "without_passages", "degraded")
    } == {"questions": 2, "answered": 2, "failed": 0, "refused": 0, "without_passages": 0, "degraded": 0}
    assert told["with_sources"] == told["with_whole_passages"] == 2
    for measure in ("citation_validity", "citation_coverage", "citation_annotation", "citation_support"):
        assert told["measures"][measure] == {"mean": 1.0, "questions": 2}, measure
    assert told["measures"]["groundedness"] == {"mean": 1.0, "questions": 2}
    assert told["measures"]["containment"] == {"mean": 1.0, "questions": 1}
    assert told["measures"]["token_f1"]["questions"] == 1
    assert 0 < told["seconds"]["p50"] <= told["seconds"]["p95"]


def test_documents_are_told_by_their_ids(office: GatewayProcess, questions: Path) -> None:
    asked = [{"question": LEAVE}]
    (document,) = {
        each
        for each in report(ask(questions, office.url, "extracts", "--json", lines=asked))["answers"][0]["documents"]
        if each.endswith("leave.md")
    }
    told = values(
        ask(
            questions, office.url, "extracts", "--json", "--no-embeddings",
            lines=[{"question": LEAVE, "documents": [document, "missing.md"]}],
        )
    )  # fmt: skip

    assert told["document_recall"] == 0.5
    assert told["document_precision"] == 1.0
    assert "groundedness" not in told


def test_without_recorded_content_only_a_passages_beginning_is_compared(
    office: GatewayProcess, questions: Path
) -> None:
    asked = [{"question": "When does the secret tunnel to the harbour open?"}]
    strict = ("--threshold", "0.95")
    recorded = ask(questions, office.url, "extracts", *strict, "--json", lines=asked)
    unrecorded = ask(questions, office.url, "unrecorded", *strict)

    assert values(recorded)["citation_support"] == 1.0
    assert "citations: cited sentences that their sources support  0.000          1" in unrecorded.stdout
    assert "1 of 1 answers were compared with the beginnings of their passages only" in unrecorded.stdout


def test_a_judge_and_what_is_made_up(office: GatewayProcess, vendor: Vendor, questions: Path) -> None:
    answer = "Parental leave for employees is fourteen weeks [1]. The moon is a slice of old cheese [9]."
    vendor.behaviours["told"] = {"text": answer}
    vendor.behaviours["judge"] = {"text": '{"1": "yes", "2": "no"}'}
    result = ask(questions, office.url, "told", "--judge", "judge", "--json", lines=[{"question": LEAVE}])

    assert result.exit_code == 0, result.output
    assert values(result) == {
        "citation_validity": 0.5, "citation_coverage": 0.5, "citation_annotation": 1.0, "citation_support": 1.0,
        "groundedness": 0.5, "judged_groundedness": 0.5,
    }  # fmt: skip
    assert report(result)["cost_usd"] == {"sum": pytest.approx(0.0011), "mean": pytest.approx(0.0011), "answers": 1}
    judged = next(seen.body for seen in vendor.requests if seen.body["model"] == "judge")
    given = json.loads(judged["messages"][-1]["content"])
    assert given["question"] == LEAVE
    assert given["sentences"] == {
        "1": "Parental leave for employees is fourteen weeks.",
        "2": "The moon is a slice of old cheese.",
    }
    assert "fourteen weeks" in given["sources"][0]


def test_what_may_not_leave_is_shown_to_no_judge_and_no_embedder_outside(
    office: GatewayProcess, vendor: Vendor, questions: Path
) -> None:
    asked = [{"question": "When is the merger planned?"}]
    result = ask(questions, office.url, "vault", "--judge", "judge", "--embeddings", "outside", "--json", lines=asked)
    inside = ask(questions, office.url, "vault", "--json")

    assert vendor.requests == []
    assert values(result) == {"citation_validity": 1.0, "citation_coverage": 1.0, "citation_annotation": 1.0}
    assert "line 1: the texts could not be compared: HTTP 403: This call is labelled 'restricted'" in result.stderr
    assert "line 1: judge gave no verdict: HTTP 403: This call is labelled 'restricted'" in result.stderr
    assert values(inside)["groundedness"] == 1.0


def test_an_open_passage_may_be_compared_outside_and_its_label_stays_here(
    office: GatewayProcess, vendor: Vendor, questions: Path
) -> None:
    result = ask(questions, office.url, "extracts", "--embeddings", "outside", "--json", lines=[{"question": LEAVE}])

    assert "groundedness" in values(result)
    assert {frozenset(seen.body) for seen in vendor.requests} == {frozenset({"model", "input"})}


def test_a_judge_who_rambles_is_told_and_the_rest_stands(
    office: GatewayProcess, vendor: Vendor, questions: Path
) -> None:
    vendor.behaviours["told"] = {"text": "Fourteen weeks [1]."}
    vendor.behaviours["judge"] = {"text": "Well, yes and no."}
    result = ask(questions, office.url, "told", "--judge", "judge", "--json", lines=[{"question": LEAVE}])

    assert result.exit_code == 0
    assert "judged_groundedness" not in values(result)
    assert values(result)["citation_validity"] == 1.0
    assert report(result)["not_fully_measured"] == 1
    assert "line 1: judge gave no verdict: the judge did not answer with JSON" in result.stderr


def test_answers_are_made_anew_and_failures_are_told(office: GatewayProcess, vendor: Vendor, questions: Path) -> None:
    vendor.behaviours["told"] = {"text": "Fourteen weeks [1].", "status": 500, "fail_times": 1}
    lines = [{"question": LEAVE}] * 3
    result = ask(questions, office.url, "told", "--concurrency", "1", lines=lines)

    assert result.exit_code == 0
    assert "3 questions to told: 2 answered, 1 failed." in result.stdout
    assert "line 1: HTTP 502: " in result.stderr
    assert "citations: marks that name a source                    1.000          2" in result.stdout
    assert len([seen for seen in vendor.requests if seen.body["model"] == "told"]) == 3


def test_when_nothing_is_answered_the_command_fails(office: GatewayProcess, vendor: Vendor, questions: Path) -> None:
    vendor.behaviours["told"] = {"status": 500}
    result = ask(questions, office.url, "told", lines=[{"question": LEAVE}] * 7)

    assert result.exit_code == 1
    assert "7 questions to told: 0 answered, 7 failed." in result.stdout
    assert "… and 2 more" in result.stderr


def test_refusals_and_empty_answers_are_counted(office: GatewayProcess, vendor: Vendor, questions: Path) -> None:
    vendor.behaviours["told"] = {"text": "", "message_extra": {"refusal": "I can't help with that."}}
    refused = report(ask(questions, office.url, "told", "--json", lines=[{"question": LEAVE, "answers": ["14"]}]))
    vendor.behaviours["told"] = {"text": " "}
    empty = report(ask(questions, office.url, "told", "--json"))

    assert (refused["refused"], refused["empty"]) == (1, 0)
    assert refused["measures"] == {
        name: {"mean": 0.0, "questions": 1} for name in ("exact_match", "token_f1", "containment")
    }
    assert (empty["refused"], empty["empty"]) == (0, 1)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("nobody",), "--model: the gateway shows this key no model nobody; it shows extracts, unrecorded, told,"),
        (("told", "--judge", "x"), "--judge: the gateway shows this key no model x"),
        (("told", "--embeddings", "x"), "--embeddings (or --no-embeddings): the gateway shows this key no model x"),
        (("told", "--api-key", "sk-wrong"), "HTTP 401: "),
    ],
)
def test_what_cannot_work_ends_before_anything_is_asked(
    office: GatewayProcess, vendor: Vendor, questions: Path, options: tuple[str, ...], fault: str
) -> None:
    result = ask(questions, office.url, *options, lines=[{"question": LEAVE}])

    assert result.exit_code == 1
    assert fault in result.stderr
    assert result.stdout == ""
    assert vendor.requests == []


def test_no_gateway_and_no_questions(vendor: Vendor, questions: Path) -> None:
    away = ask(questions, "http://127.0.0.1:1", "told", lines=[{"question": LEAVE}])
    assert (away.exit_code, away.stderr) == (
        1, "no gateway answers at http://127.0.0.1:1: start one with `rag-gateway serve`\n",
    )  # fmt: skip
    stranger = ask(questions, vendor.url, "told")
    assert (stranger.exit_code, "HTTP 400" in stranger.stderr) == (1, True)
    questions.write_text('{"question": "a"}\n{"question": 7}\n')
    bad = ask(questions, "http://127.0.0.1:1", "told")
    assert bad.exit_code == 1
    assert f"{questions}:2: should be like" in bad.stderr
