"""The encryption that the configuration has keys for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.config.section import bytes_of_key

if TYPE_CHECKING:
    from gateway.config.models import Configuration
    from gateway.records.sealing import Seal


def seal_of(configuration: Configuration) -> Seal | None:
    """None without `records.encryption_keys`: what is kept is kept as it is."""
    keys = configuration.records.encryption_keys
    if not keys:
        return None
    from gateway.records.sealing import Seal

    return Seal([bytes_of_key(key) for key in keys])
