"""What a call will use, guessed before it is made: cheap, rather too much than too little, and put right after it.

A token is reckoned for every three bytes of a request in ASCII and for every two of one with other letters: English
needs one for about four, code and figures for less. No tokenizer is asked, which would cost more than the call.
https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from gateway.chat import ChatRequest, text_of
from gateway.values import Usage

if TYPE_CHECKING:
    from gateway.chat import Request

_COUNTED = frozenset({
    "messages", "tools", "functions", "response_format", "prediction", "input", "query", "documents", "prompt",
})  # fmt: skip
_PICTURE = b";base64,"
_LINK = re.compile(rb'"image_url"\s*:')  # what is shown by its address has few bytes and as many tokens
_LARGE = 20_000  # bytes of a request in which a picture is looked for
_PART_TOKENS = 1_000  # a picture, about: https://platform.openai.com/docs/guides/images-vision


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """Tokens: of the request itself and of the answer that it asks for; and more of both that nobody has asked for."""

    prompt: int
    output: int
    more_prompt: int = 0
    more_output: int = 0

    @property
    def usage(self) -> Usage:
        """All of it."""
        return Usage(self.prompt + self.more_prompt, self.output + self.more_output, estimated=True)

    def times(self, generations: int) -> Estimate:
        """The same where so many answers are made of it. What an unbounded one is likely to have is learnt of all."""
        return Estimate(
            self.prompt * generations, self.output * generations, self.more_prompt * generations, self.more_output
        )


def estimate(request: Request, output_tokens: int) -> Estimate:
    """`output_tokens` is what is reckoned for an answer whose length the request does not bound."""
    fields = request.fields
    prompt = 0
    for name in _COUNTED.intersection(fields):
        raw = bytes(fields[name])
        size = len(raw)
        if size > _LARGE and _PICTURE in raw:
            prompt += _without_pictures(request)
        else:
            prompt += size // (3 if raw.isascii() else 2) + 1
            if name == "messages" and b'_url"' in raw:
                prompt += _PART_TOKENS * len(_LINK.findall(raw))
    if not isinstance(request, ChatRequest):
        return Estimate(prompt, 0)
    choices = int(bytes(fields["n"])) if "n" in fields and bytes(fields["n"]).isdigit() else 1
    bound = request.max_tokens
    if bound is None:
        return Estimate(prompt, 0, more_output=output_tokens * choices)
    # Which of the two a provider goes by is its own affair.
    if "max_tokens" in fields and "max_completion_tokens" in fields:
        bounds = (bytes(fields["max_tokens"]), bytes(fields["max_completion_tokens"]))
        bound = max((int(said) for said in bounds if said.isdigit()), default=bound)
    return Estimate(prompt, bound * choices)


def _without_pictures(request: Request) -> int:
    """The same for a request whose bytes are mostly pictures: its words, and a good guess for each other part."""
    tokens = 0
    for message in request.messages:
        tokens += len(text_of(message).encode()) // 2 + 10
        content = message.get("content")
        if isinstance(content, list):
            tokens += _PART_TOKENS * sum(part.get("type") != "text" for part in content)
    return tokens
