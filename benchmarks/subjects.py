"""The servers under test: how each is started, what is sent to it, and how it is told apart."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "build" / "peers"
COMPILED = ROOT / "build" / "compiled"
CHUNKS = 64  # of a stream
KEY = "sk-gw-bench"
MASTER_KEY = "sk-a7Lq2vXw9Rk4TzYbN8mPcD3fHs6Jg1Ue"  # LiteLLM refuses a weak one; nothing but the mock is behind it


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a way of calling a server. `stream_marks`: marked words in a whole stream's body."""

    title: str
    model: str
    path: str = "/v1/chat/completions"
    headers: tuple[str, ...] = ()
    paced_per_second: int = 500
    stream_marks: int = CHUNKS
    kinds: tuple[str, ...] = ("calls", "paced", "streams8", "streams32")


@dataclass(frozen=True, slots=True)
class Subject:
    """A server: its command, or none for the mock itself; `announces`: the file in which one that chooses its own port says it."""

    name: str
    version: str
    rows: tuple[Row, ...]
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    announces: Path | None = None
    warm_up: int = 3000
    traced: float | None = None


def direct(mock: int, port: int, work: Path) -> Subject:
    return Subject("direct", "", (Row("direct: load to mock", "bench", kinds=("calls", "paced")),))


def nginx(mock: int, port: int, work: Path) -> Subject | str:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        return "nginx is not installed (Debian: apt-get install nginx-light)"
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    temps = "".join(f"{kind}_temp_path {work}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (work / "nginx.conf").write_text(
        f"{user} worker_processes 1; daemon off; pid {work}/nginx.pid; error_log {work}/nginx.err;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; {temps} keepalive_requests 100000000; client_body_buffer_size 64k;\n"
        f"  upstream mock {{ server 127.0.0.1:{mock}; keepalive 64; keepalive_requests 100000000; }}\n"
        f"  server {{ listen 127.0.0.1:{port}; location / {{\n"
        '    proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } }\n'
        "}\n"
    )
    version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
    command = (program, "-p", str(work), "-e", f"{work}/nginx.err", "-c", f"{work}/nginx.conf")
    return Subject("nginx", version, (Row("nginx, reverse proxy", "bench"),), command)


_TENSORZERO_PATH = "/openai/v1/chat/completions"
# https://www.tensorzero.com/docs/operations/enforce-custom-rate-limits; for all calls together: it counts no keys.
_TENSORZERO_LIMITS = (
    "[rate_limiting]\nenabled = true\n[[rate_limiting.rules]]\npriority = 0\n"
    "model_inferences_per_minute = 10000000\ntokens_per_minute = 1000000000\n"
)
_LIMITS = "limits:\n  - {per: [key], requests_per_minute: 10000000, tokens_per_minute: 1000000000}\n"


def _gateway(
    name: str, mock: int, port: int, work: Path, sample: float, rows: tuple[Row, ...], more: str = ""
) -> Subject | str:
    """`more` is configuration beside that of `gateway.yaml`."""
    program = ROOT / ".venv" / "bin" / "rag-gateway"
    if not program.exists():
        return "this gateway is not installed: run `make`"
    env = {
        **delivered(),
        "BENCH_UPSTREAM": f"http://127.0.0.1:{mock}/v1",
        "BENCH_OTLP": f"http://127.0.0.1:{mock}",
        "BENCH_DATA": str(work),
        "BENCH_SAMPLE": str(sample),
        # The exporter's default of 5 s would put the export of one window's spans into another.
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    configuration = work / "gateway.yaml"
    configuration.write_text((ROOT / "benchmarks" / "gateway.yaml").read_text("utf-8") + more, "utf-8")
    command = (str(program), "serve", "--config", str(configuration), "--port", str(port))
    return Subject(name, _revision(), rows, command, env, traced=sample)


def gateway(mock: int, port: int, work: Path) -> Subject | str:
    key = (f"authorization: Bearer {KEY}",)
    rows = (
        Row("this gateway, plain proxy", "plain", headers=key),
        # What is stored is the plain answer of the warm-up; a stream of it is replayed, with that answer's one mark.
        Row("this gateway, exact cache hit", "cached", headers=key, stream_marks=1),
    )
    return _gateway("gateway", mock, port, work, 0.1, rows)


def gateway_traced(mock: int, port: int, work: Path) -> Subject | str:
    key = (f"authorization: Bearer {KEY}",)
    rows = (Row("this gateway, every call traced", "plain", headers=key, kinds=("calls", "streams8")),)
    return _gateway("gateway-traced", mock, port, work, 1.0, rows)


def gateway_limited(mock: int, port: int, work: Path) -> Subject | str:
    key = (f"authorization: Bearer {KEY}",)
    rows = (Row("this gateway, with limits", "plain", headers=key, kinds=("calls",)),)
    return _gateway("gateway-limited", mock, port, work, 0.1, rows, _LIMITS)


def delivered() -> dict[str, str]:
    """The environment in which the gateway is the compiled one, where `make compiled` has made it."""
    if "PYTHONPATH" in os.environ or not (COMPILED / "ready").exists():
        return {}
    return {"PYTHONPATH": str(COMPILED)}


def _revision() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return (found or "unversioned") + (", compiled" if delivered() else "")


def _tensorzero(name: str, row: Row, mock: int, work: Path, more: str = "", store: str = "") -> Subject | str:
    """`more` is configuration; `store` the program of the Valkey or Redis that keeps its limits."""
    python = PEERS / "tensorzero" / "bin" / "python"
    if not python.exists():
        return "TensorZero is not installed: `make bench-peers`"
    (work / "tensorzero.toml").write_text(
        '[gateway]\nobservability.enabled = false\n[models.plain]\nrouting = ["mock"]\n'
        '[models.plain.providers.mock]\ntype = "openai"\nmodel_name = "bench"\n'
        f'api_base = "http://127.0.0.1:{mock}/v1/"\napi_key_location = "none"\n{more}'
    )
    launcher = str(ROOT / "benchmarks" / "tensorzero_gateway.py")
    command = (str(python), launcher, str(work / "tensorzero.toml"), str(work / "address"), *([store] if store else ()))
    return Subject(name, _installed("tensorzero", "tensorzero"), (row,), command, announces=work / "address")


def tensorzero(mock: int, port: int, work: Path) -> Subject | str:
    row = Row("TensorZero gateway", "tensorzero::model_name::plain", _TENSORZERO_PATH)
    return _tensorzero("tensorzero", row, mock, work)


def tensorzero_limited(mock: int, port: int, work: Path) -> Subject | str:
    """With the limits of `gateway_limited`, which it keeps in a store: what that costs is not counted."""
    store = shutil.which("valkey-server") or shutil.which("redis-server")
    if store is None:
        return "TensorZero keeps limits in Valkey or Redis 7, which is not installed (Debian: apt-get install redis-server)"
    row = Row("TensorZero, with limits", "tensorzero::model_name::plain", _TENSORZERO_PATH, kinds=("calls",))
    return _tensorzero("tensorzero-limited", row, mock, work, _TENSORZERO_LIMITS, store)


def litellm(mock: int, port: int, work: Path) -> Subject | str:
    program = PEERS / "litellm" / "bin" / "litellm"
    if not program.exists():
        return "LiteLLM is not installed: `make bench-peers`"
    (work / "litellm.yaml").write_text(
        "model_list:\n  - model_name: plain\n    litellm_params:\n"
        f"      {{model: openai/bench, api_base: 'http://127.0.0.1:{mock}/v1', api_key: bench-upstream}}\n"
        f"general_settings: {{master_key: {MASTER_KEY}}}\n"
    )
    row = Row("LiteLLM proxy", "plain", headers=(f"authorization: Bearer {MASTER_KEY}",), paced_per_second=60)
    command = (str(program), "--config", str(work / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port))
    env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Subject("litellm", _installed("litellm", "litellm"), (row,), command, env, warm_up=200)


def portkey(mock: int, port: int, work: Path) -> Subject | str:
    folder = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    node = shutil.which("node")
    if node is None or not folder.exists():
        return "Portkey is not installed: `make bench-peers`" if node else "Portkey needs node, which is not installed"
    headers = (
        "x-portkey-provider: openai",
        f"x-portkey-custom-host: http://127.0.0.1:{mock}/v1",
        "authorization: Bearer bench-upstream",
    )
    command = (node, str(folder / "build" / "start-server.js"), f"--port={port}", "--headless")
    env = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    version = json.loads((folder / "package.json").read_text())["version"]
    return Subject("portkey", version, (Row("Portkey gateway", "bench", headers=headers),), command, env, warm_up=5000)


def _installed(peer: str, package: str) -> str:
    """The version of a package in a peer's own environment."""
    for site in (PEERS / peer / "lib").glob("python*/site-packages"):
        for found in importlib.metadata.distributions(name=package, path=[str(site)]):
            return found.version
    return "unknown"


SUBJECTS = {
    "direct": direct,
    "nginx": nginx,
    "tensorzero": tensorzero,
    "tensorzero-limited": tensorzero_limited,
    "gateway": gateway,
    "gateway-traced": gateway_traced,
    "gateway-limited": gateway_limited,
    "portkey": portkey,
    "litellm": litellm,
}
