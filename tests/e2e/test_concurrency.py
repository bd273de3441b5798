"""Many at once: nobody gets a word of another's answer."""

from __future__ import annotations

import asyncio

import openai
from upstream.vendor import Vendor


async def test_200_parallel_streams_do_not_mix(aclient: openai.AsyncOpenAI, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {"piece": 3, "gap": 0.02}

    async def one(number: int) -> str:
        mark = f"marker {number} " * 5
        stream = await aclient.with_options(timeout=60).chat.completions.create(
            model="patient/gpt-mock", messages=[{"role": "user", "content": mark}], stream=True
        )
        told = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        return told.removeprefix("echo: ").strip()

    told = await asyncio.gather(*(one(number) for number in range(200)))
    assert told == [(f"marker {number} " * 5).strip() for number in range(200)]


async def test_plain_calls_of_two_kinds_do_not_mix(aclient: openai.AsyncOpenAI) -> None:
    async def chat(number: int) -> bool:
        text = f"number {number}"
        answer = await aclient.chat.completions.create(model="plain", messages=[{"role": "user", "content": text}])
        return answer.choices[0].message.content == "echo: " + text

    async def embed(number: int) -> bool:
        answer = await aclient.embeddings.create(model="embedder", input="x" * (number + 1))
        return answer.data[0].embedding[0] == number + 1

    calls = [chat(number) for number in range(100)] + [embed(number) for number in range(100)]
    assert all(await asyncio.gather(*calls))
