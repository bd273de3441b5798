"""Feast features: the repository, whose features a call reads, and what calls write back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from gateway.config.quantities import Duration
from gateway.config.section import Section
from gateway.entities import EntityTemplate


def _template(value: str) -> str:
    EntityTemplate.parse(value)
    return value


_Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Template = Annotated[str, Field(max_length=300), AfterValidator(_template)]
_Scalar = bool | int | float | str
_Owner = Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{1,64}|\*)$")]

CallFact = Literal[
    "calls", "tokens", "cost", "topics", "model", "time", "feedback.good", "feedback.bad", "feedback.score",
]  # fmt: skip
"""What is known of a user's calls: sums (calls, tokens, cost, feedback.good, feedback.bad) and what was last."""


class FromCalls(Section):
    """What calls write back about their user: `features` of the view that `push_source` feeds, and which fact each is.

    `every`: how long they are gathered, before they are written in one go.
    """

    push_source: _Name
    features: Annotated[dict[_Name, CallFact], Field(min_length=1)]
    every: Duration = 1.0


class UserFeatures(Section):
    """`online_store`: `repo` for what feature_store.yaml says, `sqlite` for a file in data_dir, a redis:// URL, or the
    http:// URL of a Feast feature server. `apply`: whether definitions are applied where they are new.

    `entities`: what each join key is made of, for all models. `tenant`: whose users those are that are not told apart
    by tenant; `*` where a user's name is the same person in all of them. `deadline`: how long the online store may
    take. `refresh`: how often the registry is looked at.
    """

    repo: Path
    online_store: str = "repo"
    apply: bool = True
    entities: dict[_Key, _Template] = {}
    tenant: _Owner | None = None
    deadline: Duration = 1.0
    refresh: Duration | Literal["off"] = 60.0
    sample_users: Path | None = None
    from_calls: FromCalls | None = None

    @field_validator("online_store")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value in ("repo", "sqlite"):
            return value
        parts = urlsplit(value)
        if parts.scheme in ("redis", "rediss") and parts.hostname:
            if "," in (parts.password or "") or "%2c" in (parts.password or "").lower():
                raise ValueError("Feast can't be told a password with a comma")
            return value
        if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc:
            return value.rstrip("/")
        raise ValueError(
            "the online store is repo, sqlite, a redis:// URL, or a feature server's http:// URL without credentials"
        )


class ModelFeatures(Section):
    """`entity` is the join key that is the call's user, `entities` what others are made of. `max_age`: how old a value
    may be, all or by name. `defaults` stand in for what is missing or too old, before the template's own.

    `from_calls`: whether calls of this model are written back, where `features.from_calls` says what.
    """

    service: str
    entity: _Key | None = None
    entities: dict[_Key, _Template] = {}
    max_age: Duration | dict[_Name, Duration] | None = None
    defaults: dict[_Name, _Scalar | list[_Scalar]] = {}
    budget: Duration = 0.25
    on_failure: Literal["continue", "refuse"] = "continue"
    from_calls: bool = True

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.entity is not None and self.entity in self.entities:
            raise ValueError(f"`entity: {self.entity}` and `entities.{self.entity}` say the same thing twice")
        return self

    def mapping(self, features: UserFeatures) -> dict[str, EntityTemplate]:
        """What each join key is made of in this model's calls: its own word, then that of all, then the user."""
        said = dict(features.entities)
        if self.entity is not None:
            said.setdefault(self.entity, "{user}")
        elif not said and not self.entities:
            said["user_id"] = "{user}"
        said |= self.entities
        return {join_key: EntityTemplate.parse(text) for join_key, text in said.items()}
