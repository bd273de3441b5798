"""The section `access.tokens`: whose tokens are believed, and what their claims say of a caller."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from gateway.config.limits import Allowance
from gateway.config.quantities import Duration
from gateway.config.section import Section
from gateway.values import Priority, Role, Scope

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures that only the issuer can make. `none` and the HMACs, whose secret each verifier holds, are not among them."""

_ALGORITHMS: tuple[Algorithm, ...] = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Word = Annotated[str, Field(min_length=1, max_length=256)]
_Words = Annotated[list[_Word], Field(min_length=1)]
_Path = Annotated[
    list[_Word],
    BeforeValidator(_listed, json_schema_input_type=_Word | list[_Word]),
    Field(min_length=1, max_length=8),
]


class Claim(Section):
    """One claim: its name, or the path to it within others. `words`: it is text of several words, as `scope` is."""

    claim: _Path
    words: bool = False

    @property
    def label(self) -> str:
        """As messages name it."""
        return ".".join(self.claim)


class Required(Claim):
    """A claim that a token must have; with `values`, one of these."""

    values: _Words | None = None


class UserClaim(Claim):
    """The user. `prefix` keeps the users of two issuers apart that share a tenant."""

    prefix: Annotated[str, Field(max_length=64)] = ""


class GroupsClaim(Claim):
    """The groups: the claim's own texts, or what `values` says of them, others left out."""

    prefix: Annotated[str, Field(max_length=64)] = ""
    values: Annotated[dict[str, _Word], Field(min_length=1)] | None = None


class RoleClaim(Claim):
    """The role in the admin API: the first of `values` that the claim has."""

    values: Annotated[dict[str, Role], Field(min_length=1)]
    default: Role | None = None


class _Stated(Section):
    """What is the same for all tokens (`always`), or else is read from a claim."""

    claim: _Path | None = None
    words: bool = False

    @property
    def label(self) -> str:
        """As messages name it."""
        return ".".join(self.claim or ())

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.claim is None and self.model_fields_set != {"always"}:
            raise ValueError("say the `claim` that it is read from")
        if self.claim is not None and "always" in self.model_fields_set:
            raise ValueError("`always` and `claim` exclude each other")
        return self


class TenantClaim(_Stated):
    """The tenant: the claim's own text; or, with `values`, the first of them that the claim has, else `default`."""

    always: _TenantName | None = None
    values: Annotated[dict[str, _TenantName], Field(min_length=1)] | None = None
    default: _TenantName | None = None

    @property
    def named(self) -> list[str]:
        """Every tenant that this configuration names."""
        return [name for name in (self.always, self.default, *(self.values or {}).values()) if name is not None]


class ModelsClaim(_Stated):
    """What may be used: the models that the claim names; or, with `values`, all that they say of it; else `default`."""

    always: list[_Word] | None = None
    values: Annotated[dict[str, list[_Word]], Field(min_length=1)] | None = None
    default: list[_Word] = []

    @property
    def named(self) -> list[str]:
        """Every model that this configuration names."""
        return [
            *(self.always or ()),
            *self.default,
            *(name for names in (self.values or {}).values() for name in names),
        ]


class SpeaksClaim(_Stated):
    """Whose requests may name the user: tokens whose claim has one of `values`."""

    always: bool = False
    values: _Words | None = None

    @model_validator(mode="after")
    def _says_whose(self) -> Self:
        if self.claim is not None and self.values is None:
            raise ValueError("`values` is missing: what the claim says where users may be named")
        return self


class SensitivityClaim(_Stated):
    """The label of all that such a caller sends: the first of `values` that the claim has, else `default`."""

    always: str | None = None
    values: dict[str, str] = {}
    default: str | None = None

    @property
    def named(self) -> list[str]:
        """Every label that this configuration names."""
        return [label for label in (self.always, self.default, *self.values.values()) if label is not None]


class TokenIssuer(Section):
    """One issuer of JWTs, and what its claims say of a caller. `name` is what records call its callers.

    `jwks_url`: where its keys are; without it, its OIDC discovery document says so. `refresh`: how often they are
    asked for, so that a withdrawn key ends; `grace`: for how much longer known keys hold while the issuer is away.
    `scope`: whom a role is over. `limits`: what each of its users may use up. `priority`: as a key's.
    `insecure_http`: keys may come over plain HTTP from another machine, where a private network protects them.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    audience: Annotated[_Words, BeforeValidator(_listed, json_schema_input_type=_Word | list[_Word])]
    jwks_url: Annotated[str, Field(max_length=2048)] | None = None
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = list(_ALGORITHMS)
    leeway: Annotated[Duration, Field(le=600)] = 30.0
    refresh: Annotated[Duration, Field(ge=1, le=86_400)] = 300.0
    grace: Annotated[Duration, Field(le=604_800)] = 3_600.0
    insecure_http: bool = False
    required: list[Required] = []
    tenant: TenantClaim = TenantClaim(always="default")
    user: UserClaim | None = UserClaim(claim=["sub"])
    groups: GroupsClaim | None = None
    role: RoleClaim | None = None
    scope: Scope = "tenant"
    models: ModelsClaim | None = None
    limits: Allowance | None = None
    priority: Priority = "normal"
    speaks_for_users: SpeaksClaim = SpeaksClaim(always=False)
    sensitivity: SensitivityClaim | None = None

    @field_validator("tenant", mode="before", json_schema_input_type=_TenantName | TenantClaim)
    @classmethod
    def _tenant(cls, value: Any) -> Any:
        return _always(value)

    @field_validator("models", mode="before", json_schema_input_type=list[_Word] | ModelsClaim | None)
    @classmethod
    def _models(cls, value: Any) -> Any:
        return _always(value)

    @field_validator("speaks_for_users", mode="before", json_schema_input_type=bool | SpeaksClaim)
    @classmethod
    def _speaks(cls, value: Any) -> Any:
        return _always(value)

    @field_validator("sensitivity", mode="before", json_schema_input_type=str | SensitivityClaim | None)
    @classmethod
    def _sensitivity(cls, value: Any) -> Any:
        return _always(value)

    @field_validator("user", mode="before", json_schema_input_type=_Word | UserClaim | None)
    @classmethod
    def _user(cls, value: Any) -> Any:
        return {"claim": value} if isinstance(value, str) else value

    @field_validator("groups", mode="before", json_schema_input_type=_Word | GroupsClaim | None)
    @classmethod
    def _groups(cls, value: Any) -> Any:
        return {"claim": value} if isinstance(value, str) else value

    @field_validator("required", mode="before", json_schema_input_type=list[_Word | Required])
    @classmethod
    def _names(cls, value: Any) -> Any:
        return [{"claim": v} if isinstance(v, str) else v for v in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _keys_come_safely(self) -> Self:
        address = self.jwks_url or self.issuer
        if not safe_address(address, insecure_http=self.insecure_http):
            what = "`jwks_url`" if self.jwks_url else "without `jwks_url`, `issuer`"
            raise ValueError(
                f"{what} should be an https:// URL without a user or fragment: whoever can change the keys on their way "
                "can let anybody in (http:// only on this machine, or with `insecure_http: true`)"
            )
        return self


def _always(value: Any) -> Any:
    return value if isinstance(value, dict) or value is None else {"always": value}


def safe_address(url: str, *, insecure_http: bool) -> bool:
    """Whether an issuer's keys may be asked for there: https, or http on this machine, or where http is allowed."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and (insecure_http or _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
