"""D2: every connection to the record store is taken. Who needs one is told so in time, and all others go on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import httpx
import psycopg
from gateway_process import GatewayProcess, until
from postgres_process import PostgresProcess
from sample_gateway import KEY_A, plain_configuration
from upstream.vendor import Vendor

from gateway.records.database import Database

BEARER = {"authorization": f"Bearer {KEY_A}"}
HELLO = {"model": "plain", "messages": [{"role": "user", "content": "hello"}]}
READERS = 30  # three times the connections that one process may have


def test_d2_an_exhausted_pool_is_a_bounded_queue(
    vendor: Vendor, postgres_server: PostgresProcess, tmp_path: Path
) -> None:
    url = postgres_server.database()
    database = Database(url)
    database.upgrade()
    database.close()
    configuration = {**plain_configuration(vendor), "records": {"url": url}}
    with (
        GatewayProcess(configuration, tmp_path) as gateway,
        httpx.Client(base_url=gateway.url, headers=BEARER, timeout=30, trust_env=False) as http,
        psycopg.connect(url) as holder,
        ThreadPoolExecutor(READERS) as readers,
    ):
        first = http.post("/v1/chat/completions", json=HELLO).headers["x-gateway-call-id"]
        until(lambda: http.get(f"/v1/calls/{first}").status_code == 200, what="the first record")
        holder.execute("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE")
        asked = [readers.submit(http.get, f"/v1/calls/{first}") for _ in range(READERS)]
        until(lambda: any(one.done() for one in asked), what="an answer to one that gets no connection")
        # Calls need none: they are served, and their records wait.
        later = [http.post("/v1/chat/completions", json=HELLO) for _ in range(5)]
        assert {answer.status_code for answer in later} == {200}
        assert http.get("/healthz").status_code == 200
        holder.rollback()
        assert not wait(asked, 30).not_done
        answers = [one.result() for one in asked]
        assert {answer.status_code for answer in answers} <= {200, 503}
        refused = [answer.json()["error"] for answer in answers if answer.status_code == 503]
        assert refused
        assert all(error["type"] == "server_error" and "host" not in error["message"] for error in refused)
        for answer in later:
            call_id = answer.headers["x-gateway-call-id"]
            until(lambda call_id=call_id: http.get(f"/v1/calls/{call_id}").status_code == 200, what="a later record")
    assert "Traceback" not in gateway.output, gateway.output
