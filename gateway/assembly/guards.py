"""Guardrails of models and keys: rules as configured, to policies and the stages that hold them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from gateway.assembly.sealing import seal_of
from gateway.config.access import SetsOfRules
from gateway.config.guardrails import NamedSet, SchemaRule, TextRule
from gateway.errors import StageFailed

if TYPE_CHECKING:
    from gateway.assembly.routes import Routes
    from gateway.assembly.services import Services
    from gateway.config.guardrails import AnyRule, Entry, Road
    from gateway.config.models import Configuration
    from gateway.pipeline import Pipeline
    from gateway.records.database import Database
    from gateway.stages.conversations import ConversationPseudonyms
    from gateway.stages.guarding import InputGuard, OutputGuard
    from gateway.stages.moderating import LocalModeration
    from guardrails import rules as made
    from guardrails.outside import Complete, Embed, Outside
    from guardrails.policy import Policy
    from guardrails.text_checks import TextCheck as Judging

log = logging.getLogger(__name__)

Side = Literal["input", "output"]
_KEPT = 1_000  # tightened pipelines kept; more are made for their call only

# Where a check looks on the way in, unless its rule says otherwise.
_EVERYWHERE: tuple[Road, ...] = ("input", "instructions", "passages", "tools")
_ROADS: dict[str, tuple[Road, ...]] = {
    # Instructions are what a system message is for; only where others may write do they betray an attack.
    "injection": ("input", "passages", "tools"),
    "exfiltration": ("passages", "tools"),
    "topics": ("input",),
    "language": ("input",),
    "length": ("input",),
    "moderation": ("input",),
    "guard_model": ("input",),
    "tools": ("tools",),
}
# What is about the answer itself, and not about what a model says beside it.
_CONTENT = frozenset({"schema", "citations", "length", "groundedness", "topics", "language"})
# What judges the same text otherwise, depending on what stands around it.
_SURROUNDED = frozenset(
    {"exfiltration", "groundedness", "citations", "leaked_instructions", "tools", "python", "webhook"}
)
_REPAIR = "Your answer does not have the form that was asked for. Answer again, with nothing but one JSON value"


class Guards:
    """Policies of one configuration."""

    def __init__(self, configuration: Configuration, routes: Routes, services: Services) -> None:
        self._configuration = configuration
        self._routes = routes
        self._services = services
        self._of_keys: dict[str, tuple[Policy | None, Policy | None]] = {}
        self._conversations = _conversations(configuration, services.database)

    def policy(self, entries: Sequence[Entry], side: Side, budget: float) -> Policy | None:
        """None where there are no rules. Raises ValueError."""
        if not entries:
            return None
        from guardrails.assembly import build_check
        from guardrails.judging import Judges
        from guardrails.policy import Policy, Rule
        from guardrails.text_checks import TextCheck

        runs, judges = [], []
        for rule in self._flat(entries):
            check = build_check(rule.check, self._given(rule), self._outside())
            took = self._services.check_times.of(check.name, side)
            if isinstance(check, TextCheck):
                judges.append(replace(_text_rule(rule, check, side), took=took))
                continue
            runs.append(
                Rule(
                    check,
                    rule.action or check.default_action,
                    monitor=rule.monitor,
                    sample=rule.sample,
                    threshold=rule.threshold or 0.0,
                    message=rule.message,
                    took=took,
                )
            )
        return Policy(runs, Judges(judges, budget) if judges else None)

    def moderation(self, name: str) -> LocalModeration | None:
        """The named set, for `/v1/moderations`; None where there is none of that name."""
        if name not in self._configuration.guardrails:
            return None
        from gateway.stages.moderating import LocalModeration

        rules = self._configuration.guardrails[name]
        return LocalModeration(name, lambda: self.policy(rules, "input", 5.0))

    def input_guard(self, policy: Policy | None, model: str) -> InputGuard | None:
        """The stage of a public model; None where there are no rules."""
        if policy is None:
            return None
        from gateway.stages.guarding import InputGuard

        configured = self._configuration.models.get(model)
        each_call = configured is not None and configured.guardrails.pseudonyms == "call"
        keep_blocked = self._configuration.records.blocked == "on"
        return InputGuard(policy, None if each_call else self._conversations, keep_blocked=keep_blocked)

    def tightener(self) -> Callable[[Pipeline, str], Pipeline]:
        """What adds a key's rules to a pipeline.

        Rules of configured keys are made now, sets that a stored key names by `prepare`, or when it first calls. It
        raises StageFailed where this configuration has no such set: nothing goes out unguarded.
        """
        for key in self._configuration.access.keys:
            if key.guardrails is not None and key.guardrails.digest:
                self._of_keys[key.guardrails.digest] = (
                    self.policy(key.guardrails.input, "input", 5.0),
                    self.policy(key.guardrails.output, "output", 5.0),
                )
        known: dict[tuple[str, str], Pipeline] = {}

        def tightened(pipeline: Pipeline, name: str) -> Pipeline:
            made = known.get((pipeline.model, name))
            if made is None:
                self.prepare(name)
                made = _tightened(pipeline, self._of_keys[name], partial(self.input_guard, model=pipeline.model))
                if len(known) < _KEPT:
                    known[pipeline.model, name] = made
            return made

        return tightened

    def prepare(self, name: str) -> None:
        """Have ready what a key adds, as `Caller.guardrails` names it. May import libraries. Raises StageFailed."""
        if name not in self._of_keys:
            self._of_keys[name] = self._of_sets(name)

    def _of_sets(self, digest: str) -> tuple[Policy | None, Policy | None]:
        """The sets that a stored key adds. Raises StageFailed."""
        sets = SetsOfRules.read(digest)
        missing = [name for name in (*sets.input, *sets.output) if name not in self._configuration.guardrails]
        if missing or not (sets.input or sets.output):
            log.error("a key has guardrails that the configuration does not have: %s", ", ".join(missing) or digest)
            raise StageFailed("This key's guardrails are not configured on this gateway.")
        before, after = ([NamedSet(check="set", name=name) for name in side] for side in (sets.input, sets.output))
        return self.policy(before, "input", 5.0), self.policy(after, "output", 5.0)

    def _flat(self, entries: Sequence[Entry]) -> list[AnyRule]:
        rules: list[AnyRule] = []
        for entry in entries:
            rules += self._configuration.guardrails[entry.name] if isinstance(entry, NamedSet) else [entry]
        return rules

    def _given(self, rule: AnyRule) -> dict[str, object]:
        given = rule.given
        for name in ("lists", "allowed", "denied"):
            if name in given:
                given[name] = [
                    one if isinstance(one, str) else one.model_dump(exclude_none=True) for one in given[name]
                ]
        if given.get("unit") == "tokens":
            from gateway.prompts.tokens import TokenCounter

            given |= {"count_tokens": TokenCounter().count, "tokenizer": "gateway"}
        return given

    def _outside(self) -> Outside:
        from guardrails.outside import Outside

        return Outside(self.embed, self.complete, self._services.guard_posts.post)

    def complete(self, target: str) -> Complete:
        """Asks the chat model `provider/model`, for the call that is judged then."""
        from gateway.routing.beside import told
        from gateway.stages.guard_calls import completes

        provider, _, model = target.partition("/")
        return completes(partial(told, self._routes.plain(provider, model)), model)

    def embed(self, target: str) -> Embed:
        """Asks the embedder `provider/model`, or `local`."""
        from gateway.stages.guard_calls import embeds, embeds_here

        if target == "local":
            knowledge = self._services.knowledge
            assert knowledge is not None, "the configuration's references were checked"
            return embeds_here(lambda texts: knowledge.opened.embedder.embed(texts, kind="query"))
        provider, _, model = target.partition("/")
        return embeds(self._routes.plain(provider, model).call, model)


def output_guard(policy: Policy | None) -> OutputGuard | None:
    if policy is None:
        return None
    from gateway.stages.guarding import OutputGuard

    return OutputGuard(policy)


def _conversations(configuration: Configuration, database: Database) -> ConversationPseudonyms | None:
    seal, keep = seal_of(configuration), configuration.records.pseudonyms
    if seal is None or keep == "off":
        return None
    from gateway.records.pseudonyms import PseudonymStore
    from gateway.stages.conversations import ConversationPseudonyms

    return ConversationPseudonyms(PseudonymStore(database, seal, keep))


def _text_rule(rule: AnyRule, check: Judging, side: Side) -> made.TextRule:
    from guardrails import rules as made

    assert isinstance(rule, TextRule)
    name = str(rule.check)
    action = rule.action or check.default_action
    if action == "mask" and not rule.strict:
        raise ValueError(f"`{rule.check}` masks, which what has left can't be: `strict: false` goes with block or flag")
    if side == "input":
        looks = frozenset(rule.roads or _ROADS.get(name, _EVERYWHERE))
        roads: frozenset[made.Road] = frozenset(road for road in looks if road != "instructions")
    elif name == "tools":
        roads = frozenset(("tools",))
    else:
        roads = frozenset(("output",) if name in _CONTENT else ("output", "tools"))
    repair = _repair(rule) if isinstance(rule, SchemaRule) and rule.repair else None
    return made.TextRule(
        check,
        action,
        closed=rule.on_failure == "refuse" if rule.on_failure else action != "flag",
        strict=bool(rule.strict),
        whole=rule.strict == "whole",
        roads=roads,
        content_only=name in _CONTENT,
        instructions=side == "input" and "instructions" in looks,
        by_tool=name == "tools",
        alone=name not in _SURROUNDED,
        every=rule.every,
        window=rule.window,
        repair=repair,
        monitor=rule.monitor,
        sample=rule.sample,
        threshold=rule.threshold or 0.0,
        message=rule.message,
    )


def _repair(rule: SchemaRule) -> str:
    if rule.schema_ is None:
        return _REPAIR + "."
    return f"{_REPAIR} that fits this JSON Schema: {json.dumps(rule.schema_, ensure_ascii=False)}"


def _tightened(
    pipeline: Pipeline,
    policies: tuple[Policy | None, Policy | None],
    input_guard: Callable[[Policy | None], InputGuard | None],
) -> Pipeline:
    """`pipeline` with a key's rules beside its own; in each of its arms too."""
    more_in, more_out = policies
    guard_in, guard_out = pipeline.input_guard, pipeline.output_guard
    policy_in, policy_out = (
        _both(guard_in.policy if guard_in else None, more_in),
        _both(guard_out.policy if guard_out else None, more_out),
    )
    scope = " ".join(policy.version for policy in policies if policy is not None)
    return replace(
        pipeline,
        input_guard=input_guard(policy_in),
        output_guard=output_guard(policy_out),
        cache=pipeline.cache.narrowed(scope) if pipeline.cache is not None else None,
        arms=pipeline.arms.mapped(lambda arm: _tightened(arm, policies, input_guard))
        if pipeline.arms is not None
        else None,
    )


def _both(one: Policy | None, other: Policy | None) -> Policy | None:
    return one.with_rules_of(other) if one is not None and other is not None else one or other
