"""A configuration to a revision: every public model compiled to just the stages that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.access.browsers import Browsers
from gateway.access.keyring import Keyring
from gateway.assembly.caching import answer_cache, scope_of
from gateway.assembly.features import feature_stage
from gateway.assembly.guards import Guards, output_guard
from gateway.assembly.limits import gate_of, limits_of
from gateway.assembly.prompts import TemplateTokens, check_templates, prompt_stage, shelf_of
from gateway.assembly.routes import Routes
from gateway.assembly.services import Services
from gateway.config.models import AskedModel, Configuration, Model
from gateway.pipeline import Pipeline
from gateway.revision import Revision
from gateway.stages.choosing import PromptChoice

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.knowledge_service import KnowledgeService
    from gateway.prompts.shelf import Shelf
    from gateway.routing.dispatch import Calls
    from gateway.routing.fleet import Fleet
    from gateway.stages.file_search import FileSearchStage
    from gateway.stages.preparation import RetrievalStage
    from gateway.stages.rendering import PromptStage

_PLAIN_NAMES = 1_000  # `provider/model` pipelines kept; names beyond are compiled for their call only


def compile_revision(loaded: Loaded, services: Services, fleet: Fleet, *, loopback: bool) -> Revision:
    """Everything that calls need, from a valid configuration. Raises TemplateFault or ValueError.

    Open mode is for a gateway that only this machine can reach and that has no key yet: with the first key it ends.
    """
    configuration = loaded.configuration
    access = configuration.access
    open_mode = loopback and access.open_on_loopback and not access.keys and not access.tokens
    shelf = shelf_of(configuration, services.prompts)
    tokens = TemplateTokens(configuration, shelf)
    limits = limits_of(configuration, services.counting, fleet.prices, tokens) if services.counting else None
    if services.prompts.synced:  # at the start it is not yet: the server looks once the record store is read
        check_templates(loaded, shelf)
    routes = Routes(configuration, fleet, services.knowledge, gate_of(limits))
    guards = Guards(configuration, routes, services)
    compiler = _Compiler(configuration, services, routes, guards, shelf, _file_search(services))
    user_header = access.user_header
    return Revision(
        name=loaded.revision,
        configuration=configuration,
        keyring=Keyring(
            access,
            open=open_mode,
            stored=services.keys,
            prepare=guards.prepare,
            tokens=services.token_issuers.verifier(access.tokens),
        ),
        pipelines={name: compiler.pipeline(name, model) for name, model in configuration.models.items()},
        plain=_plain(
            routes, compiler.file_search, guards, PromptChoice(shelf), configuration.telemetry.traces.content_of
        ),
        user_header=user_header.lower().encode("ascii") if user_header else None,
        tightened=guards.tightener(),
        limits=limits,
        shelf=shelf,
        browsers=Browsers.of(configuration.cors.origins, access.open_hosts, configuration.cors.max_age),
    )


@dataclass(frozen=True, slots=True)
class _Compiler:
    """A model's entry to its pipeline; what all models share is here."""

    configuration: Configuration
    services: Services
    routes: Routes
    guards: Guards
    shelf: Shelf
    file_search: FileSearchStage | None

    def pipeline(self, name: str, model: Model) -> Pipeline:
        routes = self.routes
        if not model.has_arms:
            return self._journey(name, model, routes.calls(name, model))
        branches = {}
        for entry in routes.switched_on(model):
            # The arm's own settings in place of the model's: what differs shapes its cache's scope too.
            arm = model.model_copy(update={"targets": [entry], "prompt": entry.prompt or model.prompt})
            branches[entry.arm_name] = self._journey(name, arm, routes.arm(name, model, entry))
        first = next(iter(branches.values()))
        endpoints = frozenset.intersection(*(branch.endpoints for branch in branches.values()))
        return replace(first, endpoints=endpoints, arms=routes.arms(name, model, branches))

    def _journey(self, name: str, model: Model, targets: Calls) -> Pipeline:
        """The stages of one public model, or of one of its arms."""
        guards, services = self.guards, self.services
        prompt = prompt_stage(model, self.shelf, self.routes)
        asked = model.guardrails
        input_policy = guards.policy(asked.input, "input", asked.budget)
        output_policy = guards.policy(asked.output, "output", asked.budget)
        record = self.configuration.records.content == "on" if model.record_content is None else model.record_content
        shaped_by = [prompt.fixed.content_hash if prompt is not None and prompt.fixed is not None else ""]
        shaped_by += [policy.version if policy is not None else "" for policy in (input_policy, output_policy)]
        scope = scope_of(self.configuration, name, model, shaped_by)
        prepares = prompt is not None or input_policy is not None
        return Pipeline(
            model=name,
            endpoints=self.routes.endpoints(model),
            targets=targets,
            features=feature_stage(self.configuration, model, services.features),
            retrieval=_retrieval_stage(model, prompt, services.knowledge, self.routes),
            file_search=self.file_search,
            input_guard=guards.input_guard(input_policy, name),
            prompt=prompt,
            choice=PromptChoice(self.shelf, model.prompt),
            cache=answer_cache(name, model, scope, services),
            output_guard=output_guard(output_policy),
            quality=services.quality.watch(model.quality, guards) if model.quality is not None else None,
            record_content=record,
            keep_content=record or name in self.configuration.telemetry.traces.content_of,
            # Not where an answer may come from elsewhere: from what is kept, or from another arm.
            room=self.routes.room(model) if prepares and model.cache is None and not model.has_arms else None,
        )


def _retrieval_stage(
    model: Model, prompt: PromptStage | None, knowledge: KnowledgeService | None, routes: Routes
) -> RetrievalStage | None:
    if model.retrieval is None or knowledge is None or prompt is None:
        return None
    from gateway.stages.preparation import RetrievalStage
    from retrieval.questions import Freshness, SearchSettings

    asked = model.retrieval
    fresh = asked.freshness
    settings = SearchSettings(
        asked.mode, asked.fusion, asked.dense_weight, asked.candidates, asked.near_duplicates, asked.diversity,
        asked.neighbours, asked.rerank, asked.rerank_budget,
        Freshness(fresh.attribute, fresh.half_life, fresh.weight) if fresh is not None else None,
    )  # fmt: skip
    return RetrievalStage(
        knowledge,
        asked.collection,
        asked.top_k,
        asked.min_score,
        asked.budget,
        asked.on_failure,
        settings,
        asked.rewrite != "off",
        routes.helper(asked.rewrite, "rewrite") if isinstance(asked.rewrite, AskedModel) else None,
        routes.helper(asked.hyde, "hyde") if asked.hyde is not None else None,
        asked.multi_query,
        knowledge.keywords,
    )


def _file_search(services: Services) -> FileSearchStage | None:
    """For every model, where there are vector stores."""
    if services.vector_stores is None:
        return None
    from gateway.prompts.library import built_in
    from gateway.stages.file_search import FileSearchStage
    from gateway.stages.rendering import PromptStage

    return FileSearchStage(services.vector_stores, PromptStage(built_in("file_search@1")))


def _plain(
    routes: Routes,
    file_search: FileSearchStage | None,
    guards: Guards,
    choice: PromptChoice,
    content_of: frozenset[str],
) -> Callable[[str], Pipeline | None]:
    """Pipelines for `provider/model` names: a plain proxy, compiled when first asked for; and for named guardrails."""
    known: dict[str, Pipeline] = {}

    def plain(name: str) -> Pipeline | None:
        pipeline = known.get(name)
        if pipeline is None:
            provider, slash, model = name.partition("/")
            line = routes.lines.get(provider)
            if line is None and provider == "guardrails" and (moderation := guards.moderation(model)) is not None:
                known[name] = Pipeline(name, frozenset({"moderations"}), moderation)
                return known[name]
            if line is None or not slash or not model:
                return None
            pipeline = Pipeline(
                name,
                line.provider.endpoints,
                routes.plain(provider, model),
                file_search=file_search,
                choice=choice,
                keep_content=name in content_of,
            )
            if len(known) < _PLAIN_NAMES:
                known[name] = pipeline
        return pipeline

    return plain
