"""Rules of guardrails as they are written: one model for each check, with the settings that this check has.

docs/guardrails.md says what each of them finds. A check's defaults are its own, in `guardrails/checks`: a setting that
is left out is not handed to it.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from gateway.config.quantities import Duration
from gateway.config.section import Credential, HeaderName, HttpUrl, Section
from gateway.values import Residency as Place

Share = Annotated[float, Field(ge=0, le=1)]
Road = Literal["input", "instructions", "passages", "tools"]
PersonalDatum = Literal["EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "PHONE_NUMBER", "CRYPTO", "IP_ADDRESS"]
TargetName = Annotated[str, Field(pattern=r"^[^/]+/.+$")]
"""`provider/model`"""


class Rule(Section):
    """What every rule has. `monitor` records and does nothing; `sample` is the share of calls that the check looks at;
    `threshold` the score below which a finding does not count; `message` the words to a caller who is blocked."""

    check: str
    monitor: bool = False
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    threshold: Share | None = None
    message: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is the check's own, as its constructor takes it."""
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in _EVERY_RULES and getattr(self, name) is not None
        }


class SecretsRule(Rule):
    check: Literal["secrets"]
    action: Literal["block", "mask", "flag"] | None = None

    @field_validator("action", mode="before")
    @classmethod
    def _never_again(cls, value: Any) -> Any:
        if value == "pseudonymise":
            raise ValueError("secrets are masked or blocked: no answer should ever hold one again")
        return value


class PersonalDataRule(Rule):
    check: Literal["pii"]
    action: Literal["block", "mask", "pseudonymise", "flag"] | None = None
    entities: Annotated[list[PersonalDatum], Field(min_length=1)] | None = None
    min_score: Share | None = None


class TextRule(Rule):
    """A check of whole texts. `roads`: those on the way in where it looks. `strict`: of an answer, nothing
    leaves before its verdict, with `whole` nothing at all before all of it is judged; otherwise it is judged each time
    `every` characters have left, over the last `window`."""

    action: Literal["block", "mask", "flag"] | None = None
    on_failure: Literal["continue", "refuse"] | None = None
    roads: Annotated[list[Road], Field(min_length=1)] | None = None
    strict: bool | Literal["whole"] = True
    every: Annotated[int, Field(ge=20, le=100_000)] = 200
    window: Annotated[int, Field(ge=20, le=100_000)] = 2_000

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.strict and self.action == "mask":
            raise ValueError("what has left can't be masked: `strict: false` goes with block or flag")
        if not self.strict and self.check in ("schema", "citations", "length", "groundedness"):
            raise ValueError(f"`{self.check}` is about the whole answer: it has no `strict: false`")
        return self


class KeywordList(Section):
    """What is looked for under one `kind`: `words` and phrases, `patterns` in RE2's syntax."""

    kind: Annotated[str, Field(min_length=1, max_length=64)]
    words: list[str] = []
    patterns: list[str] = []
    whole_words: bool = True
    case_sensitive: bool = False


class KeywordsRule(TextRule):
    check: Literal["keywords"]
    lists: Annotated[list[KeywordList], Field(min_length=1)]


class ExfiltrationRule(TextRule):
    check: Literal["exfiltration"]
    allowed_hosts: list[str] | None = None
    links: Literal["named", "allowed", "any"] | None = None
    bare_urls: bool | None = None
    data_images: bool | None = None


Embedder = Annotated[str, Field(pattern=r"^(local|[^/]+/.+)$")]
"""`local`, the machine's own embedder, which the `retrieval` section runs; or `provider/model`."""


class InjectionRule(TextRule):
    """`embeddings`: who makes vectors for what its wording leaves in doubt; nobody where it is left out."""

    check: Literal["injection"]
    embeddings: Embedder | None = None

    @property
    def given(self) -> dict[str, Any]:
        threshold = {} if self.threshold is None else {"threshold": self.threshold}
        return super().given | threshold


class LeakedInstructionsRule(TextRule):
    check: Literal["leaked_instructions"]
    min_characters: Annotated[int, Field(ge=24)] | None = None


class Judged(Section):
    """By `embeddings`, or by a `judge`, a chat model."""

    embeddings: Embedder | None = None
    judge: TargetName | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.embeddings is None) == (self.judge is None):
            raise ValueError(
                "say who decides: `embeddings: local`, `embeddings: provider/model`, or `judge: provider/model`"
            )
        return self


class GroundednessRule(Judged, TextRule):
    check: Literal["groundedness"]
    min_similarity: Annotated[float, Field(ge=-1, le=1)] | None = None
    numbers: bool | None = None
    language: str | None = None


class Topic(Section):
    """`examples` are texts of it; a text with a cosine of `min_similarity` to one of them is on it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    examples: Annotated[list[str], Field(min_length=1)]
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.35


class TopicsRule(TextRule):
    check: Literal["topics"]
    allowed: list[Topic] | None = None
    denied: list[Topic] | None = None
    embeddings: Embedder = "local"


class LanguageRule(TextRule):
    check: Literal["language"]
    allowed: Annotated[list[str], Field(min_length=1)]
    certainty: Share | None = None


class LengthRule(TextRule):
    check: Literal["length"]
    most: Annotated[int, Field(ge=0)] | None = None
    least: Annotated[int, Field(ge=0)] | None = None
    unit: Literal["characters", "words", "tokens"] | None = None


class CodeRule(TextRule):
    check: Literal["code"]
    allow: list[str] | None = None
    deny: list[str] | None = None
    commands: list[Literal["destructive", "exfiltrating", "remote_code", "reverse_shell"]] | None = None


class CitationsRule(TextRule):
    check: Literal["citations"]
    min_share: Share | None = None
    language: str | None = None


class SchemaRule(TextRule):
    """`repair`: an answer that does not fit is asked for once more, with the schema."""

    check: Literal["schema"]
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    fenced: bool | None = None
    repair: bool = False

    @property
    def given(self) -> dict[str, Any]:
        given = {"schema": self.schema_, "fenced": self.fenced}
        return {name: value for name, value in given.items() if value is not None}

    @model_validator(mode="after")
    def _refuses(self) -> Self:
        if self.repair and (self.action not in (None, "block") or self.monitor):
            raise ValueError("`repair` mends what would be blocked: it goes with `action: block`")
        return self


class ToolsRule(TextRule):
    """What tools may be offered and called, by name or pattern (`*`, `?`), and with which arguments."""

    check: Literal["tools"]
    allow: list[str] | None = None
    deny: list[str] | None = None
    arguments: dict[str, dict[str, Any]] | None = None
    max_characters: Annotated[int, Field(ge=1)] | None = None


class PythonRule(TextRule):
    """A check of your own: `entry_point` is MODULE:NAME of what makes it, called with `settings`."""

    check: Literal["python"]
    entry_point: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
    settings: dict[str, Any] = {}


class ServerRule(TextRule):
    """A check behind HTTP. `residency`: whether what is sent there, the texts, stays on the premises."""

    url: HttpUrl
    timeout: Duration = 5.0
    headers: dict[HeaderName, Credential] = {}
    api_key: Credential | None = None
    residency: Place = "external"

    @property
    def given(self) -> dict[str, Any]:
        """With `headers` as they are sent, the key among them; where the texts may go was checked before."""
        given = super().given
        sent = {name: value.get_secret_value() for name, value in self.headers.items()}
        if (key := given.pop("api_key", None)) is not None:
            sent["authorization"] = f"Bearer {key.get_secret_value()}"
        del given["residency"]
        return given | {"headers": sent}


class ModerationRule(ServerRule):
    """An endpoint like OpenAI's /v1/moderations: `url` is its whole address."""

    check: Literal["moderation"]
    model: str | None = None
    thresholds: dict[str, Share] | None = None
    others: bool | None = None


class GuardModelRule(ServerRule):
    """A guard model on a server like vLLM: `url` ends in /v1, as a provider's `base_url` does."""

    check: Literal["guard_model"]
    family: Literal["llama_guard", "granite_guardian", "shield_gemma", "prompt_guard"]
    model: str
    categories: list[str] | None = None
    min_score: Share | None = None
    max_characters: Annotated[int, Field(ge=100)] | None = None


class WebhookRule(ServerRule):
    """A check of your own, behind HTTP."""

    check: Literal["webhook"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "webhook"
    version: Annotated[str, Field(max_length=64)] = "1"


class NamedSet(Section):
    """All rules of one entry of the top-level `guardrails`."""

    check: Literal["set"]
    name: str


_EVERY_RULES = frozenset(TextRule.model_fields)

_Rules = (
    SecretsRule
    | PersonalDataRule
    | InjectionRule
    | KeywordsRule
    | ExfiltrationRule
    | LeakedInstructionsRule
    | GroundednessRule
    | TopicsRule
    | LanguageRule
    | LengthRule
    | CodeRule
    | CitationsRule
    | SchemaRule
    | ToolsRule
    | ModerationRule
    | GuardModelRule
    | PythonRule
    | WebhookRule
)
AnyRule = Annotated[_Rules, Field(discriminator="check")]
Entry = Annotated[_Rules | NamedSet, Field(discriminator="check")]
CheckName = Literal[
    "secrets", "pii", "injection", "keywords", "exfiltration", "leaked_instructions", "groundedness", "topics",
    "language", "length", "code", "citations", "schema", "tools", "moderation", "guard_model", "python", "webhook",
]  # fmt: skip
_OF_ANSWERS = ("leaked_instructions", "groundedness", "citations", "schema")
CHECKS: frozenset[str] = frozenset(CheckName.__args__)  # type: ignore[attr-defined]  # a Literal has its words there


def spelled(value: Any) -> Any:
    """`secrets`, the short form of a rule, and the name of a set."""
    if not isinstance(value, list):
        return value
    return [
        ({"check": entry} if entry in CHECKS else {"check": "set", "name": entry}) if isinstance(entry, str) else entry
        for entry in value
    ]


class Guardrails(Section):
    """Rules on what goes in and on what comes out."""

    input: list[Entry] = []
    output: list[Entry] = []

    @field_validator("input", "output", mode="before", json_schema_input_type=list[CheckName | str | AnyRule])
    @classmethod
    def _names(cls, value: Any) -> Any:
        return spelled(value)

    @field_validator("input")
    @classmethod
    def _fits_input(cls, value: list[Entry]) -> list[Entry]:
        for rule in value:
            if fault := unfit_for_input(rule):
                raise ValueError(fault)
        return value

    @field_validator("output")
    @classmethod
    def _fits_output(cls, value: list[Entry]) -> list[Entry]:
        for rule in value:
            if fault := unfit_for_output(rule):
                raise ValueError(fault)
        return value


class KeyGuardrails(Guardrails):
    """Rules of a key, in addition to those of whatever model it calls."""

    @property
    def digest(self) -> str:
        """Names these rules; "" where there are none."""
        told = self.model_dump_json()
        return hashlib.sha256(told.encode()).hexdigest()[:16] if self.input or self.output else ""


class ModelGuardrails(Guardrails):
    """`budget`: the time that the checks of whole texts have together, each time that they are asked.

    `pseudonyms`: whether they are a call's own, or hold for its conversation; where it is left out, a conversation's
    if `records.encryption_keys` has a key to keep them with.
    """

    budget: Duration = 5.0
    pseudonyms: Literal["call", "conversation"] | None = None


def unfit_for_input(rule: Entry | AnyRule) -> str | None:
    """Why a rule can't stand under `input`; None where it can."""
    if rule.check in _OF_ANSWERS:
        return f"`{rule.check}` is about an answer: it stands under `output`"
    return None


def unfit_for_output(rule: Entry | AnyRule) -> str | None:
    """Why a rule can't stand under `output`; None where it can."""
    if isinstance(rule, PersonalDataRule) and rule.action == "pseudonymise":
        return "`pseudonymise` is for input: what it replaces there comes back in the output"
    if isinstance(rule, TextRule) and rule.roads is not None:
        return f"`roads` are for input: under `output`, `{rule.check}` looks at the answer"
    return None
