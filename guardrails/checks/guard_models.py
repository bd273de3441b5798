"""Guard models on a server of their own: Llama Guard, Granite Guardian, ShieldGemma, Prompt Guard.

Each family is asked in the form it was trained for, and by the interface of vLLM (or any server of the same shape):

- `llama_guard`, 3 and 4: a chat; the model's own template wraps it. It says `safe`, or `unsafe` and a line with the
  categories. https://www.llama.com/docs/model-cards-and-prompt-formats/llama-guard-4/ and …/llama-guard-3/
- `granite_guardian`, 3.0 to 3.3: a chat, with the risk in `chat_template_kwargs.guardian_config`. It says Yes or No;
  3.2 adds `<confidence>`, 3.3 wraps it in `<score>`. https://huggingface.co/ibm-granite/granite-guardian-3.2-5b and -3.3-8b
- `shield_gemma`: a completion of the model card's prompt, one principle at a time; the score is Yes' part of Yes and
  No as the first token. https://huggingface.co/google/shieldgemma-2b
- `prompt_guard`, 1 and 2: a classifier of 512 tokens at vLLM's `/classify`.
  https://huggingface.co/meta-llama/Llama-Prompt-Guard-2-86M, https://docs.vllm.ai/en/latest/models/pooling_models/

The score is the probability that the model gives to its verdict's first token where the server tells `logprobs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from guardrails.folding import encodable
from guardrails.guard_formats import FAMILIES, Asked, Family, Told
from guardrails.outside import Post
from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_AT_ONCE = 8  # requests of one call that are under way
_OVERLAP = 10  # a part of so many of a piece is read again with the next one
_MOST = 64  # pieces of one text; what follows is a finding


class GuardModel:
    name = "guard_model"
    default_action: Action = "block"
    cost: Cost = "remote"

    def __init__(
        self,
        post: Post,
        model: str,
        family: Family,
        categories: Sequence[str] | None = None,
        min_score: float = 0.5,
        max_characters: int | None = None,
    ) -> None:
        """`post` leads to the server's address behind `path(family)`. `categories` are the family's own: of Llama Guard
        `S1` to `S14` (without them, all), of Granite Guardian risks (`harm`), of ShieldGemma principles (all four).
        A longer text than `max_characters` is judged in pieces. Raises ValueError.
        """
        if family not in FAMILIES:
            raise ValueError(f"there is no family `{family}` of guard models; there are {', '.join(FAMILIES)}")
        self._format = FAMILIES[family](model, categories)
        self._post = post
        self._least = min_score
        self._longest = max_characters or self._format.longest
        self.version = f"{_RULES} {family} {model} {self._format.told} {min_score} {self._longest}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """Kinds: the model's categories; `unsafe` where it names none; `unjudged` (the rest of a very long text).

        Raises CheckUnavailable.
        """
        texts = [encodable(text) for text in texts]
        pieces = [_pieces(text, self._longest) for text in texts]
        places = [(order, start, end) for order, each in enumerate(pieces) for start, end in each[:_MOST]]
        asked = self._format.asked([texts[order][start:end] for order, start, end in places], context)
        found: list[list[Finding]] = [[] for _ in texts]
        for place, told in await self._told(asked):
            order, start, end = places[place]
            if told.score >= self._least:
                found[order].append(Finding(told.kind, start, end, told.score))
        for order, each in enumerate(pieces):
            if len(each) > _MOST:
                found[order].append(Finding("unjudged", each[_MOST][0], len(texts[order]), 1.0))
        return [tuple(dict.fromkeys(each)) for each in found]

    async def _told(self, asked: Sequence[Asked]) -> list[tuple[int, Told]]:
        room = asyncio.Semaphore(_AT_ONCE)
        told: list[tuple[int, Told]] = []

        async def ask(one: Asked) -> None:
            async with room:
                answer = await self._post(one.body)
            told.extend(self._format.told_by(answer, one))

        try:
            async with asyncio.TaskGroup() as group:
                for one in asked:
                    group.create_task(ask(one))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return sorted(told, key=lambda each: (each[0], each[1].kind))


def path(family: Family) -> str:
    """Where on its server a family is asked, behind the address without `/v1`."""
    return FAMILIES[family].path


def _pieces(text: str, longest: int) -> list[tuple[int, int]]:
    if not text.strip():
        return []
    step = max(1, longest - longest // _OVERLAP)
    return [(at, min(at + longest, len(text))) for at in range(0, max(1, len(text) - longest // _OVERLAP), step)]
