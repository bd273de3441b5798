"""Azure OpenAI is OpenAI's API under other paths and credentials.

https://learn.microsoft.com/en-us/azure/ai-services/openai/reference and …/openai/api-version-lifecycle
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote


def v1_path(path: bytes, model: str) -> bytes:
    """The v1 API: no version, and the model's name is the deployment's."""
    return b"/openai/v1" + path


def deployment_path(version: str, deployments: Mapping[str, str]) -> Callable[[bytes, str], bytes]:
    """The versioned API: a deployment in the path. Models that `deployments` has not are deployments' own names."""

    def path(endpoint: bytes, model: str) -> bytes:
        deployment = quote(deployments.get(model, model), safe="-._~")
        return (
            f"/openai/deployments/{deployment}".encode("ascii") + endpoint + f"?api-version={version}".encode("ascii")
        )

    return path
