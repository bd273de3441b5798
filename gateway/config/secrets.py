"""What of a configuration must never be told: every value that was written as a secret, and passwords in URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr


def secrets_of(configuration: BaseModel) -> set[str]:
    """The values themselves; handle with care."""
    return {secret for secret in _within(configuration) if secret}


def _within(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _within(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _within(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _within(item)
    elif isinstance(value, str) and "://" in value and "@" in value:
        try:
            password = urlsplit(value).password
        except ValueError:
            return
        if password:
            yield from {password, unquote(password)}
