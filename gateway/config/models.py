"""The whole configuration as Pydantic models: what may be written, its defaults, and nothing ignored.

Each public model of the gateway is an entry of `models`; everything else is what those entries refer to.
References between sections are checked here, so that a configuration which loads can also be assembled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from gateway.config.access import Access
from gateway.config.browsers import Cors, Page
from gateway.config.caching import ModelCache
from gateway.config.features import ModelFeatures, UserFeatures
from gateway.config.guardrails import AnyRule, CheckName, ModelGuardrails, spelled
from gateway.config.lake import Drift, Lake
from gateway.config.limits import Charging, LimitRule
from gateway.config.providers import Provider
from gateway.config.quality import Quality
from gateway.config.quantities import Duration, Size
from gateway.config.records import Retention, Spool
from gateway.config.routing import Ab, Bandit, BlueGreen, Canary, Hedge, Priority, Residency, Strategy, StrategyName
from gateway.config.section import Credential, EncryptionKey, HttpUrl, RecordsUrl, Section, StateUrl
from gateway.config.telemetry import Telemetry
from gateway.entities import UserEntities, user_entities
from gateway.values import Residency as Place

OnFailure = Literal["continue", "refuse"]


# --- the service itself -------------------------------------------------------------------------------
class Server(Section):
    """`workers`: processes that serve; 0 is one for each core that this process may use.

    `max_in_flight`: calls that each of them has at a time at most; beyond, they are refused before they are read.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    max_in_flight: Annotated[int, Field(ge=1)] = 10_000
    body_limit: Size = 20_000_000
    header_limit: Size = 65_536
    header_timeout: Duration = 10.0
    body_timeout: Duration = 30.0
    keep_alive: Duration = 75.0
    grace: Duration = 30.0


class Records(Section):
    """The call log. `fast` loses at most 100 ms of records on SIGKILL; with `strict` an answer ends after its record is on
    the disk.

    `blocked: on`: where content is kept, what a guardrail has blocked on its way in is kept too, encrypted.
    `responses`: how long a response of /v1/responses can be continued since it last was; `off` keeps none.
    `encryption_keys`: the first one encrypts what was said, all of them decrypt; `file:/run/secrets/key` reads one.
    With one, `pseudonyms` of a conversation are kept for so long after its last call; without, or `off`, they are each
    call's own.
    """

    url: RecordsUrl | None = None
    durability: Literal["fast", "strict"] = "fast"
    spool: Spool = Spool()
    content: Literal["on", "off"] = "off"
    blocked: Literal["on", "off"] = "off"
    retention: Retention = Retention()
    responses: Duration | Literal["off"] = 30 * 86_400.0
    encryption_keys: list[EncryptionKey] = []
    pseudonyms: Duration | Literal["off"] = 86_400.0


class State(Section):
    """What limits, caches and circuits know: in this process's memory, or in a Redis that several of them share.

    `deadline`: how long a call waits for Redis at most, before it goes on without. `on_failure` says what becomes of
    limits then: each process grants `local_share` of them by its own counts, or refuses what is limited.
    """

    url: StateUrl = "memory://"
    deadline: Duration = 0.05
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "rag-gateway"
    on_failure: Literal["local", "refuse"] = "local"
    local_share: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def shared(self) -> bool:
        return self.url != "memory://"


# --- what models are made of --------------------------------------------------------------------------
class Milvus(Section):
    """`bm25: false` for a server before 2.5: its collections have no keyword search, and models search `dense`."""

    uri: str | None = None
    token: SecretStr | None = None
    bm25: bool = True


class Embeddings(Section):
    """`residency`: whether what is sent to `url`, every question and document, stays on the premises."""

    url: HttpUrl | None = None
    residency: Place = "external"
    api_key: Credential | None = None
    model: str = "all-MiniLM-L6-v2"
    dimension: Annotated[int, Field(gt=0)] = 384
    query_prefix: str = ""
    document_prefix: str = ""


class Reranking(Section):
    """A server with `/rerank`: TEI, vLLM, Infinity, Cohere, Jina. `url` ends before that.

    `residency`: whether what is sent there, questions and passages, stays on the premises.
    """

    url: HttpUrl
    residency: Place = "external"
    model: str
    api_key: Credential | None = None


_Reader = Annotated[str, Field(pattern=r"^(public|(user|group):.+)$")]


class Collection(Section):
    """`load` is loaded at start, for `tenant` (all tenants where none is named), with these readers and labels.

    `dated`: each document has the time of its file as the attribute `updated_at`.
    """

    load: list[Path] = []
    include: Annotated[list[str], Field(min_length=1)] | None = None
    prune: bool = False
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    readers: list[_Reader] = ["public"]
    sensitivity: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "public"
    attributes: dict[str, str | bool | float] = {}
    dated: bool = False

    @model_validator(mode="after")
    def _readers_fit(self) -> Self:
        if self.tenant is None and any(reader != "public" for reader in self.readers):
            raise ValueError("users and groups are a tenant's own: name the `tenant` that these readers belong to")
        return self


class Knowledge(Section):
    milvus: Milvus = Milvus()
    embeddings: Embeddings = Embeddings()
    rerank: Reranking | None = None
    collections: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")], Collection] = {}


class Prompts(Section):
    """`release_needs_suite`: a version is released only after a suite has tested its very text, and passed."""

    folder: Path = Path("prompts")
    release_needs_suite: bool = False


# --- the public models --------------------------------------------------------------------------------
PromptReference = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}@([1-9]\d{0,8}|[a-z][a-z0-9_-]{0,49})$")]
"""NAME@VERSION, or NAME@LABEL: whatever version the label points at when a call begins."""


class TargetEntry(Section):
    """One target. `context_length`, `images`, `tools`: what it can take, so that other requests go elsewhere.

    With a strategy of arms (canary, blue_green, ab, bandit) each target is one: `arm` names it, and `prompt` may give
    it a template of its own.
    """

    provider: str
    model: str = ""
    weight: Annotated[float, Field(ge=0)] = 1.0
    arm: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    prompt: PromptReference | None = None
    context_length: Annotated[int, Field(ge=1)] | None = None
    images: bool | None = None
    tools: bool | None = None

    @property
    def arm_name(self) -> str:
        return self.arm or (f"{self.provider}/{self.model}" if self.model else self.provider)


def _target(value: Any) -> Any:
    """`extractive` or `openai/gpt-4.1-mini`, the short forms of a target."""
    if isinstance(value, str):
        provider, _, model = value.partition("/")
        return {"provider": provider, "model": model}
    return value


class AskedModel(Section):
    """A `provider/model` that a stage asks for help, and how long it is waited for."""

    model: Annotated[str, Field(pattern=r"^[^/]+/.+$")]
    budget: Duration = 2.0


class Freshness(Section):
    """Newer documents first: `attribute` tells a document's time, as a date or in seconds since 1970.

    After `half_life` what its age adds to a score is halved; `weight` is the share of the score that age decides.
    """

    attribute: Annotated[str, Field(min_length=1, max_length=256)] = "updated_at"
    half_life: Duration = 7_776_000.0
    weight: Annotated[float, Field(gt=0, lt=1)] = 0.2


class ModelRetrieval(Section):
    """How a model searches; docs/retrieval.md says what each setting does, and what was measured of it."""

    collection: str
    top_k: Annotated[int, Field(ge=1, le=50)] = 6
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = None
    mode: Literal["hybrid", "dense", "keyword"] = "hybrid"
    fusion: Literal["weighted", "rrf"] = "weighted"
    dense_weight: Annotated[float, Field(ge=0, le=1)] = 0.6
    candidates: Annotated[int, Field(ge=1, le=200)] = 40
    near_duplicates: Annotated[float, Field(gt=0, le=1)] | None = 0.985
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0
    neighbours: Annotated[int, Field(ge=0, le=5)] = 0
    rerank: bool = False
    rerank_budget: Duration = 1.0
    rewrite: Literal["off", "heuristic"] | AskedModel = "heuristic"
    multi_query: bool = False
    hyde: AskedModel | None = None
    freshness: Freshness | None = None
    budget: Duration = 5.0
    on_failure: OnFailure = "refuse"


class Model(Section):
    description: str = ""
    targets: Annotated[list[TargetEntry], Field(min_length=1)]
    strategy: Strategy = Priority()
    hedge: Hedge | None = None
    fallbacks: list[TargetEntry] = []
    prompt: PromptReference | None = None
    summary: AskedModel | None = None
    features: ModelFeatures | None = None
    retrieval: ModelRetrieval | None = None
    guardrails: ModelGuardrails = ModelGuardrails()
    cache: ModelCache | None = None
    quality: Quality | None = None
    record_content: bool | None = None

    @field_validator("targets", "fallbacks", mode="before", json_schema_input_type=list[str | TargetEntry])
    @classmethod
    def _short_targets(cls, value: Any) -> Any:
        return [_target(v) for v in value] if isinstance(value, list) else value

    @field_validator("strategy", mode="before", json_schema_input_type=StrategyName | Strategy)
    @classmethod
    def _named_strategy(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @property
    def has_arms(self) -> bool:
        return isinstance(self.strategy, (Canary, BlueGreen, Ab, Bandit))

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        if self.has_arms:
            if len(self.targets) < 2:
                raise ValueError(f"the strategy `{self.strategy.kind}` compares targets: name at least two")
            names = [entry.arm_name for entry in self.targets]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"two targets are the arm `{twice[0]}`: give each its own name with `arm`")
            if isinstance(self.strategy, Canary) and self.strategy.plan is not None and len(names) != 2:
                raise ValueError("a canary's plan is about two targets: the stable one and the canary")
            active = self.strategy.active if isinstance(self.strategy, BlueGreen) else None
            if active is not None and active not in names:
                raise ValueError(f"`active: {active}` is not an arm; there are {', '.join(names)}")
        elif any(entry.arm or entry.prompt for entry in self.targets):
            raise ValueError(
                f"`arm` and `prompt` of a target need a strategy of arms, not `{self.strategy.kind}`: "
                "canary, blue_green, ab or bandit"
            )
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if self.features and not self.prompt:
            raise ValueError("`features` are given to the prompt template: name one with `prompt: NAME@VERSION`")
        if self.retrieval and not self.prompt:
            raise ValueError("passages are given to the prompt template: name one with `prompt: NAME@VERSION`")
        return self


_SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
_RuleSet = Annotated[
    list[AnyRule], BeforeValidator(spelled, json_schema_input_type=list[CheckName | AnyRule]), Field(min_length=1)
]


class Configuration(Section):
    data_dir: Path = Path("data")
    server: Server = Server()
    access: Access = Access()
    cors: Cors = Cors()
    page: Page = Page()
    records: Records = Records()
    state: State = State()
    telemetry: Telemetry = Telemetry()
    lake: Lake | None = None
    drift: Drift | None = None
    prompts: Prompts = Prompts()
    residency: Residency | None = None
    retrieval: Knowledge | None = None
    features: UserFeatures | None = None
    guardrails: dict[_SetName, _RuleSet] = {}
    limits: list[LimitRule] = []
    charging: Charging = Charging()
    providers: Annotated[dict[str, Provider], Field(min_length=1)]
    models: dict[Annotated[str, Field(pattern=r"^[!-~]{1,256}$")], Model] = {}

    @property
    def feature_owner(self) -> str:
        """The tenant whose users those are that features don't tell apart by tenant: as it says, or the only one."""
        if self.features is not None and self.features.tenant is not None:
            return self.features.tenant
        named = self._tenants
        return next(iter(named)) if len(named) == 1 else "default"

    @property
    def has_tenants(self) -> bool:
        """Whether it lets in calls of more than one tenant; what the record store's keys are, nobody knows here."""
        claimed = [issuer.tenant for issuer in self.access.tokens]
        return len(self._tenants) > 1 or any(tenant.claim is not None and not tenant.values for tenant in claimed)

    @property
    def _tenants(self) -> frozenset[str]:
        named = {key.tenant for key in self.access.keys if key.granted_role is None}
        for issuer in self.access.tokens:
            named.update(issuer.tenant.named)
        return frozenset(named)

    @property
    def user_entities(self) -> UserEntities:
        """The names by which models ask for users' features."""
        features = self.features
        if features is None:
            return UserEntities()
        mappings = [model.features.mapping(features) for model in self.models.values() if model.features is not None]
        return user_entities(mappings, self.feature_owner)
