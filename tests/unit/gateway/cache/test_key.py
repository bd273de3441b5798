"""What shapes an answer is in its key: a test for each, and none for what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cache_asking import exchange_for, request_of

from features.vector import FeatureVector
from gateway.cache.key import key_of
from gateway.chat import EmbeddingsRequest, ModerationsRequest, RerankRequest
from gateway.prompts import fences
from gateway.prompts.template import fenced
from retrieval.passages import Passage

PASSAGE = Passage("doc", "v1", "doc#0", "handbook", 0.5, "title", "url", "text of the passage")


def digest(scope: str = "m", fields: dict[str, Any] | None = None, **who: Any) -> bytes:
    return key_of(scope, request_of(**fields or {}), exchange_for(**who)).digest


def test_the_same_call_has_the_same_key() -> None:
    assert digest() == digest()
    assert digest(fields={"temperature": 1, "seed": 2}) == digest(fields={"seed": 2, "temperature": 1})


@pytest.mark.parametrize("who", [
    {"scope": "other"},  # model, template, guardrails: tests/unit/gateway/assembly/test_caching.py
    {"tenant": "b"},
    {"sensitivity": "secret"},  # of the key
    {"fields": {"metadata": {"sensitivity": "secret"}}},  # of the request
    {"features": FeatureVector("s", {}, {}, (), ("secret",))},  # of its features
    {"passages": [PASSAGE]},
])  # fmt: skip
def test_what_shapes_an_answer_beside_its_text(who: dict[str, Any]) -> None:
    assert digest(**who) != digest()


@pytest.mark.parametrize("fields", [
    {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tool_choice": "none"}, {"temperature": 0.1},
    {"top_p": 0.1}, {"seed": 1}, {"stop": ["x"]}, {"n": 2}, {"max_tokens": 5}, {"response_format": {"type": "text"}},
    {"logprobs": True}, {"logit_bias": {"1": 2}}, {"reasoning_effort": "low"}, {"x_unknown": 1},
    {"parallel_tool_calls": False}, {"messages": [{"role": "user", "content": "other"}]},
])  # fmt: skip
def test_every_parameter_shapes_an_answer(fields: dict[str, Any]) -> None:
    assert digest(fields=fields) != digest()


@pytest.mark.parametrize("other", [
    {"version": "v2"}, {"section_id": "doc#1"}, {"collection": "other"}, {"sensitivity": "secret"},
])  # fmt: skip
def test_a_passage_shapes_it_with_all_that_says_which_one_it_is(other: dict[str, Any]) -> None:
    assert digest(passages=[replace(PASSAGE, **other)]) != digest(passages=[PASSAGE])


def test_users_share_what_none_of_their_own_has_shaped() -> None:
    """Their features are in the rendered messages, and a passage that only one may read is found by nobody else."""
    assert digest(user="ann") == digest(user="bob")
    assert digest(user="ann", passages=[PASSAGE]) == digest(user="bob", passages=[PASSAGE])
    assert digest(user="ann", passages=[PASSAGE]) != digest(user="bob")
    rendered = [{"messages": [{"role": "system", "content": f"They work in {city}."}]} for city in ("Oslo", "Rome")]
    assert digest(user="ann", fields=rendered[0]) != digest(user="bob", fields=rendered[1])


def test_endpoints_do_not_share() -> None:
    """Embeddings and moderations both have `input`."""
    exchange = exchange_for()
    requests = [
        EmbeddingsRequest(b'{"model": "m", "input": "q"}'),
        ModerationsRequest(b'{"model": "m", "input": "q"}'),
        RerankRequest(b'{"model": "m", "query": "q", "documents": ["d"]}'),
    ]
    assert len({key_of("m", request, exchange).digest for request in requests}) == 3


def test_the_fence_of_another_process_is_no_other_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers share answers, though each fences passages off with a word of its own."""
    passages = [PASSAGE, replace(PASSAGE, section_id="doc#1", text="another")]

    def keyed(said: str = "{}") -> tuple[bytes, str]:
        prompt = said.format(fenced(passages))
        return digest(fields={"messages": [{"role": "user", "content": prompt}]}, passages=passages), prompt

    key, prompt = keyed("Read this: {} And answer.")
    monkeypatch.setattr(fences, "_SECRET", b"another process")
    again, other_prompt = keyed("Read this: {} And answer.")
    assert prompt != other_prompt
    assert key == again
    assert keyed("Read this: {} And answer!")[0] != key
    # A caller who spells the other process's fence makes another prompt, and gets another key.
    monkeypatch.undo()
    assert keyed(other_prompt.replace("{", "{{").replace("}", "}}"))[0] != key
