"""Follow-ups stand alone when they are searched for; questions that do already are left as they are."""

from __future__ import annotations

import asyncio

import pytest

from retrieval.rewriting import Turn, hypothetical, rewritten, standalone


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

    async def ask() -> list[str]:
        return [await rewritten(conversation, each, 0.01) for each in (good, bad, slow, empty)]

    plain = standalone(conversation)
    assert asyncio.run(ask()) == ["How much parental leave do contractors have?", plain, plain, plain]
    assert "And for contractors?" in prompts[0]

    async def single() -> str:
        return await rewritten(user("What is open mode?"), bad, 1.0)

    assert asyncio.run(single()) == "What is open mode?", "a first question asks no model"


def test_a_hypothetical_passage_is_asked_of_a_model_that_may_fail() -> None:
    prompts: list[str] = []

    async def good(prompt: str) -> str:
        prompts.append(prompt)
        return " Contractors have two weeks. "

    async def long(prompt: str) -> str:
        return "x" * 5_000

    async def slow(prompt: str) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def ask() -> list[str | None]:
        return [await hypothetical("How much leave?", each, 0.01) for each in (good, long, slow)]

    assert asyncio.run(ask()) == ["Contractors have two weeks.", None, None]
    fence = prompts[0].rsplit("</", 1)[1].rstrip(">")
    assert prompts[0].count(f"<{fence}>\nHow much leave?\n</{fence}>") == 1
    assert len(fence) == 16, "nobody who wrote the question knew it"
