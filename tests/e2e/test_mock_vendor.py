"""The mock vendor is a fair judge only if it speaks as OpenAI does: the official SDK must be content with it."""

from __future__ import annotations

import openai
import pytest
from upstream.vendor import Vendor

TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("one", "two")]


@pytest.fixture
def direct(vendor: Vendor) -> openai.OpenAI:
    return openai.OpenAI(base_url=vendor.url, api_key=vendor.api_key, max_retries=0)


def test_the_sdk_reads_a_plain_answer(direct: openai.OpenAI) -> None:
    with direct:
        answer = direct.chat.completions.create(model="m", messages=[{"role": "user", "content": "Grüezi 🏔"}], n=2)
    assert [choice.message.content for choice in answer.choices] == ["echo: Grüezi 🏔"] * 2


def test_the_sdk_reads_a_stream_with_parallel_tool_calls(direct: openai.OpenAI) -> None:
    arguments = {0: "", 1: ""}
    with direct:
        for chunk in direct.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], tools=TOOLS, stream=True
        ):
            for call in chunk.choices[0].delta.tool_calls or ():
                arguments[call.index] += call.function.arguments
    assert arguments == {
        0: '{"city": "Z\\u00fcrich \\ud83c\\udfd4", "n": 0}',
        1: '{"city": "Z\\u00fcrich \\ud83c\\udfd4", "n": 1}',
    }


def test_an_unknown_field_is_refused_as_openai_refuses_it(direct: openai.OpenAI) -> None:
    with direct, pytest.raises(openai.BadRequestError, match="Unrecognized request argument supplied: best_of"):
        direct.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], extra_body={"best_of": 2}
        )


def test_a_wrong_key_is_refused(vendor: Vendor) -> None:
    with (
        openai.OpenAI(base_url=vendor.url, api_key="wrong", max_retries=0) as other,
        pytest.raises(openai.APIStatusError),
    ):
        other.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
