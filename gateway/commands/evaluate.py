"""`rag-gateway eval`: everything of this gateway whose quality can be measured."""

from __future__ import annotations

import click

from gateway.commands.lazily import LazyGroup

_COMMANDS = {
    "answers": "gateway.commands.evaluate_answers:answers",
    "cache": "gateway.commands.evaluate_cache:cache",
    "guardrails": "gateway.commands.evaluate_guardrails:guardrails",
    "retrieval": "gateway.commands.evaluate_retrieval:retrieval",
}


@click.group("eval", cls=LazyGroup, lazy=_COMMANDS)
def evaluate() -> None:
    """Measure quality on questions whose answers are known."""
