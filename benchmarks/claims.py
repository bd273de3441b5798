"""What cosine similarity says of a claim and its evidence: `python benchmarks/claims.py --claims N FILE…`.

The files are ExpertQA's (https://github.com/chaitanyamalaviya/ExpertQA, MIT): answers as claims with the evidence that
was cited, which experts judged to support them completely, in part or not. Printed: the share of claims that
`rag-gateway eval answers` holds to be supported, by threshold, and the areas under the ROC curve.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.answer_evaluation import GivenAnswer, Source, likeness
from retrieval.knowledge import Knowledge, KnowledgeSettings

Claim = tuple[str, str, list[str], str]
"""Support, the claim, its evidence, the question."""


def read(files: Iterable[Path]) -> list[Claim]:
    claims: dict[tuple[str, str], Claim] = {}
    for file in files:
        for line in file.read_text("utf-8").splitlines():
            document = json.loads(line)
            question = document["question"]
            for answer in document["answers"].values():
                for claim in answer["claims"]:
                    evidence = [re.sub(r"^\[\d+\] \S+\s+", "", one) for one in claim["evidence"] if len(one) > 200]
                    if evidence and claim["support"] in ("Complete", "Partial", "Incomplete"):
                        text = claim["claim_string"]
                        said = re.sub(r"\s*\[\d+\]", "", text)
                        claims[question, text] = (claim["support"], said, evidence, question)
    found = list(claims.values())
    random.Random(0).shuffle(found)
    return found


async def compare(claims: Sequence[Claim], most: int) -> None:
    whole = [claim for claim in claims if claim[0] == "Complete"][:most]
    part = [claim for claim in claims if claim[0] != "Complete"][:most]
    draw = random.Random(1)
    others = [draw.choice([other for other in claims if other[3] != claim[3]]) for claim in whole[: most // 2]]
    pairs = [*((claim[1], claim[2]) for claim in (*whole, *part))]
    pairs += [(claim[1], other[2]) for claim, other in zip(whole, others, strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        async with Knowledge.open(KnowledgeSettings(Path(folder))) as knowledge:

            async def embed(texts: Sequence[str]) -> list[NDArray[np.float32]]:
                vectors = await knowledge.embedder.embed(texts, kind="document")
                return [np.asarray(vector, dtype=np.float32) for vector in vectors]

            scores = []
            for text, evidence in pairs:
                near = await likeness(GivenAnswer(text, tuple(Source("d", one) for one in evidence)), embed)
                scores.append(float(near.max(axis=1)[0]) if near.size else -1.0)
    one, two, three = np.split(np.array(scores), [len(whole), len(whole) + len(part)])
    print("| at least | complete | in part or not | another question's evidence |\n| --- | --- | --- | --- |")
    for threshold in (0.4, 0.5, 0.6, 0.7):
        cells = [f"{(group >= threshold).mean():.3f}" for group in (one, two, three)]
        print(f"| {threshold} | " + " | ".join(cells) + " |")
    for name, group in (("in part or not", two), ("another question's", three)):
        print(f"area under the ROC curve, complete against {name}: {(one[:, None] > group[None]).mean():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--claims", type=int, default=400, help="of each kind, at most")
    given = parser.parse_args()
    asyncio.run(compare(read(given.files), given.claims))


if __name__ == "__main__":
    main()
