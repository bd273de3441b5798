"""What the lake needs of the configuration. Loads no heavy library."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.models import Configuration


def lake_url(configuration: Configuration) -> str:
    assert configuration.lake is not None, "asked only where there is a lake"
    return configuration.lake.url or (configuration.data_dir / "lake").as_uri()


def lake_options(configuration: Configuration) -> dict[str, str]:
    """The object store's own."""
    assert configuration.lake is not None, "asked only where there is a lake"
    return {name: value.get_secret_value() for name, value in configuration.lake.options.items()}
