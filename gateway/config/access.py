"""Who may use the gateway: keys as the configuration file writes them, and what every key may be granted."""

from __future__ import annotations

import datetime
import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.config.browsers import HostName
from gateway.config.guardrails import KeyGuardrails
from gateway.config.limits import Allowance
from gateway.config.quantities import Duration
from gateway.config.records import Retention
from gateway.config.section import HeaderName, Section
from gateway.config.tokens import TokenIssuer
from gateway.values import Priority, Role, Scope

if TYPE_CHECKING:
    from gateway.config.models import Configuration

Endpoint = Literal[
    "chat.completions", "completions", "messages", "responses", "embeddings", "rerank", "moderations",
    "files", "vector_stores", "feedback", "calls", "features",
]  # fmt: skip
"""The API's parts, as calls are recorded: the path after /v1 with dots. `GET /v1/models` is every key's."""

KeyName = Annotated[str, Field(min_length=1, max_length=100)]
TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def _network(value: str) -> str:
    """`10.0.0.0/8`, `2001:db8::/32`, or one address; as `ipaddress` writes it."""
    try:
        return str(ipaddress.ip_network(value.strip()))
    except ValueError:
        raise ValueError("is a network like 10.0.0.0/8 or 2001:db8::/32, or one address") from None


Network = Annotated[str, AfterValidator(_network)]


def moment(value: object) -> float:
    """Seconds since the epoch, from an ISO 8601 date or time; UTC where it names no zone. Raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if re.fullmatch(r"[0-9]{9,11}(\.[0-9]+)?", str(value)):
        return float(str(value))
    try:
        read = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("is a date or time like 2027-01-31 or 2027-01-31T18:00:00+01:00") from None
    return (read if read.tzinfo is not None else read.replace(tzinfo=datetime.UTC)).timestamp()


Moment = Annotated[
    float,
    BeforeValidator(moment),
    Field(gt=0, lt=253_402_300_800),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}),
]
"""A point in time, in seconds since the epoch; written as a date, a time, or such seconds."""


class OpenWebuiFrontEnd(Section):
    """Calls come from an Open WebUI. `user`: which of the names that it forwards is the user's, where the key may speak
    for users; `side_calls`: the model that makes titles, tags and the like.
    """

    kind: Literal["open_webui"]
    user: Literal["id", "email", "name"] = "email"
    side_calls: Annotated[str, Field(min_length=1, max_length=256)] | None = None


def _named_front_end(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


FrontEndOf = Annotated[
    OpenWebuiFrontEnd,
    BeforeValidator(_named_front_end, json_schema_input_type=Literal["open_webui"] | OpenWebuiFrontEnd),
]


class Grants(Section):
    """What any key may be granted. `models` and `endpoints` are all where they are left out, `networks` everywhere.

    `prompts`: the templates that its calls may name, of those that there are for its tenant; all where it is left out.
    `priority`: where its calls wait for a provider with a `queue`. `front_end`: the chat front end whose dialect is spoken.
    """

    models: list[str] | None = None
    endpoints: Annotated[list[Endpoint], Field(min_length=1)] | None = None
    prompts: list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]] | None = None
    networks: list[Network] = []
    user: Annotated[str, Field(max_length=256)] | None = None
    groups: list[Annotated[str, Field(min_length=1, max_length=256)]] = []
    speaks_for_users: bool = False
    role: Role | None = None
    sensitivity: str | None = None
    priority: Priority = "normal"
    limits: Allowance | None = None
    front_end: FrontEndOf | None = None


class Key(Grants):
    """One virtual key. Only its SHA-256 is written here: `rag-gateway keys create --print` prints both.

    `admin: true` is short for `role: admin`; `scope` is whom a role is over.
    """

    name: KeyName
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    tenant: TenantName = "default"
    admin: bool = False
    scope: Scope = "gateway"
    guardrails: KeyGuardrails | None = None
    expires_at: Moment | None = None

    @model_validator(mode="after")
    def _one_role(self) -> Self:
        if self.admin and self.role not in (None, "admin"):
            raise ValueError(f"`admin: true` is `role: admin`: leave it out, or `role: {self.role}`")
        return self

    @property
    def granted_role(self) -> Role | None:
        return "admin" if self.admin else self.role


class Access(Section):
    """`key_grace`: how long keys of the record store that are known go on while that store is away.

    `trusted_proxies`: whose `X-Forwarded-For` is believed, where a key is bound to networks. `open_hosts`: names by
    which browsers and others may call a gateway that has no keys, beside localhost, addresses and the machine's name.
    """

    open_on_loopback: bool = True
    open_hosts: list[HostName] = []
    user_header: HeaderName | None = None
    key_grace: Duration = 3_600.0
    trusted_proxies: list[Network] = []
    keys: list[Key] = []
    tokens: list[TokenIssuer] = []


class SetsOfRules(Section):
    """Named sets of the configuration's `guardrails` that a stored key adds to those of whatever model it calls.

    Sets alone, since a rule may name a server to ask or code to run: whoever makes keys does not choose these.
    """

    input: list[SetName] = []
    output: list[SetName] = []

    @property
    def digest(self) -> str:
        """Names these sets in `Caller.guardrails`; "" where there are none."""
        return f"sets:{','.join(self.input)};{','.join(self.output)}" if self.input or self.output else ""

    @classmethod
    def read(cls, digest: str) -> Self:
        """The sets that a digest names; none where it is not one of these."""
        before, _, after = digest.removeprefix("sets:").partition(";") if digest.startswith("sets:") else ("", "", "")
        sides = [[name for name in side.split(",") if name] for side in (before, after)]
        return cls(input=sides[0], output=sides[1])


class StoredGrants(Grants):
    """What is kept of a key in the record store, beside its name, tenant and times."""

    scope: Scope = "tenant"
    guardrails: SetsOfRules | None = None


class TenantGrants(Section):
    """What is kept of a tenant that holds for all of its keys together, whatever they are granted themselves.

    `models`: what its keys may use at most. `retention`: for how long its records are kept, in place of the
    gateway's own `records.retention`.
    """

    models: list[str] | None = None
    limits: Allowance | None = None
    retention: Retention | None = None


def unknown_models(names: list[str] | None, configuration: Configuration) -> list[str]:
    """Those of a key's models that the configuration has neither as a public model nor as provider/model."""
    return [
        name
        for name in names or ()
        if name not in configuration.models and not ("/" in name and name.partition("/")[0] in configuration.providers)
    ]
