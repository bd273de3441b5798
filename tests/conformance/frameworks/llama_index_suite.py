"""LlamaIndex through its classes for servers that speak OpenAI's format."""

from __future__ import annotations

import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

BASE = os.environ["GATEWAY_URL"] + "/v1"
HELLO = [ChatMessage(role="system", content="Be kind."), ChatMessage(role="user", content="Grüße 🏔")]


class Place(BaseModel):
    city: str
    people: int


def model(name: str = "gpt-6-astra", **more: object) -> OpenAILike:
    return OpenAILike(model=name, api_base=BASE, api_key="any", is_chat_model=True, max_retries=0, **more)


def test_a_chat() -> None:
    told = model().chat(HELLO)
    assert told.message.content == "echo: Grüße 🏔"
    assert told.raw.usage.completion_tokens > 0


def test_a_streamed_chat() -> None:
    pieces = list(model().stream_chat(HELLO))
    assert "".join(piece.delta or "" for piece in pieces) == "echo: Grüße 🏔"
    assert len(pieces) > 2


async def test_a_chat_and_a_stream_on_an_event_loop() -> None:
    assert (await model().achat(HELLO)).message.content == "echo: Grüße 🏔"
    pieces = [piece async for piece in await model().astream_chat(HELLO)]
    assert pieces[-1].message.content == "echo: Grüße 🏔"


def test_a_completion_by_the_chat_and_by_the_older_api() -> None:
    assert model().complete("hello").text == "echo: hello"
    older = OpenAILike(model="gpt-6-astra", api_base=BASE, api_key="any", is_chat_model=False, max_retries=0)
    assert older.complete("hello").text == "echo: hello"
    assert "".join(piece.delta or "" for piece in older.stream_complete("hello")) == "echo: hello"


def test_a_tool_is_called() -> None:
    asked: list[str] = []

    def weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "sunny"

    caller = model("capable", is_function_calling_model=True)
    told = caller.predict_and_call([FunctionTool.from_defaults(weather)], "What is the weather?")
    assert asked == ["San Francisco, CA"]
    assert str(told) == "sunny"


def test_a_structured_answer() -> None:
    place = model("capable", is_function_calling_model=True).as_structured_llm(Place).complete("Which place?").raw
    assert place == Place(city="San Francisco, CA", people=3)


def test_embeddings() -> None:
    embedder = OpenAILikeEmbedding(model_name="text-embedding-3-small", api_base=BASE, api_key="any")
    assert [len(vector) for vector in embedder.get_text_embedding_batch(["a", "bb", "ccc"])] == [3, 3, 3]
    assert embedder.get_query_embedding("a") == embedder.get_text_embedding("a")
