"""One strict mock vendor and one gateway in front of it, shared by the tests that need a live process."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import httpx._transports.default
import httpx2._transports.default
import openai
import pytest
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess, until
from postgres_process import PostgresProcess
from redis_process import RedisProcess
from sample_gateway import KEY_A, KEY_ADMIN, KEY_B, KEY_NARROW, gateway_configuration
from upstream.vendor import Vendor


def _once(create: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    kept: dict[object, ssl.SSLContext] = {}

    def kept_context(verify: object = True, cert: object = None, trust_env: bool = True) -> ssl.SSLContext:
        key = verify, cert, trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
        if key not in kept:
            kept[key] = create(verify=verify, cert=cert, trust_env=trust_env)
        return kept[key]

    return kept_context


# Else each new client reads the machine's certificates: 18 ms, and the tests make some ten thousand clients.
for _transports in (httpx._transports.default, httpx2._transports.default):
    _transports.create_ssl_context = _once(_transports.create_ssl_context)

# The files that take longest, about in that order. They come first, so that none of them runs alone in the end.
_LONGEST = (
    "e2e/test_handbook.py", "features/test_feast.py", "battery/test_ab_routes.py", "e2e/test_page.py",
    "e2e/test_tracing.py", "e2e/test_alerts.py", "e2e/test_monitoring.py", "e2e/test_responses_api.py",
    "battery/test_i_lifecycle.py", "e2e/test_routing.py", "retrieval/test_milvus_server.py",
    "battery/test_e_kills.py", "retrieval/test_knowledge.py", "retrieval/test_recovery.py",
    "battery/test_f_tenants.py", "battery/test_g_ways_in.py", "battery/test_f_retrieval.py", "e2e/test_arms.py",
    "battery/test_a_provider_kinds.py", "battery/test_i_workers.py", "e2e/test_messages_api.py",
    "battery/test_b_bad_requests.py", "battery/test_a_disconnects_and_upstreams.py", "retrieval/test_search.py",
    "e2e/test_managed_vllm.py", "battery/test_e_limits.py", "e2e/test_documented_routing.py",
    "battery/test_d_keys.py", "e2e/test_admin_keys.py", "battery/test_d_records.py", "battery/test_d_milvus.py",
    "e2e/test_tokens.py", "battery/test_f_semantic_cache.py", "e2e/test_client.py", "e2e/test_limits.py",
    "e2e/test_fair_queue.py", "e2e/test_vector_stores.py", "e2e/test_retrieval.py", "e2e/test_eval_answers.py",
    "e2e/test_semantic_cache.py", "e2e/test_semantic_workers.py", "records/test_database.py", "e2e/test_replay.py",
    "e2e/test_quality.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist's own order is by the number of tests


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(places)))


@pytest.fixture(scope="session")
def shared_vendor() -> Iterator[Vendor]:
    with Vendor() as vendor:
        yield vendor


@pytest.fixture(scope="session")
def shared_gateway(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(gateway_configuration(shared_vendor), tmp_path_factory.mktemp("gateway"))
    with running:
        yield running
        metrics = httpx.get(running.url + "/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
    # G6: whatever was asked in this session, no secret has come to rest anywhere.
    for canary in (KEY_A, KEY_B, KEY_NARROW, KEY_ADMIN, shared_vendor.api_key):
        for tail in (canary, canary[-12:]):
            assert tail not in running.output
            assert tail not in metrics
            assert tail.encode() not in running.stored()
    assert "Traceback" not in running.output, running.output


@pytest.fixture
def vendor(shared_vendor: Vendor) -> Iterator[Vendor]:
    """The mock vendor, with nothing left of the test before, nor anything for what comes before the next one's own
    fixtures."""
    shared_vendor.clear()
    yield shared_vendor
    until(lambda: not shared_vendor.unsettled, what="the end of every upstream call")
    shared_vendor.clear()


@pytest.fixture
def gateway(shared_gateway: GatewayProcess, vendor: Vendor) -> Iterator[GatewayProcess]:
    """The shared gateway; every test also proves that it leaves it alive and without an upstream call."""
    yield shared_gateway
    assert httpx.get(shared_gateway.url + "/healthz", timeout=30).json() == {"status": "ok"}


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=KEY_A, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
async def aclient(gateway: GatewayProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key=KEY_A, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=gateway.url, headers={"authorization": f"Bearer {KEY_A}"}, timeout=20, trust_env=False
    ) as made:
        yield made


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """For all who leave it running; each takes a prefix of its own. Who stops it makes another."""
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """For all who leave it running; each takes a `database()` of its own. Who stops it makes another."""
    with PostgresProcess(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingProcess]:
    """For all whose gateways need vectors, and no embedding process of their own to kill or to look at."""
    with EmbeddingProcess(tmp_path_factory.mktemp("embeddings")) as running:
        yield running
