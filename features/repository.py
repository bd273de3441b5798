"""A Feast repository as the gateway's data folder uses it: its settings, its definitions, applied or not.

No Feast is imported here: it runs in a process of its own, which is paid once for each content of the repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from features.definitions import Definitions, from_json, to_json
from features.vector import FeaturesUnavailable

_PATIENCE = 120.0  # seconds for Feast to read and apply a repository
_SOCKET = 5.0  # seconds that a Redis is waited for at most, by whoever has no deadline of its own


class WrongDefinitions(FeaturesUnavailable):
    """The repository's own fault, which no second try mends."""


@dataclass(frozen=True, slots=True)
class Repository:
    """`online_store`: "repo", as its feature_store.yaml says; "sqlite", in `data_dir`; a redis:// URL; or the http://
    URL of a Feast feature server. `apply`: whether its definitions are applied to its registry where they are new.
    """

    folder: Path
    data_dir: Path
    online_store: str = "repo"
    apply: bool = True

    @property
    def server(self) -> str | None:
        """The feature server's URL, where one is asked."""
        return self.online_store if self.online_store.startswith(("http://", "https://")) else None

    def settings(self) -> dict[str, Any]:
        """What Feast is configured with. Raises OSError or ValueError for a feature_store.yaml that can't be read."""
        text = (self.folder / "feature_store.yaml").read_text()
        text = text.replace("${FEATURES_DATA_DIR}", str(self.data_dir.resolve()))
        try:
            settings = yaml.safe_load(os.path.expandvars(text))
        except yaml.YAMLError as error:
            raise ValueError(f"feature_store.yaml is not valid YAML: {error}") from None
        if not isinstance(settings, dict):
            raise ValueError("feature_store.yaml holds no settings")
        if self.online_store == "sqlite":
            settings["online_store"] = {"type": "sqlite", "path": str(self.data_dir.resolve() / "online.db")}
        elif self.online_store.startswith(("redis://", "rediss://")):
            settings["online_store"] = {"type": "redis", "connection_string": _redis(self.online_store)}
        registry = settings.get("registry")
        registry = {"path": registry} if isinstance(registry, str) else dict(registry or {})
        # Read again by a thread of ours: Feast's own refresh would come in the midst of somebody's read.
        settings["registry"] = {**registry, "cache_ttl_seconds": 0}
        return settings

    def definitions(self, *, apply: bool = False, fresh: bool = False) -> Definitions:
        """What it defines, from the last time where nothing has changed since. Blocking, some seconds otherwise.

        `apply`: also apply them, where the repository is to be applied and is not yet. Raises WrongDefinitions, or
        FeaturesUnavailable where Feast can't say now, a registry being away.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        applies = apply and self.apply and self.server is None  # a server has its own registry
        try:
            settings, fingerprint = self.settings(), self.fingerprint()
        except (OSError, ValueError) as fault:
            raise WrongDefinitions(f"the Feast repository can't be read: {fault}") from None
        kept = self.data_dir / "definitions.json"
        if self.apply and not fresh and (not applies or self._applied() == fingerprint):
            known = _kept(kept, fingerprint)
            if known is not None:
                return known
        found = self._asked(settings, applies)
        _keep(kept, fingerprint, found)
        if applies:
            (self.data_dir / "applied").write_text(fingerprint)
        return found

    def _applied(self) -> str:
        marker = self.data_dir / "applied"
        return marker.read_text() if marker.is_file() else ""

    def fingerprint(self) -> str:
        """Names the content of the repository and where its values are; no credential is in it."""
        digest = hashlib.sha256(self.online_store.split("@")[-1].encode())
        files = [file for file in self.folder.rglob("*") if file.suffix in (".py", ".yaml")]
        for file in sorted(files):
            digest.update(str(file.relative_to(self.folder)).encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()

    def write_settings(self, settings: dict[str, Any]) -> Path:
        """The settings as a file for Feast's own programs."""
        resolved = self.data_dir / f"feature_store.{os.getpid()}.{threading.get_ident()}.yaml"
        resolved.touch(mode=0o600)  # a Redis address may hold a password
        resolved.write_text(yaml.safe_dump(settings))
        return resolved

    def _asked(self, settings: dict[str, Any], applies: bool) -> Definitions:
        resolved = self.write_settings(settings)
        command = [sys.executable, "-m", "features.program", str(self.folder), str(resolved)]
        command += ["--apply"] if applies else [] if self.apply else ["--registry"]
        try:
            done = subprocess.run(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise FeaturesUnavailable(f"Feast did not read {self.folder} within {_PATIENCE:.0f} s") from None
        finally:
            resolved.unlink(missing_ok=True)
        if done.returncode == 0:
            return from_json(done.stdout)
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = lines[-1] if lines else f"status {done.returncode}"
        if done.returncode == 3:
            raise WrongDefinitions(f"the Feast repository {self.folder} is wrong: {said}")
        raise FeaturesUnavailable(f"the Feast repository can't be opened: {said}")


def environment() -> dict[str, str]:
    """For a process that runs Feast: it calls nobody, and leaves no compiled files among the definitions."""
    return {
        **os.environ,
        "FEAST_USAGE": "False",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _redis(url: str) -> str:
    """Feast's own spelling of a Redis address."""
    parts = urlsplit(url)
    options = {"db": parts.path.strip("/") or "0", "socket_timeout": _SOCKET, "socket_connect_timeout": _SOCKET}
    if url.startswith("rediss://"):
        options["ssl"] = "true"
    for name, value in (("username", parts.username), ("password", parts.password)):
        if value is not None:
            options[name] = json.dumps(unquote(value))
    told = ",".join(f"{name}={value}" for name, value in options.items())
    return f"{parts.hostname}:{parts.port or 6379},{told}"


def _kept(file: Path, fingerprint: str) -> Definitions | None:
    try:
        name, _, text = file.read_bytes().partition(b"\n")
        return from_json(text) if name.decode() == fingerprint else None
    except (OSError, ValueError):
        return None


def _keep(file: Path, fingerprint: str, definitions: Definitions) -> None:
    new = file.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    new.write_bytes(fingerprint.encode() + b"\n" + to_json(definitions))
    new.replace(file)
