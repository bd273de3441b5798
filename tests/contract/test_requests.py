"""Requests in the build that is tested: what is compiled loses no field, and can be copied."""

from __future__ import annotations

import pytest

from gateway.chat import ChatRequest, EmbeddingsRequest, ModerationsRequest, Request, RerankRequest

REQUESTS = {
    ChatRequest: b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"user":"ada"}',
    EmbeddingsRequest: b'{"model":"m","input":"hi","user":"ada","metadata":{"sensitivity":"internal"}}',
    RerankRequest: b'{"model":"m","query":"q","documents":["a","b"],"user":"ada"}',
    ModerationsRequest: b'{"model":"m","input":["hi"],"user":"ada"}',
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_has_all_that_stages_ask_for(kind: type[Request]) -> None:
    request = kind(REQUESTS[kind])
    assert (request.model, request.user, request.stream) == ("m", "ada", kind is ChatRequest)
    assert request.sensitivity == ("internal" if kind is EmbeddingsRequest else None)
    assert (request.endpoint, request.path) == (kind.endpoint, kind.path)
    for name in ("conversation", "thread", "rag", "prompt", "file_search", "variables"):
        assert getattr(request, name) is None
    assert request.messages


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_copy_is_whole_and_has_fields_of_its_own(kind: type[Request]) -> None:
    request = kind(REQUESTS[kind])
    made = request.whole()
    assert type(made) is kind
    assert (made.model, made.user, made.sensitivity, made.stream) == ("m", "ada", request.sensitivity, False)
    assert set(made.fields) == set(request.fields) - {"stream", "stream_options"}
    request.body_for("another")
    assert bytes(made.fields["model"]) == b'"m"'
