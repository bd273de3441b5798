"""A gateway under mixed load as the real Prometheus and Alertmanager see it, by the configuration that is shipped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gateway_process import GatewayProcess, http_post, until
from monitoring_processes import CONFIGS, ROOT, Prometheus, Receiver, alertmanager, checked, program
from prometheus_client.parser import text_string_to_metric_families
from sample_gateway import KEY_A, key_entry, plain_configuration
from upstream.vendor import Vendor

KEY_VIEWER = "sk-gw-canary-viewer-77c1"
KEY_FEW = "sk-gw-canary-few-91d2"
DASHBOARDS = sorted((CONFIGS / "grafana").glob("*.json"))
CHAT = "/v1/chat/completions"

# Told of by parts that the gateway below has not, since some take seconds to load: their own tests show that they tell.
ELSEWHERE = re.compile(r"rag_gateway_(features?|feature_events|drift|quality|spans|events|lake)(_\w+)?|features")


@dataclass
class Watched:
    gateway: GatewayProcess
    prometheus: Prometheus
    receiver: Receiver

    def exposition(self) -> str:
        return httpx.get(self.gateway.url + "/metrics", headers={"authorization": f"Bearer {KEY_VIEWER}"}).text


def configuration(vendor: Vendor, docs: Path) -> dict[str, Any]:
    made = plain_configuration(vendor)
    mock = {**made["providers"]["mock"], "prices": {"*": {"input": 1.0, "output": 2.0}}}
    made["access"]["keys"] += [
        key_entry("viewer", KEY_VIEWER, role="viewer"),
        key_entry("few", KEY_FEW, tenant="few", limits={"requests_per_minute": 1, "budget": 1}),
    ]
    made["providers"] |= {
        "mock": mock,
        "queued": {**mock, "queue": {"concurrency": 1, "max_length": 1}},
        "broken": {**mock, "circuit": {"failures": 1, "pause": "1h", "longest": "1h"}},
    }
    word = {"check": "keywords", "lists": [{"kind": "name", "words": ["bluebird"]}]}
    judge = {
        "check": "topics", "embeddings": "mock/mock-embed", "action": "mask",
        "denied": [{"name": "travel", "examples": ["trains"], "min_similarity": -1}],
    }  # fmt: skip
    away = {"check": "moderation", "url": "http://127.0.0.1:1/v1/moderations", "on_failure": "continue"}
    retrieval = {"collection": "office", "top_k": 3, "mode": "dense"}
    made["models"] = {
        "plain": {"targets": ["mock/gpt-mock"]},
        "kept": {"targets": ["mock/gpt-mock"], "cache": {"exact": {"ttl": "1h"}, "semantic": {"store": "memory"}}},
        "guarded": {"targets": ["mock/gpt-mock"], "guardrails": {"input": [word, away]}},
        "masked": {"targets": ["mock/gpt-mock"], "guardrails": {"output": [{**word, "action": "mask"}, judge]}},
        "copied": {"targets": ["mock/gpt-mock", "mock/copy"], "strategy": "shadow"},
        "queued": {"targets": ["queued/slow"]},
        "broken": {"targets": ["broken/broken"], "fallbacks": ["mock/gpt-mock"]},
        "failing": {"targets": ["mock/broken"]},
        "office": {
            "targets": ["mock/gpt-mock"], "prompt": "handbook@1", "retrieval": retrieval,
        },
        "hasty": {
            "targets": ["mock/short"], "prompt": "handbook@1",
            "retrieval": {**retrieval, "budget": "0.001ms", "on_failure": "continue"},
        },
    }  # fmt: skip
    return {
        **made,
        "prompts": {"folder": str(CONFIGS / "prompts")},
        "retrieval": {
            "embeddings": {"url": vendor.url, "api_key": vendor.api_key, "model": "mock-embed", "dimension": 3},
            "collections": {"office": {"load": [str(docs)]}},
        },
    }


def load(gateway: GatewayProcess, vendor: Vendor) -> None:
    """Some of everything that can become of a call."""
    vendor.behaviours |= {
        "broken": {"status": 500},
        "slow": {"delay": 0.2},
        "short": {"finish": "length"},
        "endless": {"gap": 0.05, "text": "word " * 200, "piece": 5},
    }
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {KEY_A}"}, timeout=60) as client:

        def ask(model: str, text: str = "hello", **more: Any) -> int:
            body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
            return client.post(CHAT, json=body).status_code

        for stream in (False, True):
            for model in (
                "plain",
                "kept",
                "kept",
                "guarded",
                "masked",
                "copied",
                "broken",
                "office",
                "hasty",
                "mock/made-up",
            ):
                assert ask(model, stream=stream) == 200, model
            assert ask("masked", "where is the bluebird now?", stream=stream) == 200
        assert ask("office", rag={"filters": {"type": "eq", "key": "year", "value": 1}}) == 200
        assert ask("guarded", "what of bluebird?") == 400
        assert ask("nobody's") == 404
        assert [ask("failing") for _ in range(3)] == [502] * 3
        for _ in range(2):
            headers = {"authorization": f"Bearer {KEY_FEW}"}
            client.post(CHAT, json={"model": "plain", "messages": [{"role": "user", "content": "x"}]}, headers=headers)
        body = {"model": "plain", "messages": [{"role": "user", "content": "hello"}]}
        call_id = client.post(CHAT, json=body).headers["x-gateway-call-id"]
        for score in (0, 1):
            assert client.post("/v1/feedback", json={"call_id": call_id, "score": score}).status_code == 201
        client.post("/v1/embeddings", json={"model": "mock/mock-embed", "input": "x"})
    many = [gateway.connect() for _ in range(4)]  # one that runs, one that waits, and two for whom there is no room
    for one in many:
        one.sendall(http_post(CHAT, {"model": "queued", "messages": [{"role": "user", "content": "x"}]}, KEY_A))
    for one in many:
        while one.recv(65536):
            pass
        one.close()
    body = {"model": "mock/endless", "messages": [{"role": "user", "content": "x"}], "stream": True}
    with gateway.connect() as leaver:
        leaver.sendall(http_post(CHAT, body, KEY_A))
        assert leaver.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.fixture(scope="module")
def watched(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("monitoring")
    docs = folder / "docs"
    docs.mkdir()
    (docs / "trains.md").write_text("# Trains\n\nThe train to the office leaves at nine from platform two.\n")
    with Receiver() as receiver, GatewayProcess(configuration(shared_vendor, docs), folder / "gateway") as gateway:
        with alertmanager(folder / "alertmanager", receiver) as alerting:
            with Prometheus(folder / "prometheus", gateway.url, KEY_VIEWER, alerting.url) as prometheus:
                shared_vendor.clear()
                load(gateway, shared_vendor)
                until(lambda: prometheus.query("rag_gateway_calls_total"), 60, "a scrape")
                load(gateway, shared_vendor)  # what has happened before the first scrape is no rate
                yield Watched(gateway, prometheus, receiver)
                shared_vendor.clear()


# -- what is shipped ---------------------------------------------------------------------------------------
def test_the_tools_find_nothing_wrong_with_what_is_shipped(tmp_path: Path) -> None:
    promtool, shipped = program("promtool"), CONFIGS / "prometheus"
    for path in shipped.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "gateway.key").write_text("key")
    checked(promtool, "check", "config", str(tmp_path / "prometheus.yml"))
    for rules in shipped.glob("*.rules.yml"):
        assert "SUCCESS" in checked(promtool, "check", "rules", str(rules))
    assert "3 receivers" in checked(
        program("amtool"), "check-config", str(CONFIGS / "alertmanager" / "alertmanager.yml")
    )


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    board = json.loads(path.read_text("utf-8"))
    assert board["uid"] == f"rag-gateway-{path.stem}"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    names = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps([panel.get("targets") for panel in panels])))
    assert used <= names


# -- scraped -----------------------------------------------------------------------------------------------
def queries(path: Path) -> Iterator[tuple[str, str]]:
    """Each panel's title and its queries, as Grafana would send them."""
    for panel in json.loads(path.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*").replace("$model", ".*")
            yield panel["title"], expression


def names_in(expression: str) -> set[str]:
    """Of metrics and recording rules; and of a stage that is asked for alone."""
    bare = re.sub(r"\{[^}]*\}", "", expression)
    names = set(re.findall(r"\b(?:(?:rag_gateway|gen_ai|process)_\w+|job(?:_model)?:[\w:]+)", bare))
    return names | set(re.findall(r'stage="(\w+)"', expression))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_has_data(watched: Watched, path: Path) -> None:
    def silent() -> list[str]:
        return [
            f"{title}: {expression}"
            for title, expression in queries(path)
            if not any(map(ELSEWHERE.fullmatch, names_in(expression))) and not watched.prometheus.query(expression)
        ]

    until(lambda: not silent(), 60, f"data for all of {silent()}")


def test_every_rule_asks_for_what_there_is(watched: Watched) -> None:
    for path in (CONFIGS / "prometheus").glob("*.rules.yml"):
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            for rule in group["rules"]:
                asked = {name for name in names_in(rule["expr"]) if not ELSEWHERE.fullmatch(name)}
                # What rules record is there once they have been reckoned.
                until(lambda asked=asked: asked <= set(watched.prometheus.names()), 60, rule["expr"])
                watched.prometheus.query(rule["expr"])
                if "record" in rule:
                    until(lambda record=rule["record"]: watched.prometheus.query(record), 60, rule["record"])


def test_from_a_fault_to_those_who_are_told_of_it(watched: Watched) -> None:
    receiver = watched.receiver
    until(lambda: {"RagGatewayCircuitOpen", "RagGatewayErrorBudgetBurnsFast"} <= receiver.alerts(), 60, "the alerts")
    assert {told.authorization for told in receiver.told if told.path == "/alerts"} == {"Bearer webhook-canary-3f1"}
    (circuit,) = watched.prometheus.query('ALERTS{alertname="RagGatewayCircuitOpen"}')
    assert circuit["metric"]["target"] == "broken/broken"

    def paged() -> bool:
        bodies = [told.body for told in receiver.told if told.path == "/pagerduty"]
        return any("RagGatewayErrorBudgetBurnsFast" in json.dumps(body) for body in bodies)

    def ticketed() -> bool:
        bodies = [json.dumps(told.body) for told in receiver.told if told.path == "/slack"]
        return any("RagGatewayCircuitOpen" in body and "broken/broken keeps failing" in body for body in bodies)

    until(paged, 60, "a page")
    until(ticketed, 60, "a ticket")
    assert not any(
        "RagGatewayCircuitOpen" in json.dumps(told.body) for told in receiver.told if told.path == "/pagerduty"
    )


# -- what the handbook says --------------------------------------------------------------------------------
def documented() -> dict[str, set[str]]:
    """Each metric of docs/monitoring.md's tables, with its labels."""
    told = {}
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    for name, labels in re.findall(r"^\| `((?:rag_gateway|gen_ai|process)_\w+)` \|([^|]*)\|", text, re.MULTILINE):
        told[name] = set(re.findall(r"`(\w+)`", labels))
    return told


def test_the_handbook_names_every_metric_and_no_other(watched: Watched) -> None:
    told: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(watched.exposition()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        told[name] = labels
    expected = documented()
    missing = sorted(set(told) - set(expected))
    assert not missing, f"not in docs/monitoring.md: {missing}"
    beyond = sorted(name for name in set(expected) - set(told) if not ELSEWHERE.fullmatch(name))
    assert not beyond, f"only in docs/monitoring.md: {beyond}"
    assert {name: labels for name, labels in told.items() if labels} == {
        name: expected[name] for name, labels in told.items() if labels
    }


def test_the_handbook_names_what_other_parts_tell() -> None:
    """What is in the source as a metric's name, whichever gateway tells it."""
    sources = [path.read_text("utf-8") for path in (ROOT / "gateway").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'"(rag_gateway_[a-z_]+)"', text)}
    metrics = {name.removesuffix("_total") for name in documented() if name.startswith("rag_gateway")}
    assert {name for name in metrics if name not in named and not name.startswith("rag_gateway_cache_")} == set()
    told = {
        name for text in sources for call in _TELLS.findall(text) for name in re.findall(r"rag_gateway_[a-z_]+", call)
    }
    assert told - metrics == set()


# A call that has the metrics told of a name: `metrics.counted("rag_gateway_…", …`.
_TELLS = re.compile(r'(?:counted|gauge|levels|histogram)\(\s*"rag_gateway_[a-z_]+"')


def test_the_handbook_says_what_to_do_on_every_alert() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", text, re.MULTILINE)}
    rules = yaml.safe_load((CONFIGS / "prometheus" / "alerts.rules.yml").read_text("utf-8"))
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    for rule in alerts:
        assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")
    assert {rule["alert"].lower() for rule in alerts} == {name for name in headings if name.startswith("raggateway")}


def test_no_secret_and_no_made_up_name_is_in_a_metric(watched: Watched) -> None:
    told = watched.exposition()
    for words in ("made-up", "endless", "nobody's", KEY_A, KEY_FEW, KEY_VIEWER, "bluebird"):
        assert words not in told
    assert 'model="mock/*"' in told
