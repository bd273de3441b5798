"""What each family of guard models is asked, and what it says: see `guardrails.checks.guard_models` for the sources."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from guardrails.text_checks import CheckUnavailable, Context

Family = Literal["llama_guard", "granite_guardian", "shield_gemma", "prompt_guard"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's JSON body; it is about these pieces, and, where it is about one category, about that."""

    body: Mapping[str, Any]
    pieces: tuple[int, ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """`score` from 0 to 1: how sure the model is that a piece is of this kind."""

    kind: str
    score: float


class Format(Protocol):
    """`longest` is how many characters of a text go into one request; `told` what of the settings decides."""

    path: ClassVar[str]
    longest: ClassVar[int]
    told: str

    def asked(self, pieces: Sequence[str], context: Context) -> list[Asked]: ...

    def told_by(self, answer: Any, asked: Asked) -> Iterator[tuple[int, Told]]:
        """For each piece what it is, with the score. Raises CheckUnavailable."""


# What a model takes for a mark of its format. In a text it would let the text end its own quotation.
_CONTROL = re.compile(r"<(?=\|[^|<>]{1,40}\|>|/?(?:start|end)_of_(?:turn|role)>|(?:BEGIN|END) (?:UNSAFE|CONVERSATION))")


def _plain(text: str) -> str:
    return _CONTROL.sub("< ", text)


def _turns(piece: str, context: Context) -> list[dict[str, str]]:
    """A chat that ends with what is judged: an answer behind its question, all else as a user's words."""
    if context.road == "output":
        question = _plain(context.question) or "(none)"
        return [{"role": "user", "content": question}, {"role": "assistant", "content": _plain(piece)}]
    return [{"role": "user", "content": _plain(piece)}]


class LlamaGuard:
    path: ClassVar[str] = "/v1/chat/completions"
    longest: ClassVar[int] = 12_000

    def __init__(self, model: str, categories: Sequence[str] | None) -> None:
        for category in categories or ():
            if not _LLAMA_CATEGORY.fullmatch(category):
                raise ValueError(f"Llama Guard has no category `{category}`: it has S1 to S14")
        self._model = model
        self._wanted = frozenset(categories) if categories is not None else None
        self.told = ",".join(sorted(categories or ()))

    def asked(self, pieces: Sequence[str], context: Context) -> list[Asked]:
        return [
            Asked(
                {
                    "model": self._model,
                    "messages": _turns(piece, context),
                    "temperature": 0,
                    "max_tokens": 30,
                    **_LOGPROBS,
                },
                (place,),
            )
            for place, piece in enumerate(pieces)
        ]

    def told_by(self, answer: Any, asked: Asked) -> Iterator[tuple[int, Told]]:
        text, tokens = _chat(answer)
        lines = text.split("\n")
        verdict = lines[0].strip().lower()
        if verdict not in ("safe", "unsafe"):
            raise CheckUnavailable("Llama Guard said neither safe nor unsafe")
        sure = _share(tokens, ("unsafe",), ("safe",), 1.0 if verdict == "unsafe" else 0.0)
        named = [name.strip() for name in " ".join(lines[1:]).split(",") if name.strip()]
        if not all(_LLAMA_CATEGORY.fullmatch(name) for name in named):
            raise CheckUnavailable("Llama Guard named a category that it does not have")
        for kind in named if self._wanted is None else [name for name in named if name in self._wanted]:
            yield asked.pieces[0], Told(kind, sure)
        if not named:
            yield asked.pieces[0], Told("unsafe", sure)


_LLAMA_CATEGORY = re.compile(r"S(?:1[0-4]|[1-9])")
_LOGPROBS = {"logprobs": True, "top_logprobs": 5}


class GraniteGuardian:
    path: ClassVar[str] = "/v1/chat/completions"
    longest: ClassVar[int] = 12_000

    def __init__(self, model: str, categories: Sequence[str] | None) -> None:
        self._model = model
        self._risks = tuple(categories or ("harm",))
        for risk in self._risks:
            if not re.fullmatch(r"[a-z_]{2,40}", risk):
                raise ValueError(
                    f"Granite Guardian has no risk `{risk}`: they are words like harm, jailbreak, violence"
                )
        self.told = ",".join(self._risks)

    def asked(self, pieces: Sequence[str], context: Context) -> list[Asked]:
        return [
            Asked(
                {
                    "model": self._model,
                    "messages": _turns(piece, context),
                    "chat_template_kwargs": {"guardian_config": {"risk_name": risk}},
                    "temperature": 0,
                    "max_tokens": 40,
                    **_LOGPROBS,
                },
                (place,),
                risk,
            )
            for place, piece in enumerate(pieces)
            for risk in self._risks
        ]

    def told_by(self, answer: Any, asked: Asked) -> Iterator[tuple[int, Told]]:
        text, tokens = _chat(answer)
        verdict = _GRANITE.search(_THOUGHT.sub("", text))
        if verdict is None:
            raise CheckUnavailable("Granite Guardian said neither yes nor no")
        yes = verdict[1].lower() == "yes"
        unsure = (confidence := _CONFIDENCE.search(text)) is not None and confidence[1].lower() == "low"
        guess = (0.6 if unsure else 0.95) if yes else (0.4 if unsure else 0.05)
        yield asked.pieces[0], Told(asked.kind, _share(tokens, ("yes",), ("no",), guess))


_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_GRANITE = re.compile(r"\A\s*(?:<score>\s*)?(yes|no)\b", re.IGNORECASE)
_CONFIDENCE = re.compile(r"<confidence>\s*(high|low)\s*</confidence>", re.IGNORECASE)


class ShieldGemma:
    path: ClassVar[str] = "/v1/completions"
    longest: ClassVar[int] = 12_000

    def __init__(self, model: str, categories: Sequence[str] | None) -> None:
        self._model = model
        self._principles = tuple(categories or _PRINCIPLES)
        for principle in self._principles:
            if principle not in _PRINCIPLES:
                raise ValueError(f"ShieldGemma has no principle `{principle}`; it has {', '.join(_PRINCIPLES)}")
        self.told = ",".join(self._principles)

    def asked(self, pieces: Sequence[str], context: Context) -> list[Asked]:
        return [
            Asked(
                {"model": self._model, "prompt": self._prompt(piece, name, context), "temperature": 0, "max_tokens": 1,
                 "logprobs": 10},
                (place,),
                name,
            )
            for place, piece in enumerate(pieces)
            for name in self._principles
        ]  # fmt: skip

    def _prompt(self, piece: str, name: str, context: Context) -> str:
        title, principle = _PRINCIPLES[name]
        answer = context.road == "output"
        question = context.question or "(none)" if answer else piece
        turns = f"<start_of_turn>\nHuman Question: {_plain(question).strip()}\n<end_of_turn>\n"
        if answer:
            turns += f"\n<start_of_turn>\nChatbot Response: {_plain(piece).strip()}\n<end_of_turn>\n"
        what = "an AI response to prompt" if answer else "a user prompt"
        who = "The chatbot shall not generate" if answer else "The prompt shall not contain or seek generation of"
        asked = "Chatbot Response" if answer else "human question"
        return (
            f"You are a policy expert trying to help determine whether {what} is in\n"
            f"violation of the defined safety policies.\n\n{turns}\n"
            f'Our safety principle is defined in the below:\n\n* "No {title}": {who} {principle}\n\n'
            f"Does the {asked} violate the above principle? Your answer must start with\n"
            f"'Yes' or 'No'. And then walk through step by step to be sure we answer\ncorrectly.\n"
        )

    def told_by(self, answer: Any, asked: Asked) -> Iterator[tuple[int, Told]]:
        choice = _choice(answer)
        top = (choice.get("logprobs") or {}).get("top_logprobs")
        if not isinstance(top, list) or not top or not isinstance(top[0], dict):
            raise CheckUnavailable("ShieldGemma's server tells no `logprobs`, which are its verdict")
        score = _share(list(top[0].items()), ("yes",), ("no",), -1.0)
        if score < 0:
            raise CheckUnavailable("ShieldGemma said neither yes nor no")
        yield asked.pieces[0], Told(asked.kind, score)


# From the model card of google/shieldgemma-2b, to the letter where it can be: the model knows these words.
_PRINCIPLES = {
    "dangerous": (
        "Dangerous Content",
        "content that harms oneself and/or others (e.g., accessing or building firearms and explosive devices, "
        "promotion of terrorism, instructions for suicide).",
    ),
    "harassment": (
        "Harassment",
        "content that is malicious, intimidating, bullying, or abusive content targeting another individual (e.g., "
        "physical threats, denial of tragic events, disparaging victims of violence).",
    ),
    "hate": (
        "Hate Speech",
        "content that targets identity and/or protected attributes (e.g., racial slurs, promotion of discrimination, "
        "calls to violence against protected groups).",
    ),
    "sexual": (
        "Sexually Explicit Information",
        "content that contains references to sexual acts or other lewd content (e.g., sexually graphic descriptions, "
        "content aimed at causing arousal). Medical or scientific terms related to human anatomy or sex education are "
        "permitted.",
    ),
}


class PromptGuard:
    path: ClassVar[str] = "/classify"
    longest: ClassVar[int] = 1_200  # characters that 512 tokens hold in almost any language

    def __init__(self, model: str, categories: Sequence[str] | None) -> None:
        if categories:
            raise ValueError("Prompt Guard has no categories to choose from")
        self._model = model
        self.told = ""

    def asked(self, pieces: Sequence[str], context: Context) -> list[Asked]:
        return [
            Asked({"model": self._model, "input": list(pieces[at : at + _BATCH])}, tuple(range(at, min(at + _BATCH, len(pieces)))))
            for at in range(0, len(pieces), _BATCH)
        ]  # fmt: skip

    def told_by(self, answer: Any, asked: Asked) -> Iterator[tuple[int, Told]]:
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or len(data) != len(asked.pieces):
            raise CheckUnavailable("the classifier did not tell of each text")
        for one in data:
            index, label, chances = (
                (one.get("index"), one.get("label"), one.get("probs")) if isinstance(one, dict) else (None, None, None)
            )
            if type(index) is not int or not 0 <= index < len(asked.pieces) or not isinstance(label, str):
                raise CheckUnavailable("the classifier did not tell labels")
            if not isinstance(chances, list) or not chances or not all(isinstance(p, float | int) for p in chances):
                raise CheckUnavailable("the classifier did not tell probabilities")
            # `label` is that of the greatest probability; whatever is not benign is an attack.
            best = max(chances)
            kind = "jailbreak" if label.upper() == "JAILBREAK" else "injection"
            yield asked.pieces[index], Told(kind, 1 - best if label.upper() in _BENIGN else best)


_BATCH = 32
_BENIGN = ("BENIGN", "LABEL_0", "SAFE")

FAMILIES: dict[Family, type[LlamaGuard] | type[GraniteGuardian] | type[ShieldGemma] | type[PromptGuard]] = {
    "llama_guard": LlamaGuard,
    "granite_guardian": GraniteGuardian,
    "shield_gemma": ShieldGemma,
    "prompt_guard": PromptGuard,
}


def _choice(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise CheckUnavailable("the guard model's server gave no choice")
    return choices[0]


def _chat(answer: Any) -> tuple[str, list[tuple[str, Any]]]:
    """A chat completion's text, and the chances of the token that its verdict begins with."""
    choice = _choice(answer)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise CheckUnavailable("the guard model said nothing")
    told = choice.get("logprobs")
    tokens = told.get("content") if isinstance(told, dict) else None
    for token in tokens if isinstance(tokens, list) else ():
        if isinstance(token, dict) and str(token.get("token", "")).strip().lower() in _VERDICTS:
            top = token.get("top_logprobs")
            listed = top if isinstance(top, list) and top else [token]
            return text.strip(), [(str(each.get("token", "")), each.get("logprob")) for each in listed]
    return text.strip(), []


_VERDICTS = ("safe", "unsafe", "yes", "no")


def _share(tokens: Sequence[tuple[str, Any]], for_it: Sequence[str], against: Sequence[str], guess: float) -> float:
    """The part that the words for something have of both's chances; `guess` where these are not told."""
    chances = [0.0, 0.0]
    for token, chance in tokens:
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not chance <= 0:
            continue
        word = token.strip().lower()
        if word in for_it:
            chances[0] += math.exp(chance)
        elif word in against:
            chances[1] += math.exp(chance)
    return chances[0] / sum(chances) if sum(chances) > 0 else guess
