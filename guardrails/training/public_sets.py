"""Public sets as files for `rag-gateway eval guardrails`; none of them is learned from.

    python -m guardrails.training.public_sets --sources DIRECTORY --out DIRECTORY

`--sources` holds checkouts as `owner/repository`; a set whose checkout is missing is told and left out. Written are
`injection.jsonl` (texts, each set a kind) and `pii.jsonl` (spans). `docs/guardrails.md` names the sets and licences.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import click

from guardrails.training.sources import normal

_SEED = 7
_STRUCTURED = frozenset({"EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "IP_ADDRESS"})
_NAMES = (
    "deepset", "qualifire", "tensor trust", "PINT", "JailbreakBench", "BIPIA", "NotInject", "XSTest", "CyberSecEval FRR", "AlpacaEval",
    "InstructionWild", "WizardLM", "SQuAD",
)  # fmt: skip

Labelled = tuple[str, bool, str]


def injection_sets(root: Path) -> Iterator[tuple[str, Iterator[Labelled]]]:
    """By name: texts, whether they are attacks, and their kinds. Reading one may raise OSError."""
    readers = (
        _deepset, _qualifire, _tensor_trust, _pint, _jailbreakbench, _bipia, _notinject, _xstest, _refusals, _alpaca_eval,
        _instruction_wild, _wizard, _squad,
    )  # fmt: skip
    for name, reader in zip(_NAMES, readers, strict=True):
        yield name, reader(root)


def _deepset(root: Path) -> Iterator[Labelled]:
    for row in _lines(root / "ChefAharoni/Freeze-Drying-Prompts-Evaluation/data/deepset.jsonl"):
        attack = row["label"] == "INJECTION"
        yield row["text"], attack, f"deepset {'attacks' if attack else 'harmless'}"


def _qualifire(root: Path) -> Iterator[Labelled]:
    folder = root / "skan0779/korean-guardrail-dataset/data/raw/qualifire/prompt-injections-benchmark"
    for row in _table(folder / "test.csv"):
        attack = row["label"] == "jailbreak"
        yield row["text"], attack, f"qualifire {'jailbreaks' if attack else 'harmless'}"


def _tensor_trust(root: Path) -> Iterator[Labelled]:
    folder = root / "HumanCompatibleAI/tensor-trust-data/benchmarks"
    for kind in ("extraction", "hijacking"):
        for row in _lines(folder / f"{kind}-robustness/v1/{kind}_robustness_dataset.jsonl"):
            yield row["attack"], True, f"tensor trust {kind}"


def _pint(root: Path) -> Iterator[Labelled]:
    for row in _json(root / "leolee99/InjecGuard/datasets/valid.json"):
        if row["source"].startswith("PINT"):
            attack = row["label"] == 1
            yield row["prompt"], attack, f"PINT {'attacks' if attack else 'harmless'}"


def _jailbreakbench(root: Path) -> Iterator[Labelled]:
    """The prompts that broke a model, by the method that made them. JBC is a template that the training has."""
    for method in ("PAIR", "DSN", "GCG"):
        for path in sorted((root / "JailbreakBench/artifacts/attack-artifacts" / method).glob("*/*.json")):
            for one in _json(path)["jailbreaks"]:
                if one.get("prompt") and one.get("jailbroken", True):
                    yield one["prompt"], True, f"JailbreakBench {method}"


def _bipia(root: Path) -> Iterator[Labelled]:
    """Each attack at the beginning, in the middle or at the end of two mails and a table; and these by themselves."""
    folder = root / "microsoft/BIPIA/benchmark"
    mails = [row["context"] for row in _lines(folder / "email/test.jsonl")]
    tables = [row["context"] for row in _lines(folder / "table/test.jsonl")]
    random = Random(_SEED)
    for attack in (one for kind in _json(folder / "text_attack_test.json").values() for one in kind):
        for context in (*random.sample(mails, 2), *random.sample(tables, 1)):
            at = random.choice((0, len(context) // 2, len(context)))
            yield f"{context[:at]}\n{attack}\n{context[at:]}", True, "BIPIA attacks in mails and tables"
    for context in (*mails, *tables):
        yield context, False, "BIPIA mails and tables"


def _notinject(root: Path) -> Iterator[Labelled]:
    for part in ("one", "two", "three"):
        for row in _json(root / f"leolee99/InjecGuard/datasets/NotInject_{part}.json"):
            yield row["prompt"], False, "NotInject"


def _xstest(root: Path) -> Iterator[Labelled]:
    for row in _table(root / "paul-rottger/exaggerated-safety/xstest_prompts.csv"):
        if row["label"] == "safe":
            yield row["prompt"], False, "XSTest safe"


def _refusals(root: Path) -> Iterator[Labelled]:
    for row in _json(root / "meta-llama/PurpleLlama/CybersecurityBenchmarks/datasets/mitre_frr/mitre_frr.json"):
        if not row["is_malicious"]:
            yield row["mutated_prompt"], False, "CyberSecEval FRR"


def _alpaca_eval(root: Path) -> Iterator[Labelled]:
    for row in _json(root / "tatsu-lab/alpaca_eval/example/outputs.json"):
        yield row["instruction"], False, "AlpacaEval"


def _instruction_wild(root: Path) -> Iterator[Labelled]:
    folder = root / "XueFuzhao/InstructionWild"
    for name in ("data_v2/user_1", "data_v2/user_2", "data_v2/user_3", "data/seed_prompts_en"):
        for row in _lines(folder / f"{name}.jsonl"):
            yield row["instruction"], False, "InstructionWild"


def _wizard(root: Path) -> Iterator[Labelled]:
    for row in _lines(root / "nlpxucan/WizardLM/WizardLM/data/WizardLM_testset.jsonl"):
        yield row["Instruction"], False, "WizardLM"


def _squad(root: Path) -> Iterator[Labelled]:
    for article in _json(root / "chrischute/squad/data/dev-v2.0.json")["data"]:
        for paragraph in article["paragraphs"]:
            yield paragraph["context"], False, "SQuAD passages"


def personal_data(root: Path) -> Iterator[dict[str, Any]]:
    """presidio-research's synthetic sentences, with those entities that have a form of their own."""
    for row in _json(root / "microsoft/presidio-research/data/synth_dataset_v2.json"):
        spans = [
            {"start": one["start_position"], "end": one["end_position"], "kind": one["entity_type"]}
            for one in row["spans"]
            if one["entity_type"] in _STRUCTURED
        ]
        yield {"text": row["full_text"], "spans": spans}


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _lines(path: Path) -> Iterator[Any]:
    """A line that is no JSON is left out: some sets have a few."""
    for line in path.read_text("utf-8").split("\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _table(path: Path) -> Iterator[dict[str, str]]:
    csv.field_size_limit(10_000_000)
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _written(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    told = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in told), "utf-8")
    click.echo(f"{path}: {len(told)} samples", err=True)


@click.command()
@click.option("--sources", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
def main(sources: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name, told in injection_sets(sources):
        try:
            for text, attack, kind in told:
                if words := normal(text):
                    rows.setdefault((kind, words), {"text": text.strip(), "label": attack, "kind": kind})
        except OSError as fault:
            click.echo(f"{name} is left out: {fault}", err=True)
    _written(out / "injection.jsonl", rows.values())
    try:
        _written(out / "pii.jsonl", personal_data(sources))
    except OSError as fault:
        click.echo(f"presidio-research is left out: {fault}", err=True)


if __name__ == "__main__":
    sys.exit(main())
