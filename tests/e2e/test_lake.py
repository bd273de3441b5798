"""A gateway with a lake: its calls come to Parquet files beside it, and can be asked for in SQL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from gateway_process import GatewayProcess, until
from sample_gateway import KEY_A, KEY_ADMIN, plain_configuration
from sqlalchemy import select
from upstream.vendor import Vendor

from gateway.cli import main
from gateway.records.database import Database
from gateway.records.schema import quality

SECRET = "the-canary-of-the-lake-77"


@pytest.fixture(scope="module")
def lake_gateway(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    configuration = plain_configuration(shared_vendor)
    configuration["lake"] = {"every": "100ms"}
    configuration["access"]["keys"][0]["speaks_for_users"] = True
    configuration["models"]["plain"]["record_content"] = True
    configuration["models"]["judged"] = {
        "targets": ["mock/gpt-mock"],
        "quality": {"sample": 1.0, "judge": "mock/judge", "measures": ["relevance"]},
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("lake")) as running:
        yield running
    for canary in (KEY_A, KEY_ADMIN, shared_vendor.api_key, SECRET):
        assert canary not in running.output
    assert "Traceback" not in running.output, running.output


def ask(gateway: GatewayProcess, text: str, user: str | None = None, model: str = "plain") -> str:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if user is not None:
        body["user"] = user
    answer = httpx.post(
        gateway.url + "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY_A}"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["x-gateway-call-id"]


def query(gateway: GatewayProcess, sql: str, form: str = "json") -> Result:
    return CliRunner().invoke(main, ["calls", "query", sql, "--format", form, "--config", str(gateway.file)])


def users(gateway: GatewayProcess) -> dict[str, str | None]:
    """Of the calls in the lake's files, by call."""
    found: dict[str, str | None] = {}
    for path in (gateway.folder / "data" / "lake" / "calls").rglob("*.parquet"):
        with contextlib.suppress(FileNotFoundError):  # it was merged with others meanwhile
            columns = pq.read_table(path, columns=["call_id", "user"], partitioning=None).to_pydict()
            found |= dict(zip(columns["call_id"], columns["user"], strict=True))
    return found


def analyst_of(gateway: GatewayProcess) -> psutil.Process:
    def found() -> psutil.Process | None:
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        return next((one for one in children if "gateway.analyst" in one.cmdline()), None)

    return until(found, what="the lake's process")


def test_a_call_can_be_asked_for_in_sql_and_holds_no_content(vendor: Vendor, lake_gateway: GatewayProcess) -> None:
    call = ask(lake_gateway, f"What is {SECRET}?")
    until(lambda: call in users(lake_gateway), what="the call's way to the lake")
    told = query(lake_gateway, f"SELECT * FROM calls WHERE call_id = '{call}'")
    assert told.exit_code == 0, told.output
    row = json.loads(told.stdout)
    assert (row["tenant"], row["model"], row["outcome"], row["status"]) == ("a", "plain", "ok", 200)
    assert row["question_chars"] == len(f"What is {SECRET}?")
    assert row["prompt_tokens"] > 0
    folder = lake_gateway.folder / "data" / "lake"
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not any(SECRET.encode() in data or KEY_A.encode() in data for data in files)
    assert SECRET not in told.stdout
    metrics = httpx.get(
        lake_gateway.url + "/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}, timeout=30
    ).text
    assert "\nrag_gateway_lake_lag_seconds " in metrics


def test_queries_read_the_lake_and_nothing_else(lake_gateway: GatewayProcess) -> None:
    told = query(lake_gateway, f"SELECT * FROM read_text('{lake_gateway.file}')")
    assert told.exit_code == 1
    assert "disabled" in told.stderr
    told = query(lake_gateway, "SELECT nothing FROM calls")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "nothing" in told.stderr
    assert query(lake_gateway, "SELECT 1 AS one, 'a,b' AS two", "csv").stdout == 'one,two\n1,"a,b"\n'
    shown = query(lake_gateway, "SELECT 1 AS one, chr(27) || '[2J' AS two", "table")
    assert "\\x1b[2J" in shown.stdout, shown


def test_the_lakes_process_comes_back_and_an_erased_user_goes(vendor: Vendor, lake_gateway: GatewayProcess) -> None:
    kept = ask(lake_gateway, "hello", "max")
    mine = ask(lake_gateway, "hello", "jo")
    os.kill(analyst_of(lake_gateway).pid, signal.SIGKILL)
    last = ask(lake_gateway, "hello", "max")
    until(lambda: {kept, mine, last} <= users(lake_gateway).keys(), what="their way to the lake")
    assert users(lake_gateway)[mine] == "jo"
    receipt = httpx.post(
        lake_gateway.url + "/admin/erasures",
        json={"tenant": "a", "user": "jo"},
        headers={"authorization": f"Bearer {KEY_ADMIN}"},
        timeout=60,
    ).json()
    assert "lake" in receipt["left"], receipt
    until(lambda: mine not in users(lake_gateway), what="the erasure")
    assert {kept, last} <= users(lake_gateway).keys()


def test_an_erasure_while_a_judge_reads_the_answer_leaves_no_score(
    vendor: Vendor, lake_gateway: GatewayProcess
) -> None:
    def scores() -> float:
        text = httpx.get(lake_gateway.url + "/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
        lines = [line for line in text.splitlines() if line.startswith("rag_gateway_quality_judged_total")]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    def judged() -> set[str]:
        told = query(lake_gateway, "SELECT call_id FROM quality")
        assert told.exit_code == 0, told.output
        return {json.loads(line)["call_id"] for line in told.stdout.splitlines()}

    before = scores()
    vendor.behaviours["judge"] = {"text": "3", "delay": 1.0}
    mine = ask(lake_gateway, "what is judged while it is erased", "kim", "judged")
    until(lambda: any(seen.body["model"] == "judge" for seen in vendor.requests), what="the judge's reading")
    erased = httpx.post(
        lake_gateway.url + "/admin/erasures",
        json={"tenant": "a", "user": "kim"},
        headers={"authorization": f"Bearer {KEY_ADMIN}"},
        timeout=60,
    ).json()["erased"]
    assert erased["calls"] == 1
    until(lambda: scores() > before, what="the judge's word")
    vendor.behaviours["judge"] = {"text": "4"}
    kept = ask(lake_gateway, "what is judged then", "max", "judged")
    until(lambda: kept in judged(), what="its score's way to the lake")
    assert mine not in judged()
    store = Database(f"sqlite:///{lake_gateway.folder / 'data' / 'gateway.db'}")
    store.prepare()
    try:
        with store.reading() as connection:
            assert list(connection.scalars(select(quality.c.call_id).where(quality.c.call_id == mine))) == []
    finally:
        store.close()
