"""What each generation of Claude takes, by its name: facts about models, apart from the wire format.

https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking, …/structured-outputs, …/effort and
…/about-claude/models/migration-guide, as of November 2026. A name of no known generation counts as newest when it is a
Claude's (new ones keep to the newest's rules), and as oldest when it is not (other vendors that speak this format).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_NAME = re.compile(
    r"claude-(?:(?P<old>\d(?:-\d)?)-)?(?P<family>[a-z]+)(?:-(?P<major>\d{1,2})(?!\d)(?:-(?P<minor>\d)(?!\d))?)?"
)
_NEWEST = (99, 0)
_OLDEST = (3, 0)


@dataclass(frozen=True, slots=True)
class ClaudeModel:
    """One model. `version` is (4, 6) for Opus 4.6."""

    family: str
    version: tuple[int, int]

    @property
    def samples(self) -> bool:
        """Whether it takes temperature, top_p and top_k."""
        return self.version <= (4, 6)

    @property
    def one_sampler(self) -> bool:
        """Whether it takes temperature or top_p, but not both."""
        return self.version >= (4, 1)

    @property
    def adaptive(self) -> bool:
        """Whether it thinks by effort; older ones think within a budget of tokens."""
        return self.version >= (4, 6)

    @property
    def top_effort(self) -> str:
        """Its name for OpenAI's `xhigh`."""
        return "xhigh" if self.version >= (4, 7) else "max"

    @property
    def may_not_think(self) -> bool:
        """Whether thinking can be switched off by name."""
        return self.adaptive and self.family not in ("fable", "mythos")

    @property
    def structured(self) -> bool:
        """Whether it keeps to a JSON schema by itself (`output_config.format`, `strict` tools)."""
        return self.version >= (4, 5)

    @property
    def can_be_forced(self) -> bool:
        """Whether it can be made to use a tool."""
        return self.family not in ("fable", "mythos")


@lru_cache(1024)
def claude_model(name: str) -> ClaudeModel:
    """The facts about the model of this name; prefixes and suffixes of other platforms may stand around it."""
    told = _NAME.search(name)
    if told is None:
        return ClaudeModel("", _OLDEST)
    if told["old"]:
        major, _, minor = told["old"].partition("-")
        return ClaudeModel(told["family"], (int(major), int(minor or 0)))
    if told["major"]:
        return ClaudeModel(told["family"], (int(told["major"]), int(told["minor"] or 0)))
    return ClaudeModel(told["family"], _NEWEST)
