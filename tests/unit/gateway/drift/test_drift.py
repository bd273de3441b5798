"""What is known to have changed is flagged, and what has not is not; benchmarks/drift.py does more of the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from drift_traffic import NOW, SHIFTS, Shift, traffic

from gateway.config.lake import Drift
from gateway.drift.comparisons import (
    Comparison,
    compare_categories,
    compare_in_strata,
    compare_numbers,
    compare_shares,
    compare_vectors,
)
from gateway.drift.findings import Finding, judged, summaries
from gateway.drift.settings import watching
from gateway.drift.watch import Watch, look
from gateway.lake.query import Queries

SETTINGS = watching(Drift())


def test_all_known_changes_are_flagged_each_as_its_kind() -> None:
    """Together in one window, so that it is one window's cost."""
    shift = Shift(new_topic=0.4, score=0.15, plan=(0.2, 0.3, 0.5), answer=0.5, liking=0.4)
    found = look(traffic(1, shift), SETTINGS, NOW)
    drifted = {(one.kind, one.what) for one in found if one.drifted}
    assert {
        ("input", "meaning of questions"), ("retrieval", "best score"), ("feature", "plan"),
        ("output", "length of answers"), ("concept", "feedback on like questions"),
    } <= drifted  # fmt: skip
    steady = {"length of questions", "language of questions", "account_age", "refusals", "answers that cite"}
    assert not steady & {what for _, what in drifted}


@pytest.mark.parametrize("kind", [kind for kind in SHIFTS if kind != "input"])
def test_one_change_is_flagged_as_what_it_is(kind: str) -> None:
    shift = next(iter(SHIFTS[kind].values()))
    found = look(traffic(2, shift, calls=900, window=250), SETTINGS, NOW)
    assert kind in {one.kind for one in found if one.drifted}
    assert not any(one.drifted for one in found if one.kind not in (kind, "output"))


def test_without_a_change_nothing_is_flagged() -> None:
    """Five of a hundred windows may; of these six, whose seeds are fixed, none does."""
    for seed in range(6):
        found = look(traffic(seed, Shift(), calls=900, window=250), SETTINGS, NOW)
        assert len(found) > 8
        assert [one for one in found if one.drifted] == []


def test_too_few_calls_are_not_compared() -> None:
    assert look(traffic(1, Shift(new_topic=1.0), calls=300, window=60), SETTINGS, NOW) == []


def test_what_callers_name_makes_no_series_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is rows in memory and series in the metrics, and `provider/whatever` is a model that a caller names."""
    monkeypatch.setattr("gateway.drift.windows._MOST_MODELS", 3)
    looked = dict(traffic(2, Shift(), calls=300, window=150)._look())
    calls = looked["calls"].to_table()
    column = calls.schema.get_field_index("model")
    named = [
        calls.set_column(column, "model", pa.array([f"mock/made-up-{n}"] * calls.num_rows))
        for n in (1, 1, 2, 2, 3, 3, 4, 4)
    ]
    looked["calls"] = ds.dataset(pa.concat_tables([calls, *named]))
    found = look(Queries(lambda: looked, threads=1), SETTINGS, NOW)
    assert {one.name.partition("/plan")[0].partition("/account")[0] for one in found} == {
        "handbook", "mock/made-up-1", "mock/made-up-2",
    }  # fmt: skip


def test_the_watch_tells_each_kind_and_feature_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.drift.watch.time.time", lambda: NOW)
    levels = Watch(SETTINGS, traffic(2, Shift(score=0.2), calls=900, window=250)).run()
    told = {(one.kind, one.name): one for one in levels}
    assert len(told) == len(levels)
    assert told["retrieval", "handbook"].drifted
    assert told["retrieval", "handbook"].score > told["retrieval", "handbook"].threshold == 0.15
    assert not told["feature", "handbook/plan"].drifted


def test_effects_are_from_nothing_to_all() -> None:
    random = np.random.default_rng(0)
    same = random.normal(size=500)
    assert compare_numbers(same, same).effect == 0
    assert compare_numbers(same, same + 100).effect == 1
    assert compare_categories("aabb" * 50, "aabb" * 20).effect == 0
    assert compare_categories("a" * 50, "b" * 50).effect == 1
    assert compare_shares([True] * 50, [False] * 50).effect == 1
    vectors = random.normal(size=(200, 8))
    near, far = compare_vectors(vectors[:100], vectors[100:]), compare_vectors(vectors[:100], vectors[100:] + 9)
    assert near.effect < 0.1 < 0.7 < far.effect
    assert far.p < 1e-4 < 0.01 < near.p


def test_the_index_of_population_stability_is_that_of_the_textbook() -> None:
    """Shares 0.5, 0.3, 0.2 against 0.3, 0.3, 0.4: (0.3-0.5) ln(0.3/0.5) + 0 + (0.4-0.2) ln(0.4/0.2)."""
    before, after = "a" * 50 + "b" * 30 + "c" * 20, "a" * 30 + "b" * 30 + "c" * 40
    found = compare_categories(before, after)
    assert found.psi == pytest.approx(0.2 * np.log(5 / 3) + 0.2 * np.log(2))
    assert found.effect == pytest.approx(0.2)


def test_what_people_ask_is_no_concept_drift() -> None:
    """More of the questions that are always liked less: the mean falls, and within the strata nothing does."""
    before = [("easy", 1.0)] * 80 + [("hard", 0.0), ("hard", 1.0)] * 10
    after = [("easy", 1.0)] * 20 + [("hard", 0.0), ("hard", 1.0)] * 40
    found = compare_in_strata(before, after)
    assert found is not None
    assert found.effect == pytest.approx(0.0)
    assert compare_in_strata([("a", 1.0)], [("b", 0.0)]) is None


def finding(p: float, effect: float, what: str = "x") -> Finding:
    return Finding("input", "m", what, Comparison(effect, p, "test", 100, 100), 0.1)


def test_many_comparisons_are_corrected_together() -> None:
    assert judged([finding(0.005, 0.5)], 0.01)[0].drifted
    many = judged([finding(0.005, 0.5), *(finding(0.5, 0.5) for _ in range(19))], 0.01)
    assert not many[0].drifted
    assert many[0].p == pytest.approx(0.1)
    assert not judged([finding(1e-9, 0.05)], 0.01)[0].drifted, "certain, but too small to count"
    found = judged([finding(1e-9, 0.2, "small"), finding(0.9, 0.6, "chance")], 0.01)
    assert summaries(found)["input", "m"].score == 0.2
