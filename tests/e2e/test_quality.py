"""A share of the answers is judged beside the calls: on the record, in the metrics, at nobody's cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gateway_process import GatewayProcess, until
from otlp_sink import Sink, attributes_of
from sample_gateway import KEY_A, KEY_ADMIN, KEY_B, plain_configuration
from upstream.vendor import Vendor


@pytest.fixture(scope="module")
def collector() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def judged(collector: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, Vendor]]:
    with Vendor() as vendor:
        configuration = plain_configuration(vendor)
        models: dict[str, Any] = configuration["models"]
        quality = {"sample": 1.0, "judge": "mock/judge", "measures": ["relevance"]}
        models["watched"] = {"targets": ["mock/gpt-mock"], "quality": quality}
        models["watched-cached"] = {"targets": ["mock/gpt-mock"], "quality": quality, "cache": {"exact": {}}}
        configuration["telemetry"] = {"events": {"otlp": {"endpoint": collector.url}, "every": "50ms"}}
        configuration["limits"] = [{"per": ["tenant"], "tokens_per_day": 1_000_000}]
        with GatewayProcess(configuration, tmp_path_factory.mktemp("quality")) as running:
            yield running, vendor


def ask(running: GatewayProcess, model: str, words: str, **more: Any) -> str:
    """The call's id."""
    body = {"model": model, "messages": [{"role": "user", "content": words}], **more}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body, headers=bearer(KEY_A), timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-gateway-call-id"]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def record(running: GatewayProcess, call_id: str) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"{running.url}/v1/calls/{call_id}", headers=bearer(KEY_A)).json()
    return told


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_judged_and_its_record_says_so(
    judged: tuple[GatewayProcess, Vendor], collector: Sink, stream: bool
) -> None:
    running, vendor = judged
    vendor.behaviours["judge"] = {"text": "3"}
    call = ask(running, "watched", f"is this judged? {stream}", stream=stream)
    (found,) = until(lambda: record(running, call)["quality"])
    assert (found["measure"], found["score"], found["judged_by"]) == ("relevance", 0.75, "mock/judge")
    text = httpx.get(running.url + "/metrics", headers=bearer(KEY_ADMIN)).text
    assert 'rag_gateway_quality_score{measure="relevance",model="watched"} 0.75' in text
    assert 'rag_gateway_quality_judged_total{measure="relevance",model="watched"}' in text
    assert httpx.get(f"{running.url}/v1/calls/{call}", headers=bearer(KEY_B)).status_code == 404

    def told() -> list[Any]:
        return [event for event in collector.events if attributes_of(event)["rag_gateway.call.id"] == call]

    (event,) = until(told, what="the event")
    assert (event.trace_id.hex(), event.span_id) == (record(running, call)["trace_id"], b"")  # no spans are made here
    told_of = attributes_of(event)
    names = ("gen_ai.evaluation.name", "gen_ai.evaluation.score.value", "rag_gateway.evaluation.by")
    assert tuple(told_of[name] for name in names) == ("relevance", 0.75, "mock/judge")
    assert told_of["gen_ai.response.id"] == record(running, call)["answer_id"]
    text = httpx.get(running.url + "/metrics", headers=bearer(KEY_ADMIN)).text
    assert "\nrag_gateway_events_dropped_total 0.0\n" in text


def test_what_a_judge_does_not_grade_is_a_failure_and_no_score(judged: tuple[GatewayProcess, Vendor]) -> None:
    running, vendor = judged
    vendor.behaviours["judge"] = {"text": "I had rather not say"}
    before = failures(running)
    call = ask(running, "watched", "what nobody grades")
    until(lambda: failures(running) == before + 1)
    assert record(running, call)["quality"] == []


def test_a_kept_answer_is_not_judged_again_and_the_judge_is_charged_to_nobody(
    judged: tuple[GatewayProcess, Vendor],
) -> None:
    running, vendor = judged
    vendor.behaviours["judge"] = {"text": "4"}
    first = ask(running, "watched-cached", "kept once")
    until(lambda: record(running, first)["quality"])
    asked = sum(seen.body["model"] == "judge" for seen in vendor.requests)
    used = limits(running)
    again = ask(running, "watched-cached", "kept once")
    assert record(running, again)["cache"] == "hit"
    other = ask(running, "watched-cached", "another question")
    until(lambda: record(running, other)["quality"])
    assert sum(seen.body["model"] == "judge" for seen in vendor.requests) == asked + 1
    usage = record(running, other)["usage"]
    assert limits(running) - used == usage["prompt_tokens"] + usage["completion_tokens"]


def failures(running: GatewayProcess) -> float:
    text = httpx.get(running.url + "/metrics", headers=bearer(KEY_ADMIN)).text
    lines = [line for line in text.splitlines() if line.startswith("rag_gateway_quality_failures_total")]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def limits(running: GatewayProcess) -> int:
    """Tokens that tenant a has used today."""
    rows = httpx.get(running.url + "/v1/limits", headers=bearer(KEY_A)).json()["data"]
    return int(next(row["used"] for row in rows if row["limit"] == "tokens_per_day"))


def test_who_judges_must_be_there(tmp_path: Path, judged: tuple[GatewayProcess, Vendor]) -> None:
    running, _ = judged
    configuration = yaml.safe_load(running.file.read_text("utf-8"))
    configuration["models"]["watched"]["quality"] = {"sample": 0.1, "judge": "nowhere/judge"}
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(configuration), "utf-8")
    from gateway.config.faults import ConfigError
    from gateway.config.loading import load

    with pytest.raises(ConfigError, match=r"models\.watched\.quality\.judge"):
        load(file)
    configuration["models"]["watched"]["quality"] = {"sample": 0.1}
    file.write_text(yaml.safe_dump(configuration), "utf-8")
    with pytest.raises(ConfigError, match="say who decides"):
        load(file)
