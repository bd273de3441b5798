"""What a check may need of the world around it, given to it when it is made; each raises CheckUnavailable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]
"""A vector for each text, in order."""

Complete = Callable[[list[dict[str, str]]], Awaitable[str]]
"""Chat messages (`role`, `content`) in, the text of a model's answer out."""

Post = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""A JSON body in, the decoded JSON of the answer out; address, headers and time-out are settled before."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Who makes these. `embed` and `complete` are asked for by a target's name, `provider/model`.

    `embed("local")` is the machine's own embedder.
    """

    embed: Callable[[str], Embed]
    complete: Callable[[str], Complete]
    post: Callable[[str, Mapping[str, str], float], Post]
    """URL, headers, and seconds until it is given up."""
