"""The template language: what is in it, what is not, and that nothing written in it hangs or grows."""

from __future__ import annotations

import time

import pytest

from gateway.prompts.language import Wrong, compiled, compiled_condition
from gateway.prompts.sandbox import MOST_CHARACTERS, RenderingFailed, gauged
from gateway.values import Origin

NAMES: dict[str, Origin] = {
    "user": "feature", "passages": "passage", "question": "conversation", "items": "input", "passage_count": "template",
}  # fmt: skip
VALUES = {"user": {"plan": "free", "items": "x"}, "passages": "P", "question": "{{ 7*7 }}", "items": ["a", "b"]}


def said(source: str, partials: dict[str, str] | None = None, **values: object) -> list[tuple[str, Origin]]:
    pieces = compiled(source, partials or {}, NAMES).pieces({**VALUES, "passage_count": 1, **values})
    return [(str.__str__(piece), piece.origin) for piece in pieces]


def text(source: str, **values: object) -> str:
    return "".join(piece for piece, _ in said(source, **values))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ user.plan }}{{ user.items }}{{ user.get('nope', 'd') }}", "freexd"),
        ("{% for i in items %}{{ loop.index }}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}", "1a,2b"),
        ("{% for i in items if i != 'a' %}{{ i }}{% else %}none{% endfor %}", "b"),
        ("{% set n = items | length %}{{ n + 1 }}{{ 'x' ~ n }}", "3x2"),
        ("{{ items | join('-') | upper }}{{ items | tojson }}", 'A-B["a", "b"]'),
        ("{{ 'yes' if user.plan == 'free' else 'no' }}{{ none }}{{ true }}", "yesTrue"),
        ("{% raw %}{{ user }}{% endraw %}{# nothing #}", "{{ user }}"),
        ("{{ 'a\nb' | indent(2) }}{{ 'aXb' | replace('X', '-') }}", "a\n  ba-b"),
        ("{{ user.nope | default('d') }}{{ user.plan | length }}", "d4"),
    ],
)
def test_what_templates_are_written_in(source: str, expected: str) -> None:
    assert text(source) == expected


def test_values_are_never_code_and_keep_their_origin() -> None:
    assert said("Hi {{ question }}{{ question | upper }}{% for i in items %}{{ i ~ user.plan }}{% endfor %}!") == [
        ("Hi ", "template"),
        ("{{ 7*7 }}", "conversation"),
        ("{{ 7*7 }}", "conversation"),
        ("afree", "input"),
        ("bfree", "input"),
        ("!", "template"),
    ]


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        ("{{ 'a' if question else 'b' }}", "template"),
        ("{{ question | length }}", "template"),
        ("{{ {'free': 'x'}.get(user.plan, 'y') }}", "feature"),
        ("{% set x = question %}{{ x }}", "conversation"),
        ("{% set x = 'a' %}{% if items %}{% set x = passages %}{% endif %}{{ x }}", "passage"),
        ("{% for x in items %}{% set y = x %}{{ y }}{% endfor %}", "input"),
        ("{{ [question, user.plan] | join }}", "conversation"),
        ("{{ user.plan ~ passages }}", "passage"),
        ("{{ passages[:1] }}", "passage"),
        ("{{ items | map('said of', 'template') | join }}", "input"),
        ("{{ passage_count }}", "template"),
    ],
)
def test_the_least_trusted_of_what_is_read_decides(source: str, origin: Origin) -> None:
    assert {found for _, found in said(source)} == {origin}


def test_partials_are_part_of_what_includes_them() -> None:
    partials = {"tone": "Be {{ user.plan }}{% include 'end' %}", "end": "!"}
    assert said("{% include 'tone' %}", partials) == [("Be ", "template"), ("free", "feature"), ("!", "template")]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{% macro x() %}{% endmacro %}", "`macro` has no place"),
        ("{% extends 'x' %}", "`extends`"),
        ("{% import 'x' as y %}", "`import`"),
        ("{% call x() %}{% endcall %}", "`callblock`"),
        ("{% set x %}a{% endset %}", "`assignblock`"),
        ("{% filter upper %}a{% endfilter %}", "`filterblock`"),
        ("{% for x in items recursive %}{% endfor %}", "can't call itself"),
        ("{% include user.plan %}", "names a partial"),
        ("{% include 'nope' %}", "there is no partial `nope`"),
        ("{% include 'me' %}", "includes itself"),
        ("{{ 'a' | center(9) }}", "there is no filter `center`"),
        ("{{ 'a' | attr('upper') }}", "there is no filter `attr`"),
        ("{{ nope }}", "there is nothing called `nope`"),
        ("{{ lipsum() }}", "there is nothing called `lipsum`"),
        ("{{ loop.index }}", "there is nothing called `loop`"),
        ("{{ cycler }}", "nothing called `cycler`"),
        ("{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}", "nested too deeply"),
        ("{{ " + "[" * 60 + "]" * 60 + " }}", "nested too deeply"),
        ("{{ items }}" * 3_000, "made of more than"),
        ("{% if %}", "Expected an expression"),
        ("a\nb\n{{ user.plan", "unexpected end"),
    ],
)
def test_what_is_no_template_is_told_at_once(source: str, fault: str) -> None:
    with pytest.raises(Wrong, match=fault):
        compiled(source, {"me": "{% include 'me' %}"}, NAMES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ question['__class__'] }}",
        "{{ (items | first).__init__ }}",
        "{{ question.format(1) }}",
        "{{ question.encode() }}",
        "{{ items.append(1) }}",
        "{{ user.update({'a': 1}) }}",
        "{{ range.__globals__ }}",
        "{% for x in items %}{{ loop.__class__ }}{% endfor %}",
        "{{ self }}",
        "{{ items }}",
        "{{ user }}",
        "{{ items | map(attribute='__class__') | list | tojson }}",
    ],
)
def test_python_is_out_of_reach(source: str) -> None:
    with pytest.raises((RenderingFailed, Wrong)):
        said(source)


BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ 'a' * 1000000000 }}",
    "{{ [1] * 1000000000 }}",
    "{{ 9**9**9**9 }}",
    "{{ 9999999999 * 99999999999999999999 }}",
    "{{ '%99999999d' % 1 }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ 'a'.center(1000000000) }}",
    "{{ 'a'.zfill(1000000000) }}",
    "{{ range(100000) | list | length }}",
    "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x | length }}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x + x %}" * 40 + "{{ x | length }}",
    "{% set x = [1, 2] %}" + "{% set x = x + x %}" * 40 + "{{ x | length }}",
    "{% set x = [1, 2] %}" + "{% set x = [x, x] %}" * 40 + "{{ x | tojson }}",
    "{% set x = [1] %}" + "{% set x = {'a': x, 'b': x} %}" * 40 + "{{ x == x }}",
    "{{ range(1000) | map('default') | join(question) }}",
    "{{ question | replace('x', question) }}",
    "{% for i in range(900) %}{{ question }}{% endfor %}",
    "{% for a in range(900) %}{{ question | sort | sort | sort | join }}{% endfor %}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_a_template_can_neither_hang_nor_grow(source: str) -> None:
    began = time.thread_time()
    with pytest.raises((RenderingFailed, Wrong)):
        said(source, question="x" * 60_000)
    assert time.thread_time() - began < 20  # without its bounds each of them would take minutes, or all memory


_LONG = "{% set a = 'x,' %}" + "{% set a = a + a %}" * 18  # half a million characters


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 | round(999999999, 'ceil') }}",  # 10 to the power of that
        "{{ 7 | round(-999999999) }}",
        "{{ range(3) | map('round', 999999999, 'floor') | list }}",
        _LONG + "{% set b = a | replace(',', 'f') | replace('x', 'f') | int(base=16) %}{{ b // (b // 3) }}",
        _LONG + "".join(f"{{% set l{n} = a.split(',') %}}" for n in range(100)),
        _LONG + "".join(f"{{% set l{n} = a | list %}}" for n in range(100)),
        _LONG + "".join(f"{{% set l{n} = a[{n}:] %}}" for n in range(100)),
        _LONG + "{% set l = range(1000) | map('string') | list %}",
        _LONG + "{% set l = range(1000) | map('tojson') | map('replace', '1', a) | list %}",
        _LONG + "".join(f"{{% set l{n} = a | title | upper | lower %}}" for n in range(100)),
        _LONG + "{{ a | list | map('list') | sum(start=[]) | length }}",
        _LONG + "{{ range(1000) | map('default', a) | select('in', a) | list | length }}" * 100,
    ],
    ids=lambda source: str(source)[-60:],
)
def test_what_is_made_on_the_way_is_bounded_too(source: str) -> None:
    before = time.thread_time()
    with pytest.raises((RenderingFailed, Wrong)):
        text(source)
    assert time.thread_time() - before < 5


def test_the_texts_of_a_template_share_what_they_may_use() -> None:
    heavy = compiled(_LONG + "{{ a | length }}", {}, NAMES)
    with pytest.raises(RenderingFailed, match="makes on its way"), gauged():
        for _ in range(30):
            heavy.pieces(VALUES)
    with pytest.raises(Wrong, match="too much is included"):
        compiled("{% include 'p' %}" * 90, {"p": "x" * 20_000}, NAMES)


def test_what_is_written_is_bounded() -> None:
    assert len(text("{{ question }}", question="x" * MOST_CHARACTERS)) == MOST_CHARACTERS
    with pytest.raises(RenderingFailed, match="more than"):
        text("a{{ question }}", question="x" * MOST_CHARACTERS)


def test_a_condition_says_something_where_it_holds() -> None:
    condition = compiled_condition("user.plan == 'free' and passages", {}, NAMES)
    assert condition.pieces({**VALUES, "passage_count": 1})
    assert not condition.pieces({**VALUES, "passages": "", "passage_count": 0})
