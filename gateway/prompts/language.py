"""What a template may be written in: as much of Jinja as always comes to an end.

A text is parsed, held against a list of what is allowed, and rewritten so that each value that it writes passes through
one place, where it is counted and marked with where it came from. Only the template's own text is compiled; a value
never is. https://jinja.palletsprojects.com/en/stable/templates/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.visitor import NodeTransformer

from gateway.prompts.origins import Origin, Origins
from gateway.prompts.sandbox import (
    EACH,
    FILTERS,
    JOINED,
    MADE,
    MOST_CHARACTERS,
    SAID,
    SCALAR,
    Piece,
    RenderingFailed,
    environment,
    gauged,
    piece,
)

_MOST_NODES = 3_000  # of one text
_MOST_OF_ALL = 12_000  # of all texts of a template
_DEEPEST = 40
_MOST_INCLUDED = 100
_MOST_INCLUDED_CHARACTERS = 1_000_000
_STATEMENTS = (nodes.Template, nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.Include)
_EXPRESSIONS = (
    nodes.Add, nodes.And, nodes.Call, nodes.Compare, nodes.Concat, nodes.CondExpr, nodes.Const, nodes.Dict, nodes.Div,
    nodes.Filter, nodes.FloorDiv, nodes.Getattr, nodes.Getitem, nodes.Keyword, nodes.List, nodes.Mod, nodes.Mul,
    nodes.Name, nodes.Neg, nodes.Not, nodes.Operand, nodes.Or, nodes.Pair, nodes.Pos, nodes.Pow, nodes.Slice, nodes.Sub,
    nodes.TemplateData, nodes.Test, nodes.Tuple,
)  # fmt: skip
_ITEMS = (nodes.Const, nodes.TemplateData, nodes.List, nodes.Tuple, nodes.Dict)

_environment = environment()


class Wrong(Exception):
    """A text that is no template. `line` counts from 1, within the text."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class Included:
    """What the texts of one template are made of until now: of small parts, too much can be put together.

    `nodes` and `times` are of one text, `before` counts the nodes of those before it.
    """

    __slots__ = ("before", "characters", "nodes", "times")

    def __init__(self) -> None:
        self.before = self.characters = self.nodes = self.times = 0

    def next_text(self) -> None:
        self.before += self.nodes
        self.nodes = self.times = 0

    def add(self, name: str, source: str, line: int) -> None:
        """Raises Wrong."""
        self.times += 1
        self.characters += len(source)
        if self.times > _MOST_INCLUDED or self.characters > _MOST_INCLUDED_CHARACTERS or self.nodes > _MOST_NODES:
            raise Wrong(f"with the partial `{name}`, too much is included", line)


class Text:
    """One compiled text of a template."""

    __slots__ = ("_template",)

    def __init__(self, template: jinja2.Template) -> None:
        self._template = template

    def pieces(self, values: Mapping[str, Any]) -> list[Piece]:
        """What it says with these values, in order. Raises RenderingFailed."""
        told: list[Piece] = []
        length = 0
        with gauged() as gauge:
            gauge.next_text()
            try:
                for written in self._template.root_render_func(self._template.new_context(dict(values))):
                    length += len(written)
                    if length > MOST_CHARACTERS:
                        raise RenderingFailed(f"it writes more than {MOST_CHARACTERS} characters")
                    told.append(gauge.made(written if isinstance(written, Piece) else piece(written, "template")))
            except RenderingFailed:
                raise
            except Exception as fault:  # a template is a program: whatever it raises with some values is its author's
                raise RenderingFailed(str(fault) or type(fault).__name__) from None
        return told


def compiled(
    source: str, partials: Mapping[str, str], names: Mapping[str, Origin], included: Included | None = None
) -> Text:
    """`partials` are what `{% include "NAME" %}` may name; `names` what there are values of, and whose. `included` is one
    for all texts of a template. Raises Wrong.
    """
    included = included or Included()
    included.next_text()
    try:
        tree = _parsed(source, partials, included, ())
        unknown = meta.find_undeclared_variables(tree) - names.keys() - {"range"}
        if unknown:
            raise Wrong(f"there is nothing called `{min(unknown)}` here; there are {', '.join(sorted(names))}")
        if included.nodes > _MOST_NODES:
            raise Wrong(f"it is made of more than {_MOST_NODES} parts: leave the work to whoever calls")
        if included.before + included.nodes > _MOST_OF_ALL:
            raise Wrong(f"the template is made of more than {_MOST_OF_ALL} parts: leave the work to whoever calls")
        _Rewriting(Origins(tree, names)).visit(tree)
        tree.set_environment(_environment)
        code = _environment.compile(tree)
        return Text(jinja2.Template.from_code(_environment, code, dict(_environment.globals)))
    except jinja2.TemplateSyntaxError as error:
        raise Wrong(error.message or "not a template", error.lineno) from None
    except RecursionError:
        raise Wrong("it is nested too deeply") from None
    except (jinja2.TemplateError, SyntaxError, ValueError, TypeError, OverflowError) as error:
        raise Wrong(str(error)) from None


def compiled_condition(
    source: str, partials: Mapping[str, str], names: Mapping[str, Origin], included: Included | None = None
) -> Text:
    """An expression, as a text that says something where it holds. Raises Wrong."""
    return compiled("{% if (" + source + ") %}1{% endif %}", partials, names, included)


def _parsed(source: str, partials: Mapping[str, str], included: Included, within: tuple[str, ...]) -> nodes.Template:
    """The tree with what it includes in it. Raises Wrong, and what Jinja raises."""
    tree = _environment.parse(source)
    _check(tree, 0)
    included.nodes += sum(1 for _ in tree.find_all(nodes.Node))
    return _Including(partials, included, within).visit(tree)  # type: ignore[no-any-return]  # a tree stays one


def _check(node: nodes.Node, depth: int) -> None:
    line = getattr(node, "lineno", None)
    if depth > _DEEPEST:
        raise Wrong("it is nested too deeply", line)
    if not isinstance(node, (*_STATEMENTS, *_EXPRESSIONS)):
        raise Wrong(f"`{type(node).__name__.lower()}` has no place in a prompt template", line)
    if isinstance(node, nodes.For) and node.recursive:
        raise Wrong("a loop can't call itself here", line)
    if isinstance(node, nodes.Assign) and not isinstance(node.target, nodes.Name):
        raise Wrong("`set` gives one name a value", line)
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise Wrong(f"there is no filter `{node.name}` here; there are {', '.join(sorted(FILTERS))}", line)
    if isinstance(node, (nodes.Call, nodes.Filter, nodes.Test)) and (node.dyn_args or node.dyn_kwargs):
        raise Wrong("arguments are written one by one", line)
    for child in node.iter_child_nodes():
        _check(child, depth + 1)


class _Including(NodeTransformer):
    """Puts each partial's tree where it is included, so that what was compiled needs nothing more."""

    def __init__(self, partials: Mapping[str, str], included: Included, within: tuple[str, ...]) -> None:
        self._partials = partials
        self._included = included
        self._within = within

    def visit_Include(self, node: nodes.Include) -> list[nodes.Node]:
        name = node.template.value if isinstance(node.template, nodes.Const) else None
        if not isinstance(name, str):
            raise Wrong('`include` names a partial, as in {% include "tone" %}', node.lineno)
        if name not in self._partials:
            known = ", ".join(sorted(self._partials)) or "none"
            raise Wrong(f"there is no partial `{name}`; there are: {known}", node.lineno)
        if name in self._within:
            raise Wrong(f"the partial `{name}` includes itself", node.lineno)
        self._included.add(name, self._partials[name], node.lineno)
        try:
            return _parsed(self._partials[name], self._partials, self._included, (*self._within, name)).body
        except jinja2.TemplateSyntaxError as error:
            raise Wrong(f"in the partial `{name}`, line {error.lineno}: {error.message}", node.lineno) from None
        except Wrong as fault:
            raise Wrong(f"in the partial `{name}`, line {fault.line}: {fault}", node.lineno) from None


class _Rewriting(NodeTransformer):
    """Puts the sandbox's counting filters around what is written, gone through, joined and put into literals."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        told: list[nodes.Expr] = []
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                told.append(child)
                continue
            origin = self._origins.of(child)  # before it is rewritten
            told.append(_filtered(self.visit(child), SAID, nodes.Const(origin)))
        node.nodes = told
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, EACH)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), JOINED)

    def visit_List(self, node: nodes.List | nodes.Tuple) -> nodes.List | nodes.Tuple:
        self.generic_visit(node)
        if not isinstance(node, nodes.Tuple) or node.ctx == "load":
            node.items = [item if isinstance(item, _ITEMS) else _filtered(item, SCALAR) for item in node.items]
        return node

    visit_Tuple = visit_List

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _filtered(node, MADE) if isinstance(node.arg, nodes.Slice) else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Filter:
        self.generic_visit(node)
        return _filtered(node, MADE)

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        self.generic_visit(node)
        if not isinstance(node.value, _ITEMS):
            node.value = _filtered(node.value, SCALAR)
        return node


def _filtered(node: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
