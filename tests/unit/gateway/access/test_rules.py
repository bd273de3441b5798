"""Whom a rule counts together, by which name it is charged, and when a budget's period ends."""

from __future__ import annotations

import datetime

import pytest

from gateway.access.rules import own_rule, period_of, rule_of
from gateway.config.limits import Allowance, LimitRule
from gateway.values import Caller

JO = Caller("jo's key", "acme", "jo", key_id="cfg_1")


@pytest.mark.parametrize(
    ("per", "when", "subject"),
    [
        (["key"], {}, ("cfg_1",)),
        (["model", "tenant"], {}, ("plain", "acme")),
        (["user"], {"model": ["plain"]}, ("acme", "jo")),
        (["user"], {"model": ["other"]}, None),
        (["user"], {"key": ["jo's key"]}, ("acme", "jo")),
        (["user"], {"key": ["cfg_1"]}, ("acme", "jo")),
        (["user"], {"key": ["another"]}, None),
        (["target"], {}, ("gpu/qwen",)),
        (["tenant"], {"target": ["gpu/qwen"], "user": ["jo", "al"]}, ("acme",)),
        ([], {"user": ["jo"]}, ("acme",)),
        ([], {}, ()),
    ],
)
def test_the_subject_of_a_call(per: list[str], when: dict[str, list[str]], subject: tuple[str, ...] | None) -> None:
    rule = rule_of(LimitRule.model_validate({"per": per, "when": when, "concurrency": 1}))
    assert rule.subject(JO, "plain", "gpu/qwen") == subject


def test_who_has_no_user_is_not_counted_by_user() -> None:
    rule = rule_of(LimitRule(per=["user"], concurrency=1))
    assert rule.subject(Caller("k", key_id="cfg_2"), "plain") is None


def test_users_of_one_name_in_two_tenants_are_two() -> None:
    rule = rule_of(LimitRule(per=["user"], concurrency=1))
    subjects = [rule.subject(Caller("k", tenant, "jo"), "plain") for tenant in ("a", "b")]
    assert [rule.spelled(subject) for subject in subjects if subject] == ["tenant=a&user=jo", "tenant=b&user=jo"]


def test_no_two_subjects_are_spelled_alike() -> None:
    rule = rule_of(LimitRule(per=["user", "model"], concurrency=1))
    spelled = {
        rule.spelled(subject) for subject in [("a", "t", "b&user=c"), ("a&user=c", "t", "b"), ("a%26", "t", "b")]
    }
    assert len(spelled) == 3
    assert rule.spelled(("m", "t", "jo@x.org")) == "model=m&tenant=t&user=jo%40x.org"


def test_the_order_in_which_a_rule_is_written_does_not_matter_and_who_it_is_for_does() -> None:
    def family(**written: object) -> str:
        return rule_of(LimitRule.model_validate({"requests_per_minute": 1, **written})).ceilings[0].family

    assert family(per=["user", "key"]) == family(per=["key", "user"])
    assert family(per=["key"], when={"model": ["a", "b"]}) == family(per=["key"], when={"model": ["b", "a"]})
    kinds = [
        family(per=["key"]),
        family(per=["key"], when={"model": "a"}),
        family(per=["key"], when={"user": "a"}),
        family(per=["key"], requests_per_minute=None, requests_per_day=1),
        own_rule(Allowance(requests_per_minute=1), "key")[0].ceilings[0].family,
    ]
    assert len(set(kinds)) == len(kinds)


def test_how_much_may_be_does_not_name_the_count_so_that_a_reload_keeps_it() -> None:
    before, after = (rule_of(LimitRule(per=["key"], requests_per_minute=most)) for most in (10, 20))
    assert before.ceilings[0].family == after.ceilings[0].family


@pytest.mark.parametrize(
    ("period", "at", "name", "end"),
    [
        ("day", "2026-11-21T23:59:59", "2026-11-21", "2026-11-22"),
        ("week", "2026-11-21T12:00:00", "2026-W47", "2026-11-23"),
        ("week", "2027-01-01T00:00:00", "2026-W53", "2027-01-04"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2027-01-01"),
        ("month", "2028-02-01T00:00:00", "2028-02", "2028-03-01"),
    ],
)
def test_periods_are_the_calendars_in_utc(period: str, at: str, name: str, end: str) -> None:
    def seconds(text: str) -> float:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()

    assert period_of(period, seconds(at)) == (name, seconds(end))  # type: ignore[arg-type]  # one of the three
