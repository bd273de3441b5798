"""The `providers` section: every kind of provider, with what may be set of it and the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.config.quantities import Duration
from gateway.config.queueing import ServerQueue
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


_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(Section):
    """USD a million tokens."""

    input: _Price
    output: _Price
    cached_input: _Price | None = None


P = TypeVar("P", bound="HttpProvider")


def _with_key(provider: P) -> P:
    """Raises ValueError where a vendor that asks for a key is given none."""
    if provider.api_key is None and provider.api_keys is None:
        raise ValueError("`api_key` is missing (an empty one switches the provider off)")
    return provider


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

    `prices`: by model, `*` for all others; where nothing is written, the maintained price data are asked.
    `residency`: whether what is sent here stays on the premises; data that may not leave goes nowhere else.
    `http2`: many calls over few connections, where the server agrees to it (https).
    `queue`: for a server of your own, which gets no more calls at a time than it can hold.
    """

    api_key: Credential | None = None
    api_keys: Annotated[list[Credential], Field(min_length=1)] | None = None
    headers: dict[str, Credential] = {}
    residency: Residency = "external"
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    circuit: Circuit = Circuit()
    queue: ServerQueue | None = None
    prices: dict[str, Prices] = {}
    max_connections: Annotated[int, Field(ge=1)] = 1000
    http2: bool = False

    @model_validator(mode="after")
    def _one_way_to_name_keys(self) -> Self:
        if self.api_key is not None and self.api_keys is not None:
            raise ValueError("`api_key` and `api_keys` are two ways to say the same: write one of them")
        return self

    @model_validator(mode="after")
    def _http2_is_agreed_on_by_tls(self) -> Self:
        address = getattr(self, "base_url", None) or getattr(self, "endpoint", None)
        if self.http2 and address is not None and not str(address).startswith("https://"):
            raise ValueError("`http2` needs an https address: both sides agree to it in the TLS handshake")
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


class Anthropic(VendorProvider):
    """Anthropic's Messages API. `default_max_tokens`: theirs needs a limit where a request has none."""

    kind: Literal["anthropic"]
    base_url: HttpUrl = "https://api.anthropic.com"
    default_max_tokens: Annotated[int, Field(ge=1)] = 4096

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        return _with_key(self)


class Gemini(VendorProvider):
    """Google's Gemini API."""

    kind: Literal["gemini"]
    base_url: HttpUrl = "https://generativelanguage.googleapis.com"

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        return _with_key(self)


class Vertex(VendorProvider):
    """Gemini on Vertex AI. `credentials`: a service account's key file, or `credentials_json` its content; without
    either, the machine's own identity."""

    kind: Literal["vertex"]
    project: Annotated[str, Field(pattern=r"^[a-z0-9:.-]{1,100}$")]
    location: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,50}$")] = "global"
    credentials: Path | None = None
    credentials_json: SecretStr | None = None
    base_url: HttpUrl | None = None

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.credentials is not None and self.credentials_json is not None:
            raise ValueError("`credentials` and `credentials_json` are two ways to say the same: write one of them")
        return self

    @property
    def address(self) -> str:
        where = "" if self.location == "global" else f"{self.location}-"
        return self.base_url or f"https://{where}aiplatform.googleapis.com"


class Entra(Section):
    """A Microsoft Entra application; without `client_secret`, the machine's managed identity."""

    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,100}$")] | None = None
    client_id: Annotated[str, Field(min_length=1)] | None = None
    client_secret: SecretStr | None = None
    authority: HttpUrl = "https://login.microsoftonline.com"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.client_secret is not None and (self.tenant_id is None or self.client_id is None):
            raise ValueError("a `client_secret` goes with `tenant_id` and `client_id`")
        return self


class AzureOpenAI(HttpProvider):
    """Azure OpenAI. Without `api_version`, the v1 API; with it, deployments: a target's model is a deployment's name,
    or one of `deployments`, model to deployment."""

    kind: Literal["azure_openai"]
    endpoint: HttpUrl
    api_version: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,40}$")] | None = None
    deployments: dict[str, str] = {}
    entra: Entra | None = None

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if (self.entra is None) == (self.api_key is None and self.api_keys is None):
            raise ValueError("say one of `api_key` and `entra`")
        return self


class Bedrock(VendorProvider):
    """Amazon Bedrock. Credentials: an `api_key` of Bedrock's, an access key, a profile, or what the machine has."""

    kind: Literal["bedrock"]
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    base_url: HttpUrl | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    profile: str | None = None

    @property
    def address(self) -> str:
        return self.base_url or f"https://bedrock-runtime.{self.region}.amazonaws.com"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("`access_key_id` and `secret_access_key` go together")
        return self


class Mistral(VendorProvider):
    """Mistral's own API."""

    kind: Literal["mistral"]
    base_url: HttpUrl = "https://api.mistral.ai"

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        return _with_key(self)


class Cohere(VendorProvider):
    """Cohere's v2 API: chat, embeddings, rerank."""

    kind: Literal["cohere"]
    base_url: HttpUrl = "https://api.cohere.com"

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        return _with_key(self)


class AnyLlm(HttpProvider):
    """A vendor of the long tail, through any-llm. `vendor` is its name there: groq, xai, together, ollama, …"""

    kind: Literal["any_llm"]
    vendor: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,50}$")]
    base_url: HttpUrl | None = None

    @model_validator(mode="after")
    def _leaves_the_wire_to_the_sdk(self) -> Self:
        for name in ("headers", "max_connections", "http2"):
            if name in self.model_fields_set:
                raise ValueError(f"`{name}` can't be set here: the vendor's SDK makes the connections")
        if "connect" in self.timeouts.model_fields_set:
            raise ValueError("`timeouts.connect` can't be set here: the vendor's SDK makes the connections")
        return self


class MediaFetcher(HttpProvider):
    """A server that fetches what a request names by URL, from where it stands.

    `media_hosts`: the hosts that it may be sent to (`*.example.com` for all below). A vLLM server, and whatever is on the
    premises, may be sent to none that is not named here; others to all.
    """

    media_hosts: list[Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$")]] | None = None


class OpenAICompatible(MediaFetcher):
    kind: Literal["openai_compatible"]
    base_url: HttpUrl


class OpenAI(HttpProvider):
    kind: Literal["openai"]
    base_url: HttpUrl = "https://api.openai.com/v1"

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        return _with_key(self)


class Serve(Section):
    """A vLLM server that the gateway runs: `executable serve model args…`, on a port of its own choice."""

    model: Annotated[str, Field(min_length=1)]
    args: list[str] = []
    executable: str = "vllm"
    ready_within: Duration = 900.0

    @field_validator("args")
    @classmethod
    def _leaves_the_address_to_us(cls, args: list[str]) -> list[str]:
        for name in ("--host", "--port", "--api-key"):
            if any(arg == name or arg.startswith(name + "=") for arg in args):
                raise ValueError(f"{name} is the gateway's to choose: leave it out")
        return args


class Vllm(MediaFetcher):
    """A vLLM server at `base_url`; or, with `serve`, one that the gateway starts, watches and ends.

    `load_every`: how often its `/metrics` are asked for its load, where a `least_busy` model uses it."""

    kind: Literal["vllm"]
    base_url: HttpUrl = "http://127.0.0.1:8000/v1"
    serve: Serve | None = None
    load_every: Duration = 1.0

    @model_validator(mode="before")
    @classmethod
    def _runs_here(cls, given: Any) -> Any:
        """What the gateway starts on its own machine is on the premises."""
        if isinstance(given, dict) and given.get("serve") is not None:
            return {"residency": "on_premises", **given}
        return given

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.serve is not None:
            for name in ("base_url", "api_key", "api_keys", "http2"):
                if name in self.model_fields_set:
                    raise ValueError(f"`{name}` is for a server that runs already: with `serve`, leave it out")
        return self


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


Provider = Annotated[
    OpenAICompatible
    | OpenAI
    | AzureOpenAI
    | Anthropic
    | Gemini
    | Vertex
    | Bedrock
    | Mistral
    | Cohere
    | Vllm
    | AnyLlm
    | Extractive
    | LocalEmbeddings,
    Field(discriminator="kind"),
]
