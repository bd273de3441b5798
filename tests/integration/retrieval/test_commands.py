"""`rag-gateway ingest`, `reindex` and `eval retrieval`, as an operator runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gateway.cli import main; main()", *arguments]
    return subprocess.run(
        [*command, "--config", str(folder / "gateway.yaml")], capture_output=True, text=True, timeout=180, cwd=folder
    )


def configure(folder: Path, **embeddings: str) -> None:
    configuration = {
        "data_dir": str(folder / "data"),
        "providers": {"extractive": {"kind": "extractive"}},
        "retrieval": {"embeddings": embeddings, "collections": {"fruit": {}}},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(configuration))


def test_load_measure_and_change_the_recipe(tmp_path: Path) -> None:
    configure(tmp_path)
    docs = tmp_path / "docs"
    docs.mkdir()
    fruit = {"quince": "sour and yellow", "medlar": "brown and soft", "cherry": "red and sweet", "sloe": "blue and dry"}
    for name, taste in fruit.items():
        (docs / f"{name}.md").write_text(f"# {name.title()}\n\nThe {name} is {taste}.\n")
    (docs / "program.py").write_text("print('fruit')\n")
    (docs / "broken.pdf").write_bytes(b"no pdf")

    loaded = run(tmp_path, "ingest", "docs", "--collection", "fruit", "--attribute", "kind=fruit")
    assert loaded.returncode == 1, loaded.stderr
    assert loaded.stdout == "collection fruit: 4 added, 0 updated, 0 unchanged, 1 failed; 4 sections embedded\n"
    assert "broken.pdf: left out: is not a PDF, whatever its name says" in loaded.stderr
    (docs / "broken.pdf").unlink()
    (docs / "sloe.md").unlink()
    options = ["--attribute", "kind=fruit", "--include", "*.md", "--include", "*.py", "--prune"]
    again = run(tmp_path, "ingest", "docs", "--collection", "fruit", *options)
    assert again.returncode == 0, again.stderr
    assert (
        again.stdout == "collection fruit: 1 added, 0 updated, 3 unchanged, 1 removed, 0 failed; 1 sections embedded\n"
    )

    questions = [
        {"question": f"What is {taste}?", "documents": [f"docs/{name}.md"], "spans": [taste]}
        for name, taste in fruit.items()
        if name != "sloe"
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in questions))
    measured = run(
        tmp_path, "eval", "retrieval", "--collection", "fruit", "--questions", "questions.jsonl", "--compare", "--top-k", "2"
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    head, *rows = measured.stdout.splitlines()
    assert head.split() == [
        "setting",
        "recall@2",
        "MRR@2",
        "nDCG@2",
        "span",
        "recall",
        "token",
        "precision",
        "token",
        "IoU",
        "p50",
        "ms",
        "p95",
        "ms",
    ]
    assert [row.split("  ")[0].strip() for row in rows[:4]] == ["dense", "keyword", "hybrid", "hybrid, rrf"]
    assert all(" 1.0000" in row for row in rows[:4])
    assert "3 questions, the first 2 passages of each." in measured.stdout

    assert run(tmp_path, "reindex", "--collection", "fruit").stdout == "collection fruit: nothing to do\n"
    configure(tmp_path, query_prefix="query: ", document_prefix="passage: ")
    refused = run(tmp_path, "ingest", "docs", "--collection", "fruit")
    assert refused.returncode == 1
    assert "run `rag-gateway reindex --collection fruit`" in refused.stderr
    made = run(tmp_path, "reindex", "--collection", "fruit")
    assert made.stdout == "collection fruit: 4 sections embedded; it is in force now\n", made.stderr
    after = run(tmp_path, "eval", "retrieval", "--collection", "fruit", "--questions", "questions.jsonl")
    assert after.returncode == 0, after.stderr
    assert "hybrid" in after.stdout


def test_what_is_wrong_with_the_options_is_told(tmp_path: Path) -> None:
    configure(tmp_path)
    (tmp_path / "a.md").write_text("text")
    for options, said in (
        (["--collection", "fruits"], "did you mean `fruit`?"),
        (["--collection", "fruit", "--attribute", "kind"], "should be like KEY=VALUE"),
        (["--collection", "fruit", "--reader", "user:ada"], "name the `tenant`"),
        (["--collection", "fruit", "--reader", "ada"], "readers"),
        (["--collection", "fruit", "--tenant", "a b"], "tenant"),
    ):
        refused = run(tmp_path, "ingest", "a.md", *options)
        assert refused.returncode == 1
        assert said in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr
