"""SQuAD's questions as a test of retrieval: `python benchmarks/squad.py dev-v2.0.json FOLDER [--questions N]`.

Each paragraph becomes a text file in FOLDER/documents, each question that has an answer a line of
FOLDER/questions.jsonl with the paragraph that answers it and the words that do. The data is
https://rajpurkar.github.io/SQuAD-explorer/ (Rajpurkar, Jia, Liang: Know What You Don't Know, 2018), CC BY-SA 4.0.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path


def convert(source: Path, folder: Path, most: int | None) -> tuple[int, int]:
    """How many documents and questions were written. The same sample is drawn each time."""
    documents = folder / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    written = 0
    questions = []
    for article in json.loads(source.read_text("utf-8"))["data"]:
        title = re.sub(r"[^\w.-]+", "_", article["title"])
        for number, paragraph in enumerate(article["paragraphs"]):
            file = documents / f"{title}_{number:03d}.txt"
            file.write_text(paragraph["context"], "utf-8")
            written += 1
            for asked in paragraph["qas"]:
                if asked["answers"] and not asked.get("is_impossible"):
                    spans = [asked["answers"][0]["text"]]
                    question = asked["question"].strip()
                    questions.append({"question": question, "documents": [f"documents/{file.name}"], "spans": spans})
    random.Random(0).shuffle(questions)
    questions = questions[:most]
    lines = (json.dumps(question, ensure_ascii=False) + "\n" for question in questions)
    (folder / "questions.jsonl").write_text("".join(lines), "utf-8")
    return written, len(questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int)
    given = parser.parse_args()
    documents, questions = convert(given.source, given.folder, given.questions)
    print(f"{documents} documents and {questions} questions in {given.folder}")


if __name__ == "__main__":
    main()
