"""Follow-ups stand alone when they are searched for; questions that do already are left as they are."""

from __future__ import annotations

import asyncio

import pytest

from retrieval.rewriting import ModelRewriter, Turn, standalone


def user(*said: str) -> list[Turn]:
    return [turn for words in said for turn in (("user", words), ("assistant", "An answer."))][:-1]


@pytest.mark.parametrize(
    ("conversation", "question"),
    [
        (user("How much parental leave is there?"), "How much parental leave is there?"),
        (user("How much parental leave is there?", "And for contractors?"), "How much parental leave is there?\nAnd for contractors?"),
        (user("How do I add a provider?", "Can it be switched off without a restart?"), "How do I add a provider?\nCan it be switched off without a restart?"),
        (user("How do I add a provider?", "Where are the call logs of the gateway kept?"), "Where are the call logs of the gateway kept?"),
        (user("What is a guardrail?", "Why?", "And how?"), "What is a guardrail?\nWhy?\nAnd how?"),
        ([("system", "it"), ("user", "  ")], ""),
        ([], ""),
    ],
)  # fmt: skip
def test_what_is_searched_for(conversation: list[Turn], question: str) -> None:
    assert standalone(conversation) == question


def test_a_model_rewrites_and_the_heuristic_takes_over_where_it_fails() -> None:
    conversation = user("How much parental leave is there?", "And for contractors?")
    prompts: list[str] = []

    async def good(prompt: str) -> str:
        prompts.append(prompt)
        return " How much parental leave do contractors have?\n"

    async def bad(prompt: str) -> str:
        raise OSError("away")

    async def slow(prompt: str) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def empty(prompt: str) -> str:
        return " "

    async def rewritten() -> list[str]:
        return [await ModelRewriter(each, budget=0.01)(conversation) for each in (good, bad, slow, empty)]

    plain = standalone(conversation)
    assert asyncio.run(rewritten()) == ["How much parental leave do contractors have?", plain, plain, plain]
    assert "And for contractors?" in prompts[0]

    async def single() -> str:
        return await ModelRewriter(bad)(user("What is open mode?"))

    assert asyncio.run(single()) == "What is open mode?", "a first question asks no model"
