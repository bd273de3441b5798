"""Whose spans and metrics these are: the attributes of the process that sends them.

https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/resource/README.md
"""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from gateway.config.telemetry import Telemetry


def resource_attributes(settings: Telemetry, environment: Mapping[str, str]) -> dict[str, str]:
    """The configuration's go before those of the environment's OTEL_RESOURCE_ATTRIBUTES, and these before our own."""
    own = version("rag-gateway")
    attributes = {
        "service.version": own,
        "service.instance.id": _instance(),
        "host.name": platform.node(),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "rag-gateway",  # it encodes OTLP itself
        "telemetry.sdk.version": own,
    }
    attributes |= _read(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    name = settings.service_name
    if "service_name" not in settings.model_fields_set:
        name = environment.get("OTEL_SERVICE_NAME") or attributes.get("service.name") or name
    return attributes | settings.resource | {"service.name": name}


@cache
def _instance() -> str:
    """Of this process, in all that it sends."""
    return str(uuid.uuid4())


def _read(text: str) -> dict[str, str]:
    """`name=value,name=value`, percent-encoded; whatever is not of that form is passed over."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    return {unquote(name.strip()): unquote(value.strip()) for name, mark, value in pairs if mark and name.strip()}
