"""How long the lake's writer takes for a million records, and typical queries over them.

    python benchmarks/lake.py [--rows 1000000] [--through-store 20000]

The files are written by the writer's own code in its own schema (gateway.lake: rows, schema, Parquet settings), from
records as the record store has them: thirty days, five tenants, passages, guardrails, attempts. With --through-store,
so many go the whole way: ledger, queue, store, files. Queries are those of `rag-gateway calls query`, cold and warm.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lake_calls import exchange_of, store

from gateway.lake.filling import Filling, day_of, table_of
from gateway.lake.lake import Lake
from gateway.lake.manifest import Manifest, new_file
from gateway.lake.query import Queries
from gateway.lake.reading import datasets
from gateway.lake.rows import call_row
from gateway.lake.signals import Signals
from gateway.lake.storage import Storage
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.values import Usage

QUERIES = {
    "calls and cost by model": "SELECT model, count(*), sum(cost) FROM calls GROUP BY ALL ORDER BY 2 DESC",
    "95th percentile by day": "SELECT date, quantile_cont(duration_ms, 0.95) FROM calls GROUP BY date ORDER BY date",
    "errors of one tenant, one day": (
        "SELECT error_code, count(*) FROM calls WHERE tenant = 't1' AND date = (SELECT max(date) FROM calls) "
        "AND outcome = 'error' GROUP BY ALL"
    ),
    "one call by its id": "SELECT * FROM calls WHERE call_id = $id",
    "documents shown most": (
        "SELECT p.document_id, count(*) FROM (SELECT unnest(passages) AS p FROM calls) GROUP BY ALL "
        "ORDER BY 2 DESC LIMIT 10"
    ),
    "guardrails by check": (
        "SELECT g.check, g.action, count(*) FROM (SELECT unnest(guardrails) AS g FROM calls) GROUP BY ALL"
    ),
    "spend of the ten largest users": (
        'SELECT tenant, "user", sum(cost) FROM calls GROUP BY ALL ORDER BY 3 DESC LIMIT 10'
    ),
}  # fmt: skip


def kept_call(number: int, at: int, random: np.random.Generator) -> dict[str, object]:
    """As the record store has it."""
    failed = random.random() < 0.02
    target = ("openai/gpt-4.1-mini", "gpu/qwen3-8b")[int(random.random() < 0.3)]
    detail = {
        "stages": [["authenticate", 0, 20], ["retrieval", 30, 9_000], ["render", 9_100, 200], ["call", 9_400, 800_000]],
        "attempts": [[target, "error" if failed else "ok", 500 if failed else 200, 800.0, f"req_{number}", "external"]],
        "template": {"reference": "handbook@3", "trimmed": []},
        "passages": [
            {"n": n, "document_id": f"doc-{int(random.integers(2_000))}", "version": 3, "section_id": f"s{n}",
             "collection": "handbook", "score": round(float(random.beta(8, 3)), 4)}
            for n in range(1, 7)
        ],
        "guardrails": [{"stage": "input", "check": "pii", "action": "mask", "version": "1", "findings": [
            {"kind": "EMAIL_ADDRESS", "start": 3, "end": 20, "score": 0.9}]}] if random.random() < 0.1 else [],
    }  # fmt: skip
    return {
        "call_id": f"call_{at // 1_000_000:012x}{number:020x}", "request_id": f"call_{number:032x}", "answer_id": None,
        "tenant": f"t{number % 5}", "key_id": f"key_{number % 50}", "key_name": f"team {number % 50}",
        "user": f"u{int(random.zipf(1.4)) % 5_000}", "endpoint": "chat.completions", "requested_model": "handbook",
        "model": ("handbook", "support", "plain")[number % 3], "target": target, "served_model": target.split("/")[1],
        "status": 500 if failed else 200, "outcome": "error" if failed else "ok",
        "error_code": "upstream_error" if failed else None, "prompt_tokens": int(random.integers(200, 4_000)),
        "completion_tokens": int(random.lognormal(5, 0.6)), "cached_tokens": 0, "reasoning_tokens": 0,
        "usage_estimated": 0, "cost": float(random.gamma(2, 0.0004)), "cache": "miss", "finish_reason": "stop",
        "trace_id": f"{number:032x}", "revision": "4f2a", "sensitivity": None, "started_at": at,
        "duration_us": int(random.lognormal(13.5, 0.6)), "first_chunk_us": int(random.lognormal(12, 0.5)),
        "detail": msgspec.json.encode(detail), "content": None,
    }  # fmt: skip


def write_files(lake: Lake, rows: int) -> float:
    """Seconds of the writer's work, without making the records up."""
    random, signals, spent = np.random.default_rng(1), Signals(), 0.0
    now, group = time.time_ns(), 20_000
    for begin in range(0, rows, group):
        count = min(group, rows - begin)
        at = now - int(30 * 86_400 * 1e9 * (1 - begin / rows))
        kept = [kept_call(begin + n, at + n * 1_000_000, random) for n in range(count)]
        started = time.perf_counter()
        partitions: dict[tuple[str, str, str], list[dict[str, object]]] = {}
        for one in kept:
            key = ("calls", day_of(int(str(one["started_at"]))), str(one["tenant"]))
            partitions.setdefault(key, []).append(call_row(one, None, signals))
        files = [new_file(*key) for key in partitions]
        lake.announce(files)
        lake.commit([
            lake.write(replace(file), [table_of("calls", part)])
            for file, part in zip(files, partitions.values(), strict=True)
        ])  # fmt: skip
        spent += time.perf_counter() - started
    return spent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--through-store", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/records.db")
        database.upgrade()
        manifest, storage = Manifest(database), Storage(Path(folder, "lake").as_uri())
        lake = Lake(storage, manifest)
        assert lake.open()

        exchanges = [exchange_of(f"t{n % 5}", f"u{n % 99}", usage=Usage(9, 9)) for n in range(asked.through_store)]
        for begin in range(0, len(exchanges), 1_000):
            store(database, *exchanges[begin : begin + 1_000])
        filling, began = Filling(database, lake, Contents(), Signals()), time.perf_counter()
        while filling.step() is not None:
            pass
        took = time.perf_counter() - began
        print(f"from the store's queue to files: {len(exchanges):,} calls in {took:.1f} s")

        took = write_files(lake, asked.rows)
        files = manifest.live("calls")
        size, most = sum(file.bytes for file in files), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{asked.rows:,} records with passages to files: {took:.0f} s, {size / asked.rows:.0f} bytes each")
        print(f"{size / 1e6:.0f} MB in {len(files)} files; this process has held {most} MB at most\n")

        call = Queries(lambda: datasets(storage, manifest)).run("SELECT max(call_id) AS id FROM calls")["id"][0].as_py()
        for what, sql in QUERIES.items():
            times = []
            for _ in range(2):
                began = time.perf_counter()
                queries = Queries(lambda: datasets(storage, manifest))
                queries.run(sql, {"id": call} if "$id" in sql else None)
                times.append(time.perf_counter() - began)
            print(f"{what:<32} {times[0]:6.2f} s, again {times[1]:6.2f} s")
        manifest.release()
        database.close()


if __name__ == "__main__":
    main()
