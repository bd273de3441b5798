"""What one section of a configuration says of another: every name must be there."""

from __future__ import annotations

from gateway.config.access import unknown_models
from gateway.config.document import Document, Path
from gateway.config.faults import ConfigFault, nearest
from gateway.config.guardrails import (
    CHECKS,
    AnyRule,
    Entry,
    Guardrails,
    NamedSet,
    ServerRule,
    unfit_for_input,
    unfit_for_output,
)
from gateway.config.models import AskedModel, Configuration, Model, TargetEntry
from gateway.config.providers import HttpProvider, LocalEmbeddings
from gateway.config.routing import BestOf
from gateway.config.section import Section

Awaited = tuple[str, ConfigFault]
"""A prompt template that is not in the folder, and what is wrong where the record store does not have it either."""


def check_references(
    configuration: Configuration, document: Document
) -> tuple[list[ConfigFault], list[str], list[Awaited]]:
    """All faults, notices for the operator (targets that are switched off), and what has to be found later."""
    return _References(configuration, document).check()


class _References:
    def __init__(self, configuration: Configuration, document: Document) -> None:
        self._configuration = configuration
        self._document = document
        self._faults: list[ConfigFault] = []
        self._notices: list[str] = []
        self._awaited: list[Awaited] = []

    def check(self) -> tuple[list[ConfigFault], list[str], list[Awaited]]:
        configuration = self._configuration
        for name, provider in configuration.providers.items():
            if "/" in name:
                self._fault(
                    ("providers", name), "a provider's name has no slash: it stands before one in provider/model"
                )
            if provider.switched_off:
                self._notices.append(f"provider {name} is switched off: its api_key is empty")
            if isinstance(provider, LocalEmbeddings) and configuration.retrieval is None:
                self._fault(
                    ("providers", name), "local_embeddings needs the `retrieval` section, which runs the embedder"
                )
        for name, model in configuration.models.items():
            self._model(name, model)
        self._keys()
        self._tokens()
        self._guardrails()
        self._pseudonyms()
        self._residency()
        self._limits()
        self._telemetry()
        self._lake()
        self._features()
        return self._faults, self._notices, self._awaited

    def _lake(self) -> None:
        """What is compared is in the lake, and vectors come from the gateway's own embedding process."""
        lake, retrieval = self._configuration.lake, self._configuration.retrieval
        if self._configuration.drift is not None and lake is None:
            self._fault(("drift",), "needs the `lake` section, which keeps the calls that are compared")
        if lake is not None and lake.vectors and (retrieval is None or retrieval.embeddings.url is not None):
            self._fault(
                ("lake", "vectors"), "needs the gateway's own embedder: a `retrieval` section without embeddings.url"
            )

    def _telemetry(self) -> None:
        """The models that traces are about; keys and tenants may be the record store's."""
        configuration, traces = self._configuration, self._configuration.telemetry.traces
        known = list(configuration.models)
        path: Path = ("telemetry", "traces")
        named: list[tuple[Path, list[str]]] = [
            ((*path, "rules", order, "when", "model"), rule.when.get("model", []))
            for order, rule in enumerate(traces.rules)
        ]
        if traces.content != "off":
            named.append(((*path, "content", "models"), traces.content.models))
        for where, names in named:
            for name in unknown_models(names, configuration):
                self._fault(where, f"there is no model `{name}`", tuple(known), nearest(name, known))

    def _limits(self) -> None:
        """What rules name is there, and no two rules say how much of the same there may be."""
        configuration = self._configuration
        keys = [key.name for key in configuration.access.keys]
        said: set[tuple[object, ...]] = set()
        for order, rule in enumerate(configuration.limits):
            path: Path = ("limits", order)
            if twice := [measure for measure in sorted(rule.measures) if (rule.identity, measure) in said]:
                self._fault(path, f"`{twice[0]}` is limited for the same calls by another rule: keep one of them")
            said.update((rule.identity, measure) for measure in rule.measures)
            for name in rule.when.get("key", ()):
                if name not in keys and not name.startswith("key_"):
                    self._fault(
                        (*path, "when", "key"),
                        f"there is no key `{name}` in access.keys; a stored key is named by its id, key_…",
                        tuple(keys),
                        nearest(name, keys),
                    )
            self._models((*path, "when", "model"), rule.when.get("model"))
            for name in rule.when.get("target", ()):
                provider, _, model = name.partition("/")
                self._target((*path, "when", "target"), TargetEntry(provider=provider, model=model))

    def _features(self) -> None:
        """Users of two tenants may have the same name, and must not have the same features for that."""
        features, configuration = self._configuration.features, self._configuration
        if features is None or features.tenant is not None or not configuration.has_tenants:
            return
        for name, model in configuration.models.items():
            for join_key, template in model.features.mapping(features).items() if model.features is not None else ():
                if template.of_user and not template.of_tenant:
                    above: Path = ("features", "entities", join_key)
                    own: Path = ("models", name, "features", "entities", join_key)
                    where = next((path for path in (own, above) if path in self._document.marks), own[:3])
                    self._fault(
                        where,
                        f"`{join_key}` would be the same for users of the same name in two tenants: make it of both, "
                        f'`features: {{entities: {{{join_key}: "{{tenant}}/{{user}}"}}}}`, or say whose users they are '
                        "with `features.tenant`, `*` for everybody's",
                    )

    def _residency(self) -> None:
        """A question is embedded, and passages are reranked, before it is known where the call may go."""
        residency, knowledge = self._configuration.residency, self._configuration.retrieval
        if residency is None or knowledge is None:
            return
        for name, collection in knowledge.collections.items():
            if collection.sensitivity not in residency.labels:
                path: Path = ("retrieval", "collections", name)
                self._fault(
                    (*path, "sensitivity") if (*path, "sensitivity") in self._document.marks else path,
                    f"its documents' sensitivity `{collection.sensitivity}` is not one of residency.labels",
                    tuple(residency.labels),
                    nearest(collection.sensitivity, residency.labels),
                )
        for name, server in (("embeddings", knowledge.embeddings), ("rerank", knowledge.rerank)):
            if server is not None and server.url is not None and server.residency != "on_premises":
                self._fault(
                    ("retrieval", name, "url"),
                    "would be sent what may not leave, as there is a `residency` section: a server on the premises "
                    "says `residency: on_premises`",
                )

    def _guardrails(self) -> None:
        configuration = self._configuration
        for name, rules in configuration.guardrails.items():
            if name in CHECKS:
                self._fault(("guardrails", name), "is the name of a check; choose another for this set")
            for order, rule in enumerate(rules):
                self._rule(("guardrails", name, order), rule)
        for name, model in configuration.models.items():
            self._guarded(("models", name, "guardrails"), model.guardrails)
        for order, key in enumerate(configuration.access.keys):
            if key.guardrails is not None:
                self._guarded(("access", "keys", order, "guardrails"), key.guardrails)

    def _pseudonyms(self) -> None:
        """They are kept encrypted or not at all, as is what a guardrail has blocked."""
        records = self._configuration.records
        if records.blocked == "on" and not records.encryption_keys:
            self._fault(
                ("records", "blocked"),
                "`on` needs `records.encryption_keys`: what a guardrail blocks may be a secret, and is kept encrypted or "
                "not at all. `openssl rand -base64 32` makes a key",
            )
        missing = (
            "needs `records.encryption_keys`: a conversation's values are kept encrypted. `openssl rand -base64 32` "
            "makes a key"
        )
        if "pseudonyms" in records.model_fields_set and records.pseudonyms != "off" and not records.encryption_keys:
            self._fault(("records", "pseudonyms"), missing)
        for name, model in self._configuration.models.items():
            path: Path = ("models", name, "guardrails", "pseudonyms")
            if model.guardrails.pseudonyms != "conversation":
                continue
            if not records.encryption_keys:
                self._fault(path, f"`conversation` {missing}")
            elif records.pseudonyms == "off":
                self._fault(path, "`conversation` can't be had where `records.pseudonyms` is off")

    def _guarded(self, path: Path, guardrails: Guardrails) -> None:
        sets = self._configuration.guardrails
        for side, rules in (("input", guardrails.input), ("output", guardrails.output)):
            for order, rule in enumerate(rules):
                where: Path = (*path, side, order)
                self._rule(where, rule)
                if not isinstance(rule, NamedSet):
                    continue
                if rule.name not in sets:
                    known = (*sorted(CHECKS), *sorted(sets))
                    message = f"there is no check `{rule.name}`, and no set of that name in `guardrails`"
                    self._fault(where, message, known, nearest(rule.name, known))
                unfit = unfit_for_output if side == "output" else unfit_for_input
                faults = [unfit(one) for one in sets.get(rule.name, ())]
                if fault := next(filter(None, faults), None):
                    self._fault(where, fault)

    def _rule(self, path: Path, rule: AnyRule | Entry) -> None:
        self._asked(path, rule)
        leaves = isinstance(rule, ServerRule) and rule.residency != "on_premises"
        if leaves and self._configuration.residency is not None:
            self._fault(
                (*path, "url"),
                "would be sent what may not leave, as there is a `residency` section: a server on the premises "
                "says `residency: on_premises`",
            )

    def _asked(self, path: Path, section: Section) -> None:
        """Who embeds or judges for this section."""
        for key in ("embeddings", "judge", "target"):
            asked = getattr(section, key, None)
            if asked == "local":
                if self._configuration.retrieval is None:
                    self._fault((*path, key), "`local` needs the `retrieval` section, which runs the embedder")
            elif asked is not None:
                provider, _, model = asked.partition("/")
                self._target((*path, key), TargetEntry(provider=provider, model=model))
                found = self._configuration.providers.get(provider)
                if found is not None and found.switched_off:
                    self._fault((*path, key), f"the provider `{provider}` is switched off: give it an api_key")

    def _model(self, name: str, model: Model) -> None:
        path: Path = ("models", name)
        configuration = self._configuration
        if name.partition("/")[0] in configuration.providers and "/" in name:
            self._fault(path, "hides the plain provider/model of the same name; choose another")
        for order, target in enumerate(model.targets):
            self._target((*path, "targets", order), target)
        for order, target in enumerate(model.fallbacks):
            self._target((*path, "fallbacks", order), target)
        named = [entry for entry in (*model.targets, *model.fallbacks) if entry.provider in configuration.providers]
        if named and all(configuration.providers[entry.provider].switched_off for entry in named):
            self._fault((*path, "targets"), "every provider named here is switched off: give one an api_key")
        kinds = {configuration.providers[entry.provider].kind for entry in named}
        if {"local_embeddings", "extractive"} <= kinds:
            self._fault((*path, "targets"), "one of these makes embeddings, another answers: no request fits both")
        if isinstance(model.strategy, BestOf):
            for key in ("judge", "embedder"):
                helper = getattr(model.strategy, key)
                if helper is not None:
                    self._helper((*path, "strategy", key), helper)
        if model.retrieval is not None:
            for key in ("rewrite", "hyde"):
                if isinstance(asked := getattr(model.retrieval, key), AskedModel):
                    self._helper((*path, "retrieval", key, "model"), asked.model)
        self._prompt((*path, "prompt"), model.prompt)
        for order, entry in enumerate(model.targets):
            self._prompt((*path, "targets", order, "prompt"), entry.prompt)
        if model.summary is not None:
            self._helper((*path, "summary", "model"), model.summary.model)
            if model.prompt is None:
                self._fault((*path, "summary"), "sums up what has no room in a prompt template: name one with `prompt`")
        if model.cache is not None and model.cache.exact.store == "redis" and not configuration.state.shared:
            self._fault(
                (*path, "cache", "exact", "store"),
                "needs `state.url: redis://…`, which names the Redis to keep answers in",
            )
        if model.cache is not None and model.cache.semantic is not None and configuration.retrieval is None:
            self._fault(
                (*path, "cache", "semantic"),
                "needs the top-level `retrieval` section, which has the embedder and the vector store",
            )
        if model.quality is not None:
            self._asked((*path, "quality"), model.quality)
        if model.features is not None and configuration.features is None:
            self._fault((*path, "features"), "needs the top-level `features` section, which names the Feast repository")
        if model.retrieval is not None:
            knowledge = configuration.retrieval
            known = sorted(knowledge.collections) if knowledge else []
            if knowledge is None:
                self._fault((*path, "retrieval"), "needs the top-level `retrieval` section")
            elif model.retrieval.collection not in knowledge.collections:
                wanted = model.retrieval.collection
                where: Path = (*path, "retrieval", "collection")
                self._fault(where, "is not one of retrieval.collections", tuple(known), nearest(wanted, known))
            if knowledge is not None and model.retrieval.rerank and knowledge.rerank is None:
                self._fault((*path, "retrieval", "rerank"), "needs `retrieval.rerank`, which names the server")
            if knowledge is not None and not knowledge.milvus.bm25 and model.retrieval.mode != "dense":
                self._fault((*path, "retrieval", "mode"), "is `dense` where retrieval.milvus.bm25 is false")

    def _prompt(self, path: Path, reference: str | None) -> None:
        """A version that is no file may be in the record store, and so may any label."""
        folder = self._configuration.prompts.folder
        if reference is None or (folder / f"{reference}.yaml").is_file():
            return
        known = sorted(file.stem for file in folder.glob("*@*.yaml")) if folder.is_dir() else []
        message = "is neither in the prompts folder nor in the record store"
        fault = self._document.fault(path, message, allowed=tuple(known), suggestion=nearest(reference, known))
        self._awaited.append((reference, fault))

    def _target(self, path: Path, target: TargetEntry) -> None:
        providers = self._configuration.providers
        provider = providers.get(target.provider)
        where = (*path, "provider") if (*path, "provider") in self._document.marks else path
        if provider is None:
            self._fault(
                where,
                f"there is no provider `{target.provider}`",
                tuple(providers),
                nearest(target.provider, providers),
            )
        elif isinstance(provider, HttpProvider) and not target.model:
            self._fault(path, f"say which model of `{target.provider}`: {target.provider}/MODEL")

    def _helper(self, path: Path, name: str) -> None:
        """A `provider/model` that is asked for help; it has to be there."""
        provider, _, upstream = name.partition("/")
        self._target(path, TargetEntry(provider=provider, model=upstream))
        configured = self._configuration.providers.get(provider)
        if configured is not None and configured.switched_off:
            self._fault(path, "its provider is switched off: give it an api_key, or leave this out")

    def _keys(self) -> None:
        configuration = self._configuration
        names: set[str] = set()
        hashes: set[str] = set()
        for order, key in enumerate(configuration.access.keys):
            path: Path = ("access", "keys", order)
            if key.name in names:
                self._fault((*path, "name"), "is another key's name too")
            if key.hash in hashes:
                self._fault((*path, "hash"), "is another key's hash too")
            names.add(key.name)
            hashes.add(key.hash)
            self._models((*path, "models"), key.models)
            if key.front_end is not None and key.front_end.side_calls is not None:
                self._models((*path, "front_end", "side_calls"), [key.front_end.side_calls])

    def _tokens(self) -> None:
        configuration = self._configuration
        names: set[str] = set()
        issuers: set[str] = set()
        labels = configuration.residency.labels if configuration.residency is not None else None
        for order, issuer in enumerate(configuration.access.tokens):
            path: Path = ("access", "tokens", order)
            if issuer.name in names:
                self._fault((*path, "name"), "is another issuer's name too")
            if issuer.issuer in issuers:
                self._fault((*path, "issuer"), "stands twice: an issuer's tokens are read in one way")
            names.add(issuer.name)
            issuers.add(issuer.issuer)
            self._models((*path, "models"), issuer.models.named if issuer.models is not None else None)
            for label in issuer.sensitivity.named if issuer.sensitivity is not None else []:
                if labels is not None and label not in labels:
                    self._fault((*path, "sensitivity"), f"`{label}` is not one of the `labels`", tuple(labels))

    def _models(self, path: Path, names: list[str] | None) -> None:
        for name in unknown_models(names, self._configuration):
            known = list(self._configuration.models)
            self._fault(path, f"there is no model `{name}`", tuple(known), nearest(name, known))

    def _fault(self, path: Path, message: str, allowed: tuple[str, ...] = (), suggestion: str | None = None) -> None:
        self._faults.append(self._document.fault(path, message, allowed=allowed, suggestion=suggestion))
