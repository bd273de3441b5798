"""What the tests of a real Open WebUI look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
from gateway_process import GatewayProcess
from upstream.vendor import Vendor

KEY = "sk-gw-open-webui-5d1e"


@dataclass(frozen=True, slots=True)
class Room:
    """All that a test looks at."""

    gateway: GatewayProcess
    vendor: Vendor
    url: str

    def calls(self) -> list[dict[str, Any]]:
        """The records of the key's calls, newest first."""
        told = httpx.get(self.gateway.url + "/v1/calls", headers={"authorization": f"Bearer {KEY}"}, timeout=30)
        return [
            dict(httpx.get(f"{self.gateway.url}/v1/calls/{call['id']}", headers=told.request.headers).json())
            for call in told.json()["data"]
        ]
