"""The `providers` section: every kind of provider, with what may be set of it and the defaults."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config.quantities import Duration
from gateway.config.section import Credential, HttpUrl, Section
from gateway.values import Residency


class Timeouts(Section):
    """`first_token`: to the first content of an answer; `between_tokens`: comments do not count as tokens."""

    connect: Duration = 5.0
    first_token: Duration = 60.0
    between_tokens: Duration = 30.0
    total: Duration = 600.0


class Retries(Section):
    """Further attempts at the same target before the next one is tried; never after a byte of the answer."""

    attempts: Annotated[int, Field(ge=0, le=10)] = 1
    backoff: Duration = 0.25
    max_backoff: Duration = 8.0


class Circuit(Section):
    """When a target is left alone: after `failures` in a row, or nothing but failures for `within`; then for `pause`,
    and twice as long each time, up to `longest`."""

    failures: Annotated[int, Field(ge=1)] = 5
    within: Duration = 2.0
    pause: Duration = 1.0
    longest: Duration = 8.0


class HttpProvider(Section):
    """`base_url` ends where `/chat/completions` begins. An empty `api_key` switches the provider off.

    `api_keys`: several keys, used in turn; one that is limited or refused rests.

    `residency`: whether what is sent here stays on the premises; data that may not leave goes nowhere else.
    """

    api_key: Credential | None = None
    api_keys: Annotated[list[Credential], Field(min_length=1)] | None = None
    headers: dict[str, Credential] = {}
    residency: Residency = "external"
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    circuit: Circuit = Circuit()
    max_connections: Annotated[int, Field(ge=1)] = 1000

    @model_validator(mode="after")
    def _one_way_to_name_keys(self) -> Self:
        if self.api_key is not None and self.api_keys is not None:
            raise ValueError("`api_key` and `api_keys` are two ways to say the same: write one of them")
        return self

    @property
    def keys(self) -> list[str | None]:
        """The API keys that are not empty; [None] where none is configured."""
        if self.api_keys is not None:
            return [value for key in self.api_keys if (value := key.get_secret_value())]
        return [self.api_key.get_secret_value()] if self.api_key is not None else [None]

    @property
    def switched_off(self) -> bool:
        return not any(key is None or key for key in self.keys)


class VendorProvider(HttpProvider):
    """A vendor with a wire format of its own. `unsupported`: what happens to request fields that it lacks."""

    unsupported: Literal["refuse", "drop"] = "refuse"


class OpenAICompatible(HttpProvider):
    kind: Literal["openai_compatible"]
    base_url: HttpUrl


class OpenAI(HttpProvider):
    kind: Literal["openai"]
    base_url: HttpUrl = "https://api.openai.com/v1"
    api_key: Credential


class Vllm(HttpProvider):
    kind: Literal["vllm"]
    base_url: HttpUrl = "http://127.0.0.1:8000/v1"


class Extractive(Section):
    kind: Literal["extractive"]
    sentences: Annotated[int, Field(ge=1, le=20)] = 4

    @property
    def residency(self) -> Residency:
        return "on_premises"

    @property
    def switched_off(self) -> bool:
        return False


class LocalEmbeddings(Section):
    """The gateway's own embedding process, offered at `/v1/embeddings`."""

    kind: Literal["local_embeddings"]

    @property
    def residency(self) -> Residency:
        return "on_premises"

    @property
    def switched_off(self) -> bool:
        return False


Provider = Annotated[OpenAICompatible | OpenAI | Vllm | Extractive | LocalEmbeddings, Field(discriminator="kind")]
