"""A real Prometheus and a real Alertmanager for tests, with the configuration that the project ships; and who is told."""

from __future__ import annotations

import atexit
import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from gateway_process import free_port, until

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
UNPACKED = ROOT / ".venv" / "services" / "usr"


def program(*names: str) -> str:
    """The first of these that is installed. Raises AssertionError that says how to get them."""
    for name in names:
        if found := shutil.which(name, path=str(UNPACKED / "bin")) or shutil.which(name):
            return found
    raise AssertionError(f"{names[0]} is not here: run `sh tests/services/install.sh`, as `make test` does")


def checked(*command: str) -> str:
    """What a tool says of a file that it finds nothing wrong with."""
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout + told.stderr


@dataclass
class Told:
    """One request that somebody was told of alerts by."""

    path: str
    authorization: str | None
    body: Any


@dataclass
class Receiver:
    """Whoever is told of alerts: a webhook, and in the place of Slack and PagerDuty."""

    told: list[Told] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.told.append(Told(self.path, self.headers.get("authorization"), body))
                answer = b'{"status": "success", "ok": true}'
                self.send_response(202 if "pagerduty" in self.path else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    def alerts(self, path: str = "/alerts", status: str = "firing") -> set[str]:
        """The names that the webhook was told of."""
        bodies = [told.body for told in list(self.told) if told.path == path]
        return {
            alert["labels"]["alertname"] for body in bodies for alert in body["alerts"] if alert["status"] == status
        }


class _Server:
    """A program that serves HTTP, ended at the end."""

    def __init__(self, command: list[str], folder: Path, port: int) -> None:
        self._command, self._folder, self._output = command, folder, folder / "output.txt"
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> _Server:
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=output, cwd=self._folder)
        atexit.register(self.process.kill)
        try:
            until(self._ready, 60, "readiness")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait(60)
        atexit.unregister(self.process.kill)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self._output.read_text()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.url + "/-/ready", timeout=2).status_code == 200
        return False


def alertmanager(folder: Path, receiver: Receiver) -> _Server:
    """As shipped; but that it tells at once, and that all whom it tells are `receiver`."""
    folder.mkdir()
    configuration = yaml.safe_load((CONFIGS / "alertmanager" / "alertmanager.yml").read_text("utf-8"))
    configuration["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    secrets = {"pagerduty.key": "a" * 32, "slack.url": receiver.url + "/slack", "webhook.key": "webhook-canary-3f1"}
    for name, secret in secrets.items():
        (folder / name).write_text(secret)
    (pager, slack, webhook) = (one for one in configuration["receivers"])
    pager["pagerduty_configs"][0] |= {"routing_key_file": "pagerduty.key", "url": receiver.url + "/pagerduty"}
    slack["slack_configs"][0]["api_url_file"] = "slack.url"
    webhook["webhook_configs"][0]["url"] = receiver.url + "/alerts"
    webhook["webhook_configs"][0]["http_config"]["authorization"]["credentials_file"] = "webhook.key"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    for template in (UNPACKED / "share" / "prometheus" / "alertmanager").glob("*.tmpl"):
        shutil.copy(template, folder)  # where tests/services/install.sh has it look for them
    port = free_port()
    command = [program("prometheus-alertmanager", "alertmanager"), "--config.file=alertmanager.yml"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--storage.path=data"]
    return _Server(command, folder, port)


class Prometheus(_Server):
    """As shipped; but that it looks every second, and alerts do not wait."""

    def __init__(self, folder: Path, gateway_url: str, key: str, alertmanager_url: str) -> None:
        folder.mkdir()
        for shipped in (CONFIGS / "prometheus").glob("*.yml"):
            configuration = yaml.safe_load(shipped.read_text("utf-8"))
            change: Callable[[Any, str, str], None] = {"prometheus.yml": _quick}.get(shipped.name, _no_waiting)
            change(configuration, gateway_url, alertmanager_url)
            (folder / shipped.name).write_text(yaml.safe_dump(configuration, sort_keys=False))
        (folder / "gateway.key").write_text(key)
        port = free_port()
        command = [program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        super().__init__([*command, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"], folder, port)

    def query(self, expression: str) -> list[Any]:
        """An instant vector's samples. Raises AssertionError for what is no PromQL."""
        return list(self._get("query", query=expression)["result"])

    def names(self) -> set[str]:
        """Of all series that there are."""
        return set(self._get("label/__name__/values"))

    def targets_up(self) -> bool:
        targets = self._get("targets")["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def firing(self) -> set[str]:
        return {one["labels"]["alertname"] for one in self._get("alerts")["alerts"] if one["state"] == "firing"}

    def _get(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=60).json()
        assert answer["status"] == "success", answer
        return answer["data"]


def _quick(configuration: Any, gateway_url: str, alertmanager_url: str) -> None:
    configuration["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    where = configuration["alerting"]["alertmanagers"][0]["static_configs"][0]
    where["targets"] = [alertmanager_url.removeprefix("http://")]
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [gateway_url.removeprefix("http://")]


def _no_waiting(configuration: Any, *_: str) -> None:
    for group in configuration["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
