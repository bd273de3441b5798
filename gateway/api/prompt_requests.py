"""What the admin API is told about prompt templates."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.config.access import TenantName

_Text = Annotated[str, Field(min_length=1, max_length=262_144)]
_Why = Annotated[str, Field(max_length=1_000)]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Number = Annotated[int, Field(ge=1, le=999_999_999)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewDraft(_Asked):
    """`source` is a template's file; `tenant` whose it shall be: the gateway's own where a key over it says none."""

    source: _Text
    notes: _Why = ""
    tenant: TenantName | None = None


class DraftChange(_Asked):
    """`hash` is that of the text which this one takes the place of: a change that crossed another is refused."""

    source: _Text
    notes: _Why | None = None
    hash: _Hash | None = None


class Release(_Asked):
    """`label` is pointed at the version once it is released; `hash` as in a change."""

    reason: _Why = ""
    hash: _Hash | None = None
    label: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$")] | None = None


class LabelMove(_Asked):
    """`expected` is the version that the label points at before: a move that crossed another is refused."""

    version: Number
    expected: Number | None = None
    reason: _Why = ""


class Why(_Asked):
    reason: _Why = ""


class Rendering(_Asked):
    """What a template is filled with, to look at: no model is asked."""

    variables: dict[str, Any] = {}
    messages: Annotated[list[dict[str, Any]], Field(max_length=500)] = []
    features: dict[str, str | int | float | bool | list[str | int | float | bool] | None] = {}
    passages: Annotated[list[Annotated[str, Field(max_length=50_000)]], Field(max_length=50)] = []


class NewResult(_Asked):
    """What a suite said. `hash` is that of the template's text that was tested, `suite` a digest of the suite."""

    hash: _Hash
    suite: Annotated[str, Field(min_length=1, max_length=200)]
    passed: Annotated[int, Field(ge=0)]
    failed: Annotated[int, Field(ge=0)]
    targets: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=100)] = []
    failures: Annotated[list[Annotated[str, Field(max_length=1_000)]], Field(max_length=100)] = []
