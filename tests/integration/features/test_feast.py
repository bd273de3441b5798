"""A real Feast repository on SQLite, on a real Redis and behind Feast's own server: the same facts for all of them."""

from __future__ import annotations

import asyncio
import atexit
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pandas as pd
import pytest
from click.testing import CliRunner
from gateway_process import free_port, until
from redis_process import RedisProcess

from features.repository import Repository, WrongDefinitions, environment
from features.rows import RowFault
from features.store import FeastStore
from features.vector import FeaturesUnavailable, FeatureVector, WrongEntity
from gateway.cli import main

SHOP = Path("tests/samples/shop")
ADA = {
    "user_id": "ada",
    "tier": "gold",
    "spent": 1234.5,
    "orders": 7,
    "trusted": True,
    "likes": ["tea", "books"],
    "joined": "2024-02-29T12:00:00+00:00",
}


@dataclass(frozen=True)
class Shop:
    """A repository that is applied, in a store that holds ada and product 5; `kind` is where."""

    repository: Repository
    kind: str


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Feast is started once for all of these tests, which open copies of what it has applied.

    The registry knows its tables' file by name, and who applies a copy of it removes them from that: it is moved.
    """
    folder = tmp_path_factory.mktemp("shop")
    Repository(SHOP, folder / "first").definitions(apply=True)
    return Repository(SHOP, (folder / "first").rename(folder / "applied"))


@pytest.fixture(scope="module")
def server(applied: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Feast's own feature server over a copy of it."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(applied.data_dir, folder, dirs_exist_ok=True)
    served = Repository(SHOP, folder)
    settings = served.write_settings(served.settings())
    port = free_port()
    command = [sys.executable, "-c", "from feast.cli.cli import cli; cli()", "-c", str(SHOP.resolve())]
    command += ["-f", str(settings), "serve", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(command, env=environment(), stdout=log, stderr=log, cwd=folder)
        atexit.register(running.terminate)  # should the test run itself break down
        url = f"http://127.0.0.1:{port}"

        def ready() -> bool:
            assert running.poll() is None, (folder / "log").read_text()
            try:
                return httpx.get(url + "/health", timeout=2).status_code == 200
            except httpx.HTTPError:
                return False

        try:
            until(ready, 90, "Feast's feature server")
            yield url
        finally:
            atexit.unregister(running.terminate)
            running.terminate()
            running.wait(60)


def elsewhere(applied: Repository, folder: Path, online: str = "repo", repo: Path = SHOP) -> Repository:
    """What is applied, for another online store, without another start of Feast."""
    shutil.copytree(applied.data_dir, folder, dirs_exist_ok=True)
    repository = Repository(repo, folder, online)
    fingerprint = repository.fingerprint()
    known = (folder / "definitions.json").read_bytes().partition(b"\n")[2]
    (folder / "definitions.json").write_bytes(fingerprint.encode() + b"\n" + known)
    (folder / "applied").write_text(fingerprint)
    return repository


@pytest.fixture(scope="module", params=["sqlite", "redis", "server"])
def shop(request: pytest.FixtureRequest, applied: Repository, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    kind = request.param
    online = {"sqlite": "repo"}.get(kind)
    if kind == "redis":
        online = request.getfixturevalue("redis_server").url[:-1] + "3"
    online = online or request.getfixturevalue("server")
    repository = elsewhere(applied, tmp_path_factory.mktemp(kind), online)

    async def fill() -> None:
        store = FeastStore.open(repository, deadline=20)
        await store.push(
            "buyers_now", [ADA, {"user_id": "old", "tier": "silver", "event_timestamp": time.time() - 31 * 86_400}]
        )
        await store.push("products_now", [{"product_id": 5, "price": 2.5, "stock": 3}])
        await store.push("ratings_now", [{"user_id": "ada", "product_id": 5, "stars": 4}])
        await store.aclose()

    asyncio.run(fill())
    return Shop(repository, kind)


@pytest.fixture
async def store(shop: Shop) -> AsyncIterator[FeastStore]:
    store = FeastStore.open(shop.repository, deadline=20)
    yield store
    await store.aclose()


async def test_several_entities_in_one_read_and_every_type(store: FeastStore) -> None:
    told = await store.read("shop", {"user_id": "ada", "product_id": "5", "unknown": "x"})
    assert told.entity == {"user_id": "ada", "product_id": 5}
    assert told.values == {
        "tier": "gold",
        "spent": 1234.5,
        "orders": 7,
        "trusted": True,
        "likes": ["tea", "books"],
        "joined": "2024-02-29T12:00:00+00:00",
        "price": 2.5,
        "stock": 3,
        "stars": 4,
    }
    assert (told.missing, told.stale, told.sensitive) == ((), (), ())
    assert set(told.event_times) == set(told.values)
    assert all(0 <= time.time() - at < 300 for at in told.event_times.values())


async def test_units_and_descriptions_come_with_the_values(store: FeastStore) -> None:
    told = await store.read("shop", {"user_id": "ada"})
    spent = next(fact for fact in told.described if fact.name == "spent")
    assert (spent.value, spent.type, spent.unit, spent.description) == (1234.5, "Float64", "EUR", "in the last year")


async def test_an_entity_that_is_not_given_leaves_the_others_theirs(store: FeastStore) -> None:
    told = await store.read("shop", {"product_id": "5"})
    assert {name for name, value in told.values.items() if value is not None} == {"price", "stock"}
    nothing = await store.read("shop", {})
    assert set(nothing.missing) == set(nothing.values) == set(told.values)


async def test_nobody_elses_values(store: FeastStore) -> None:
    for stranger in ("nobody", "a' OR 1=1", "ada ", "ADA"):
        told = await store.read("shop", {"user_id": stranger})
        assert set(told.values.values()) == {None}


async def test_what_is_older_than_its_view_allows_is_stale(store: FeastStore) -> None:
    told = await store.read("shop", {"user_id": "old"})
    assert told.stale == ("tier",)
    assert told.values["tier"] is None
    assert 30 * 86_400 < time.time() - told.event_times["tier"] < 32 * 86_400
    assert "spent" in told.missing


async def test_a_limit_of_ones_own_is_stricter(store: FeastStore) -> None:
    strict = await store.read("shop", {"user_id": "ada", "product_id": "5"}, max_age={"tier": -1.0})
    assert strict.stale == ("tier",)
    all_of_them = await store.read("shop", {"user_id": "ada", "product_id": "5"}, max_age=-1.0)
    assert set(all_of_them.stale) == set(all_of_them.values)


async def test_two_hundred_reads_at_once(store: FeastStore) -> None:
    users = ["ada", "old", "ada", "nobody"] * 50
    told = await asyncio.gather(*(store.read("helper", {"user_id": user}, max_age=None) for user in users))
    assert [vector.values["tier"] for vector in told] == ["gold", None, "gold", None] * 50


async def test_an_on_demand_feature_is_made_with_the_call(store: FeastStore) -> None:
    told = await store.read("basket", {"product_id": "5", "amount": "4"})
    assert told.values == {"price": 2.5, "stock": 3, "total": 10.0}
    assert told.event_times["total"] == told.event_times["price"]
    without = await store.read("basket", {"product_id": "5"})
    assert without.values == {"price": 2.5, "stock": 3, "total": None}


async def test_one_entity_that_no_transform_fits_harms_nobody_else(store: FeastStore) -> None:
    """Product 6 has no price, and a price of None times 4 is an error of whoever wrote the view."""
    known, unknown = await asyncio.gather(
        store.read("basket", {"product_id": "5", "amount": "4"}),
        store.read("basket", {"product_id": "6", "amount": "4"}),
    )
    assert known.values["total"] == 10.0
    assert unknown.missing == ("price", "stock", "total")


@pytest.mark.parametrize("value", ["five", "0_5", "+5", " 5", "05", "\u0665", "9" * 19, "9" * 5000])
async def test_an_entity_of_the_wrong_type_is_told(store: FeastStore, value: str) -> None:
    """What only Python reads as 5 is not product 5, and what no store can hold fails no other's read."""
    known, told = await asyncio.gather(
        store.read("shop", {"product_id": "5"}), store.read("shop", {"product_id": value}), return_exceptions=True
    )
    assert isinstance(told, WrongEntity)
    assert str(told) == "product_id should be a whole number"
    assert isinstance(known, FeatureVector)
    assert known.values["price"] == 2.5


async def test_who_can_not_be_is_not_known_and_soon_forgotten(store: FeastStore) -> None:
    """A user whose name is no number, where the store has numbers, keeps no erasure and nobody's events waiting."""
    assert await store.known_of({"product_id": "bob"}) == {}
    assert (await store.erase({"product_id": "bob"})).values == 0


async def test_an_unknown_service_is_named(store: FeastStore) -> None:
    with pytest.raises(FeaturesUnavailable, match=r"no feature service `nope`; there are \['basket', 'care'"):
        await store.read("nope", {"user_id": "ada"})


async def test_a_push_of_some_features_leaves_the_others(store: FeastStore) -> None:
    await store.push("buyers_now", [{"user_id": "ben", "tier": "none", "orders": 1}])
    await store.push("buyers_now", [{"user_id": "ben", "orders": 2}])
    told = await store.read("shop", {"user_id": "ben"})
    assert {name: value for name, value in told.values.items() if value is not None} == {"tier": "none", "orders": 2}


async def test_what_is_sensitive_is_named_and_masked(store: FeastStore) -> None:
    await store.push("health_now", [{"user_id": "ada", "allergies": ["nuts"]}])
    told = await store.read("care", {"user_id": "ada"})
    assert told.values["allergies"] == ["nuts"]
    assert told.sensitive == ("allergies",)
    assert told.shown() == {"tier": "gold", "allergies": "[masked]"}


async def test_what_is_known_of_a_user_is_told_and_forgotten(shop: Shop, store: FeastStore) -> None:
    await store.push("buyers_now", [{**ADA, "user_id": "eve"}])
    await store.push("ratings_now", [{"user_id": "eve", "product_id": 5, "stars": 1}])
    known = await store.known_of({"user_id": "eve"})
    assert known["buyers:tier"] == "gold"
    assert known["buyers:likes"] == ["tea", "books"]
    erased = await store.erase({"user_id": "eve"})
    if shop.kind == "server":
        assert "deletes nothing" in erased.left
        return
    assert erased.left == ""
    assert erased.values == 7
    told = await store.read("shop", {"user_id": "eve", "product_id": "5"})
    assert told.values["stars"] is None
    assert set(told.missing) == set(told.values) - {"price", "stock"}
    assert await store.known_of({"user_id": "eve"}) == {}
    assert (await store.erase({"user_id": "eve"})).values == 0
    assert (await store.read("shop", {"user_id": "ada"})).values["tier"] == "gold"


async def test_the_age_of_a_view_is_that_of_its_newest_value(store: FeastStore) -> None:
    await store.read("shop", {"user_id": "old"})
    assert store.ages()["buyers"] > 30 * 86_400
    assert store.stale == {"buyers": 1}
    await store.push("buyers_now", [{"user_id": "zoe", "tier": "gold"}])
    assert store.ages()["buyers"] < 300


@pytest.mark.parametrize(
    ("row", "name", "message"),
    [
        ({"user_id": "a", "orders": "7"}, "orders", "should be a whole number"),
        ({"user_id": "a", "orders": True}, "orders", "should be a whole number"),
        ({"user_id": "a", "orders": 2**63}, "orders", "is too large for Int64"),
        ({"user_id": "a", "spent": "much"}, "spent", "should be a number"),
        ({"user_id": "a", "trusted": 1}, "trusted", "should be true or false"),
        ({"user_id": "a", "spent": float("nan")}, "spent", "should be a finite number"),
        ({"user_id": "a", "spent": float("-inf")}, "spent", "should be a finite number"),
        ({"user_id": "a", "spent": 10**400}, "spent", "should be a finite number"),
        ({"user_id": "a", "tier": "\ud800"}, "tier", "lone surrogate"),
        ({"user_id": "\ud800", "tier": "x"}, "user_id", "lone surrogate"),
        ({"user_id": "a", "joined": "0001-01-01T00:00:00+23:59"}, "joined", "between the years 1 and 9999"),
        ({"user_id": "a", "tier": "x", "event_timestamp": "1500-01-01"}, "event_timestamp", "is before 1970"),
        ({"user_id": "a", "tier": 1}, "tier", "should be text"),
        ({"user_id": "a", "likes": "tea"}, "likes", "should be a list, of String"),
        ({"user_id": "a", "likes": [1]}, "likes", "should be text"),
        ({"user_id": "a", "joined": "yesterday"}, "joined", "should be a time like 2027-01-31T18:00:00+01:00"),
        ({"user_id": "a", "tier": "x", "event_timestamp": "2999-01-01"}, "event_timestamp", "is in the future"),
        ({"tier": "gold"}, "user_id", "is missing: it says whose features these are"),
        ({"user_id": "", "tier": "gold"}, "user_id", "should be text of 1 to 1024 characters"),
        ({"user_id": "a", "teir": "gold"}, "teir", "is no field of `buyers_now`; there are user_id, tier"),
        ({"user_id": "a"}, None, "has no feature; there are tier, spent"),
        ("ada", None, "should be an object of fields"),
    ],
)
async def test_a_row_that_does_not_fit_is_told_before_any_is_written(
    applied: Repository, row: object, name: str | None, message: str, tmp_path: Path
) -> None:
    store = FeastStore.open(elsewhere(applied, tmp_path))
    with pytest.raises(RowFault) as told:
        await store.push("buyers_now", [{"user_id": "first", "tier": "gold"}, row])
    assert (told.value.row, told.value.name) == (1, name)
    assert message in str(told.value)
    assert (await store.read("shop", {"user_id": "first"})).values["tier"] is None
    await store.aclose()


async def test_what_the_registry_learns_is_known_after_a_look(applied: Repository, tmp_path: Path) -> None:
    """Somebody else applies another definition: reads go on, and a refresh brings it."""
    repo, data = tmp_path / "repo", tmp_path / "data"
    shutil.copytree(SHOP, repo, ignore=shutil.ignore_patterns("__pycache__"))
    store = FeastStore.open(elsewhere(applied, data, repo=repo))
    assert await store.refresh() is False
    await store.push("buyers_now", [ADA])
    text = (repo / "shop.py").read_text()
    (repo / "shop.py").write_text(text + 'extra = FeatureService(name="extra", features=[buyers[["tier"]]])\n')
    await asyncio.to_thread(Repository(repo, data).definitions, apply=True)
    reads = [asyncio.ensure_future(store.read("shop", {"user_id": "ada"})) for _ in range(20)]
    with pytest.raises(FeaturesUnavailable, match="no feature service `extra`"):
        await store.read("extra", {"user_id": "ada"})
    assert await store.refresh() is True
    assert {(await read).values["tier"] for read in reads} == {"gold"}
    assert (await store.read("extra", {"user_id": "ada"})).values == {"tier": "gold"}
    await store.aclose()
    assert sorted(file.name for file in repo.iterdir()) == ["feature_store.yaml", "shop.py"], "definitions stay clean"


async def test_samples_are_loaded_once(applied: Repository, tmp_path: Path) -> None:
    samples = tmp_path / "users.csv"
    samples.write_text("user_id,tier,spent,orders,trusted\nkim,gold,12.5,3,true\nlee,,,,false\n")
    repository = elsewhere(applied, tmp_path / "data")
    counts = []
    for _ in range(2):
        store = FeastStore.open(repository)
        counts.append(await store.load_samples(samples))
        told = await store.read("shop", {"user_id": "kim"})
        lee = await store.read("shop", {"user_id": "lee"})
        await store.aclose()
    assert counts == [2, 0]
    assert [told.values[name] for name in ("tier", "spent", "orders", "trusted")] == ["gold", 12.5, 3, True]
    assert {name for name, value in lee.values.items() if value is not None} == {"trusted"}
    samples.write_text("user,plan\nkim,gold\n")
    store = FeastStore.open(repository)
    with pytest.raises(FeaturesUnavailable, match="columns should be those of one push source"):
        await store.load_samples(samples)
    await store.aclose()


def test_a_repository_that_is_not_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(WrongDefinitions, match="can't be read: .*feature_store.yaml"):
        FeastStore.open(Repository(tmp_path, tmp_path / "data"))


def test_definitions_with_a_mistake_are_told(tmp_path: Path) -> None:
    shutil.copytree(SHOP, tmp_path / "repo")
    (tmp_path / "repo" / "more.py").write_text("import no_such_module\n")
    with pytest.raises(WrongDefinitions, match="No module named 'no_such_module'"):
        Repository(tmp_path / "repo", tmp_path / "data").definitions()


async def test_a_redis_that_hangs_or_is_gone_is_waited_for_no_longer_than_allowed(
    applied: Repository, tmp_path: Path
) -> None:
    with RedisProcess(tmp_path / "redis") as redis:
        store = FeastStore.open(elsewhere(applied, tmp_path / "data", redis.url), deadline=0.3)
        await store.push("buyers_now", [ADA])
        assert (await store.read("shop", {"user_id": "ada"})).values["tier"] == "gold"
        redis.hang()
        try:
            with pytest.raises(FeaturesUnavailable, match="took too long"):
                await store.read("shop", {"user_id": "ada"})
        finally:
            redis.wake()
    with pytest.raises(FeaturesUnavailable):
        await store.read("shop", {"user_id": "ada"})
    await store.aclose()


async def test_an_sqlite_file_that_somebody_holds_blocks_no_loop(applied: Repository, tmp_path: Path) -> None:
    """A reader of a locked file would wait for five seconds in its thread; who asks waits for the deadline alone."""
    store = FeastStore.open(elsewhere(applied, tmp_path / "data"), deadline=0.2)
    holder = sqlite3.connect(tmp_path / "data" / "online.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(FeaturesUnavailable, match="took too long"):
            await store.read("shop", {"user_id": "ada"})
    finally:
        holder.execute("COMMIT")
        holder.close()
        await store.aclose()


@pytest.fixture(scope="module")
def configured(applied: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file whose data folder holds ada."""
    folder = tmp_path_factory.mktemp("configured")
    repository = elsewhere(applied, folder / "data" / "features", repo=SHOP.resolve())

    async def fill() -> None:
        store = FeastStore.open(repository)
        await store.push("buyers_now", [ADA])
        await store.aclose()

    asyncio.run(fill())
    file = folder / "gateway.yaml"
    file.write_text(f"providers: {{extractive: {{kind: extractive}}}}\nfeatures: {{repo: {SHOP.resolve()}}}\n")
    return file


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["features", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_line_lists_what_is_defined(configured: Path) -> None:
    told = run("list", "--config", str(configured))
    assert "shop: about user_id, product_id" in told
    assert "push source talks_now: user_id, last_topics, questions, unhappy, last_model" in told
    spent = next(line for line in told.splitlines() if line.split()[:1] == ["spent"])
    assert spent.split()[1:4] == ["Float64", "EUR", "30d"]
    assert json.loads(run("list", "--json", "--config", str(configured)))["project"] == "shop"


def test_the_command_line_shows_somebodys_values(configured: Path) -> None:
    told = run("show", "shop", "user_id=ada", "--config", str(configured))
    assert next(line for line in told.splitlines() if line.startswith(" tier")).split()[:2] == ["tier", '"gold"']
    assert "missing" in next(line for line in told.splitlines() if line.startswith(" price"))
    values = json.loads(run("show", "shop", "user_id=ada", "--json", "--config", str(configured)))["values"]
    assert values["spent"] == 1234.5
    for wrong, said in ((("shop", "ada"), "is no JOIN_KEY=VALUE"), (("nope", "user_id=ada"), "no feature service")):
        done = CliRunner().invoke(main, ["features", "show", *wrong, "--config", str(configured)])
        assert (done.exit_code, said in done.output) == (1, True)


async def test_the_command_line_brings_batch_values_online(applied: Repository, tmp_path: Path) -> None:
    """The batch source's file has a newer row than what was pushed."""
    repo = tmp_path / "repo"
    shutil.copytree(SHOP, repo, ignore=shutil.ignore_patterns("__pycache__"))
    at = datetime.now(UTC) - timedelta(minutes=5)
    row = {name: [value] for name, value in ADA.items() if name != "joined"}
    frame = pd.DataFrame({**row, "joined": [at], "event_timestamp": [at], "tier": ["platinum"]})
    frame.to_parquet(repo / "buyers_now.parquet")
    repository = elsewhere(applied, tmp_path / "data" / "features", repo=repo)
    file = tmp_path / "gateway.yaml"
    file.write_text("providers: {extractive: {kind: extractive}}\nfeatures: {repo: repo}\n")
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "features", "materialize"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "--config", str(file), "--view", "buyers"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    store = FeastStore.open(repository)
    told = await store.read("shop", {"user_id": "ada"})
    await store.aclose()
    assert (told.values["tier"], told.values["likes"]) == ("platinum", ["tea", "books"])
    wrong = CliRunner().invoke(main, ["features", "materialize", "--config", str(file), "--view", "byers"])
    assert (wrong.exit_code, wrong.output.startswith("there is no feature view `byers`; there are buyers")) == (1, True)
