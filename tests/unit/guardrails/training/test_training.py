"""That the weights can be made again: what is written, read and learned, on a few texts of our own."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner

from guardrails.checks.injection_model import meanings_of
from guardrails.checks.injection_signals import FAMILIES, Signals
from guardrails.training import public_sets
from guardrails.training.injection import facts, train_wording, verdict
from guardrails.training.sources import Example
from guardrails.training.written import attacks, harmless


@pytest.mark.parametrize("write", [attacks, harmless])
def test_sentences_are_whole_and_the_same_each_time(write: object) -> None:
    assert callable(write)
    told = write(2_000, Random(3))
    assert told == write(2_000, Random(3))
    assert [text for text in told if "{" in text or not text.strip()] == []
    assert len(set(told)) > 400


def test_what_was_learned_tells_attacks_it_has_not_seen() -> None:
    random = Random(5)
    learned = [Example(text, True, "written") for text in attacks(300, random)]
    learned += [Example(text, False, "oasst") for text in harmless(300, random)]
    unseen = [Example(text, True, "written") for text in attacks(60, Random(6))]
    unseen += [Example(text, False, "oasst") for text in harmless(60, Random(6))]
    model, signals = train_wording(learned, random), Signals()
    assert model.weights.dtype == np.int8
    weights = verdict(facts(learned, model, signals), learned)
    told = facts(unseen, model, signals) @ weights
    assert len(weights) == 3 + len(FAMILIES)
    assert (told[:60] > 0).mean() > 0.8
    assert (told[60:] > 0).mean() < 0.2


def test_meaning_is_the_leaning_and_the_nearest_typical_attack() -> None:
    typical = np.array([[1, 0], [0, 1]], dtype=np.float32)
    leaning = np.array([2, 0, -1], dtype=np.float32)
    told = meanings_of(np.array([[5, 0], [0, -3]], dtype=np.float32), leaning, typical)
    assert told.tolist() == [[1.0, 10.0], [-1.0, 0.0]]


def test_public_sets_are_written_and_missing_ones_told(tmp_path: Path) -> None:
    deepset = tmp_path / "sources/ChefAharoni/Freeze-Drying-Prompts-Evaluation/data/deepset.jsonl"
    deepset.parent.mkdir(parents=True)
    rows = [
        {"text": "Hello!", "label": "LEGIT"},
        {"text": "hello", "label": "LEGIT"},
        {"text": "x", "label": "INJECTION"},
    ]
    deepset.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = CliRunner().invoke(
        public_sets.main,
        ["--sources", str(tmp_path / "sources"), "--out", str(tmp_path / "out")],
        catch_exceptions=False,
    )
    assert "qualifire is left out" in done.output
    assert "presidio-research is left out" in done.output
    assert [json.loads(line) for line in (tmp_path / "out/injection.jsonl").read_text("utf-8").splitlines()] == [
        {"text": "Hello!", "label": False, "kind": "deepset harmless"},
        {"text": "x", "label": True, "kind": "deepset attacks"},
    ]
