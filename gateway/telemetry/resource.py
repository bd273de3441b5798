"""Whose spans and metrics these are: the attributes of the process that sends them.

https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/resource/README.md
"""

from __future__ import annotations

import platform
import uuid
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import OTELResourceDetector

if TYPE_CHECKING:
    from gateway.config.telemetry import Telemetry


def resource_attributes(settings: Telemetry) -> dict[str, str]:
    """The configuration's go before those of the environment (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES), and these
    before our own.
    """
    own = version("rag-gateway")
    attributes = {
        "service.version": own,
        "service.instance.id": _instance(),
        "host.name": platform.node(),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "rag-gateway",  # it encodes OTLP itself
        "telemetry.sdk.version": own,
    }
    attributes |= {name: str(value) for name, value in OTELResourceDetector().detect().attributes.items()}
    name = settings.service_name
    if "service_name" not in settings.model_fields_set:
        name = attributes.get("service.name") or name
    return attributes | settings.resource | {"service.name": name}


@cache
def _instance() -> str:
    """Of this process, in all that it sends."""
    return str(uuid.uuid4())
