"""Whose words a piece of a prompt is made of, found out before anything is rendered.

A value's origin follows from the names that its expression reads, the least trusted one deciding; what loops and `set`
hand on is followed. So `{{ question | upper }}` is as much the user's as `{{ question }}`.
"""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import nodes

from gateway.values import Origin

__all__ = ["Origin", "Origins"]

_TRUST: tuple[Origin, ...] = ("template", "feature", "input", "conversation", "passage")  # the most trusted first
_NUMBERS = frozenset({"count", "length", "wordcount"})  # filters that tell nothing of the words themselves
_OF_A_LOOP = frozenset({"previtem", "nextitem"})


class Origins:
    """The origins of one text's expressions."""

    def __init__(self, tree: nodes.Template, known: Mapping[str, Origin]) -> None:
        """`known`: of the names that a rendering has values of."""
        self._known: dict[str, Origin] = dict(known)
        bindings: list[tuple[str, nodes.Node]] = []
        for loop in tree.find_all(nodes.For):
            bindings += [(name.name, loop.iter) for name in loop.target.find_all(nodes.Name)]
            if isinstance(loop.target, nodes.Name):
                bindings.append((loop.target.name, loop.iter))
            bindings.append(("loop", loop.iter))
        for assigned in tree.find_all(nodes.Assign):
            if isinstance(assigned.target, nodes.Name):
                bindings.append((assigned.target.name, assigned.node))
        changed = True
        while changed:  # a name may be bound in several places, and through others: until nothing grows any more
            changed = False
            for name, bound in bindings:
                before = self._known.get(name, "template")
                after = _least(before, self.of(bound))
                if after != before:
                    self._known[name] = after
                    changed = True

    def of(self, expression: nodes.Node) -> Origin:
        match expression:
            case nodes.Name():
                return self._known.get(expression.name, "template")
            case nodes.CondExpr():
                other = expression.expr2
                return _least(self.of(expression.expr1), self.of(other) if other is not None else "template")
            case nodes.Compare() | nodes.Test() | nodes.Not():
                return "template"
            case nodes.Filter() if expression.name in _NUMBERS:
                return "template"
            case nodes.Getattr(node=nodes.Name(name="loop"), attr=attribute) if attribute not in _OF_A_LOOP:
                return "template"
            case _:
                return _least(*(self.of(child) for child in expression.iter_child_nodes()))


def _least(*origins: Origin) -> Origin:
    """The least trusted of them; what is made of nothing is the template's own."""
    return max(origins, key=_TRUST.index, default="template")
