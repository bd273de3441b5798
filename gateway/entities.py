"""Whose features a call reads: join keys made of what is known of the call, and whose users they belong to.

A template such as `{tenant}/{user}` names its sources in braces: `user`, `tenant` and `key`, which the caller's key
proves; `header.NAME`, `metadata.NAME` and `input.NAME`, which are whatever the caller says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PROVED = ("user", "tenant", "key")
_SAID = ("header", "metadata", "input")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
_OF_TENANTS = re.compile(r"[A-Za-z0-9_-]")  # what a tenant's own name may hold

EVERYBODY = "*"
"""The owner of features whose users are the same people in every tenant."""


@dataclass(frozen=True, slots=True)
class EntityTemplate:
    """`pieces` are text and sources in turn, beginning with text: `{tenant}/{user}` is "", tenant, "/", user, "" ."""

    pieces: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> EntityTemplate:
        """Raises ValueError saying what may stand there."""
        pieces = tuple(_PLACEHOLDER.split(text))
        sources = pieces[1::2]
        for source in sources:
            kind, dot, name = source.partition(".")
            if not (kind in _PROVED and not dot) and not (kind in _SAID and _NAME(name)):
                raise ValueError(
                    f"`{{{source}}}` is nothing of a call: there are {{user}}, {{tenant}}, {{key}}, {{header.NAME}}, "
                    "{metadata.NAME} and {input.NAME}"
                )
        for before, sign, after in zip(pieces[1::2], pieces[2::2], pieces[3::2], strict=False):
            if not sign and not {before, after} <= set(_PROVED):
                raise ValueError(
                    f"`{{{before}}}{{{after}}}` needs a sign between them, such as `/`: else one could be both"
                )
        if not sources or any("{" in piece or "}" in piece for piece in pieces[0::2]):
            raise ValueError("names what it is made of in braces, such as `{user}` or `{metadata.product_id}`")
        return cls(pieces)

    @property
    def sources(self) -> tuple[str, ...]:
        return self.pieces[1::2]

    @property
    def of_user(self) -> bool:
        return "user" in self.sources

    @property
    def of_tenant(self) -> bool:
        """Whether no two tenants can have the same value: the tenant stands first, and ends where a sign says so."""
        after = self.pieces[2] if len(self.pieces) > 2 else ""
        return (
            self.pieces[0] == ""
            and self.sources[0] == "tenant"
            and (len(self.sources) == 1 or bool(after and not _OF_TENANTS.match(after)))
        )

    @property
    def said_by_callers(self) -> tuple[str, ...]:
        return tuple(source for source in self.sources if source not in _PROVED)

    def named(self, kind: str) -> tuple[str, ...]:
        """The names of its sources of one kind: of `header`, those headers."""
        return tuple(source.partition(".")[2] for source in self.sources if source.startswith(kind + "."))

    def fill(self, known: Callable[[str], str | None]) -> str | None:
        """The value, of what `known` says of each source; None where one of them is not known.

        Also where one holds the sign that ends it: of `{user}/{metadata.room}`, `a` who says `b/c` would be `a/b` in `c`.
        """
        made = [self.pieces[0]]
        for order in range(1, len(self.pieces), 2):
            value, after = known(self.pieces[order]), self.pieces[order + 1]
            if not value or (after and after in value and order + 2 < len(self.pieces)):
                return None
            made += (value, after)
        return "".join(made)

    def stored(self, tenant: str, value: str) -> str | None:
        """The value in the store of what callers of a tenant call `value`; None where it is made of more than that."""
        if sum(source != "tenant" for source in self.sources) > 1:
            return None
        return self.fill(lambda source: tenant if source == "tenant" else value)


@dataclass(frozen=True, slots=True)
class UserEntities:
    """All join keys by which models know users. `owner` is the tenant whose users those are that name no tenant."""

    templates: frozenset[tuple[str, EntityTemplate]] = frozenset()
    owner: str = EVERYBODY

    def of(self, tenant: str, user: str, *, everywhere: bool) -> list[dict[str, str]]:
        """The entities that this user of this tenant is. `everywhere`: also what all tenants share."""
        found = []
        for join_key, template in sorted(self.templates, key=lambda each: (each[0], each[1].pieces)):
            owned = template.of_tenant or self.owner == tenant or (self.owner == EVERYBODY and everywhere)
            if owned and (value := template.stored(tenant, user)) is not None:
                found.append({join_key: value})
        return found

    @property
    def shared(self) -> bool:
        """Whether some are everybody's, which only a role over the whole gateway may touch."""
        return self.owner == EVERYBODY and any(not template.of_tenant for _, template in self.templates)


def user_entities(mappings: Iterable[Mapping[str, EntityTemplate]], owner: str) -> UserEntities:
    """Of all mappings those join keys that are made of a user, and of the tenant at most."""
    return UserEntities(
        frozenset(
            (join_key, template)
            for mapping in mappings
            for join_key, template in mapping.items()
            if template.of_user and set(template.sources) <= {"user", "tenant"}
        ),
        owner,
    )
