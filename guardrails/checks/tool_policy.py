"""Which tools a model may be offered and may call, and with what arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from guardrails.checks.schema import broken, parsed, validator
from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise


class ToolPolicy:
    name = "tools"
    default_action: Action = "block"
    cost: Cost = "cheap"

    def __init__(
        self,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        max_characters: int | None = None,
    ) -> None:
        """`allow` and `deny` are names or patterns with `*` and `?`; what both name is denied, and without `allow` all
        others are allowed. `arguments` has a JSON Schema by a tool's name; `max_characters` bounds the arguments of any
        call. Raises ValueError for a schema that is none, or when nothing is asked.
        """
        if allow is None and not deny and not arguments and max_characters is None:
            raise ValueError("`tools` needs `allow`, `deny`, `arguments` or `max_characters`")
        self._allow = None if allow is None else tuple(allow)
        self._deny = tuple(deny)
        self._longest = max_characters
        self._validators = {}
        for tool, schema in (arguments or {}).items():
            try:
                self._validators[tool] = validator(schema)
            except ValueError as fault:
                raise ValueError(f"`arguments` of the tool `{tool}`: {fault}") from None
        told = json.dumps([self._allow, self._deny, arguments, max_characters], sort_keys=True, default=str)
        self.version = f"{_RULES} {hashlib.sha256(told.encode()).hexdigest()[:16]}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """Kinds: `tool` (it may not be used), `arguments.json`, `arguments.<keyword>`, `arguments.length`.

        `context.tool` is the tool's name, and `context.part` what each text is of it: of a `call` its arguments as
        JSON. Texts that belong to no tool are left alone.
        """
        if not context.tool:
            return [() for _ in texts]
        if not self._permits(context.tool):
            return [(Finding("tool", 0, len(text), 1.0),) for text in texts]
        if context.part != "call":
            return [() for _ in texts]
        return [self._arguments(text, context.tool) for text in texts]

    def _permits(self, tool: str) -> bool:
        if any(fnmatchcase(tool, pattern) for pattern in self._deny):
            return False
        return self._allow is None or any(fnmatchcase(tool, pattern) for pattern in self._allow)

    def _arguments(self, text: str, tool: str) -> tuple[Finding, ...]:
        if self._longest is not None and len(text) > self._longest:
            return (Finding("arguments.length", 0, len(text), 1.0),)
        check = self._validators.get(tool)
        if check is None:
            return ()
        try:
            document = parsed(text) if text.strip() else {}
        except ValueError:
            return (Finding("arguments.json", 0, len(text), 1.0),)
        keywords = dict.fromkeys(keyword for keyword, _ in broken(check, document))
        return tuple(Finding(f"arguments.{keyword}", 0, len(text), 1.0) for keyword in keywords)
