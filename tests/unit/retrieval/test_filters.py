"""OpenAI's filters to Milvus' expressions: what is compared, what is refused and where, and that nothing gets through."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.access import NotReadable, Reader, audience, readable
from retrieval.filters import BadFilter, attribute_tokens, clause, part_clause


def eq(key: str, value: Any) -> dict[str, Any]:
    return {"type": "eq", "key": key, "value": value}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({}, "type"),
        ({"type": "like", "key": "a", "value": "b"}, "type"),
        ({"type": "eq", "key": "a"}, "value"),
        ({"type": "eq", "key": "", "value": 1}, "key"),
        ({"type": "eq", "key": "k" * 65, "value": 1}, "key"),
        ({"type": "eq", "key": 3, "value": 1}, "key"),
        ({"type": "eq", "key": "a", "value": None}, "value"),
        ({"type": "eq", "key": "a", "value": {"b": 1}}, "value"),
        ({"type": "eq", "key": "a", "value": "v" * 513}, "value"),
        ({"type": "eq", "key": "a", "value": 1, "tenant": "b"}, "tenant"),
        ({"type": "in", "key": "a", "value": "b"}, "value"),
        ({"type": "in", "key": "a", "value": []}, "value"),
        ({"type": "gt", "key": "a", "value": "1 or true"}, "value"),
        ({"type": "gt", "key": "a", "value": True}, "value"),
        ({"type": "gt", "key": "a", "value": float("nan")}, "value"),
        ({"type": "and", "filters": []}, "filters"),
        ({"type": "and", "filters": [eq("a", 1), {"type": "x"}]}, "filters[1].type"),
        ({"type": "or", "filters": [{"type": "and", "filters": ["x"]}]}, "filters[0].filters[0]"),
        ({"type": "in", "key": "a", "value": list(range(101))}, ""),
    ],
)
def test_a_refusal_says_where(given: Any, where: str) -> None:
    with pytest.raises(BadFilter) as refused:
        clause(given)

    assert refused.value.where == where


def test_filters_are_not_nested_without_end() -> None:
    deep: dict[str, Any] = eq("a", 1)
    for _ in range(6):
        deep = {"type": "and", "filters": [deep]}
    with pytest.raises(BadFilter, match="nested at most 5"):
        clause(deep)


def test_numbers_that_are_equal_are_one_and_true_is_none_of_them() -> None:
    assert clause(eq("a", 3)) == clause(eq("a", 3.0))
    assert clause(eq("a", 1)) != clause(eq("a", True)) != clause(eq("a", "True"))


VALUES = st.one_of(st.text(max_size=30), st.booleans(), st.integers(-(10**12), 10**12), st.floats(allow_nan=False))


@given(st.text(min_size=1, max_size=20), VALUES)
def test_an_equality_puts_nothing_of_the_caller_into_the_expression(key: str, value: Any) -> None:
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return
    for kind in ("eq", "ne"):
        made = clause({"type": kind, "key": key, "value": value})
        assert re.fullmatch(r'\((not \()?attribute_tokens like "%\|[0-9a-f]{32}\|%"\)?\)', made)
    stored = attribute_tokens({key: value})
    (token,) = re.findall(r"[0-9a-f]{32}", clause(eq(key, value)))
    assert f"|{token}|" in stored


def test_no_attribute_looks_like_a_part_of_a_collection() -> None:
    (token,) = re.findall(r"[0-9a-f]{32}", part_clause("vs_1"))

    assert f"|{token}|" in attribute_tokens({}, within="vs_1")
    for attributes in ({"within": "vs_1"}, {"": "vs_1"}, {"within": ""}):
        try:
            assert token not in attribute_tokens(attributes)
        except BadFilter:
            assert "" in attributes


def test_a_reader_is_of_a_tenant() -> None:
    ada = audience("acme", ["user:ada"])

    assert ada != audience("umbrella", ["user:ada"]) != audience("acme", ["group:ada"])
    assert (readable(Reader("acme", "ada")) or "").count(ada.strip("|")) == 1
    assert ada.strip("|") not in (readable(Reader("umbrella", "ada")) or "")
    assert audience("acme", []) == "|"
    for tenant, reader in (("acme", "ada"), ("acme", "user:"), ("acme", "Public"), ("*", "user:ada")):
        with pytest.raises(NotReadable):
            audience(tenant, [reader])
    assert readable(Reader("")) is None
    for hidden in ("#", "#acme"):
        with pytest.raises(ValueError, match="# is no tenant"):
            readable(Reader(hidden))
