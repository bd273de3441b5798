"""What the gateway tells the process that fills the lake, and what that one tells back: a line of JSON each."""

from __future__ import annotations

import secrets
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from gateway.drift.settings import Level, Watching, watching
from gateway.lake.settings import lake_options, lake_url

if TYPE_CHECKING:
    from gateway.config.models import Configuration


class Embedder(msgspec.Struct, frozen=True):
    """The gateway's own embedding process."""

    socket: str
    model: str
    dimension: int
    prefix: str


class Settings(msgspec.Struct, frozen=True):
    """`keys` open recorded content; they come through a pipe and are in no file, argument or variable. `holder` is the
    gateway whose process it is: one that is started again takes over at once from the one before.
    """

    holder: str
    store: str
    url: str
    options: dict[str, str]
    every: float
    file_size: int
    content: bool
    refusals: list[str]
    calls_kept: float | None
    content_kept: float | None
    keys: list[str]
    vectors: float = 0.0
    embedder: Embedder | None = None
    drift: Watching | None = None


class Told(msgspec.Struct, frozen=True):
    """`lag` in seconds: how old the oldest record is that the lake does not have. None: not told this time."""

    holds: bool = False
    lag: float = 0.0
    rows: int = 0
    failed: int = 0
    levels: list[Level] | None = None


def settings_of(configuration: Configuration) -> Settings:
    """Raises ImportError for a library that is not installed: its process would only die of it, again and again."""
    for library in ("pyarrow", "duckdb", "scipy") if configuration.drift is not None else ("pyarrow",):
        if find_spec(library) is None:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
    records, lake, drift = configuration.records, configuration.lake, configuration.drift
    assert lake is not None, "asked only where there is a lake"
    assert records.url is not None, "loading fills in the default"
    embedder = None
    if lake.vectors:
        from gateway.knowledge_service import knowledge_settings

        known = knowledge_settings(configuration)
        embedder = Embedder(
            str(known.embedding_socket), known.embedding_model, known.embedding_dimension, known.query_prefix
        )
    calls, content = records.retention.calls, records.retention.content
    return Settings(
        holder=secrets.token_hex(8),
        store=records.url,
        url=lake_url(configuration),
        options=lake_options(configuration),
        every=lake.every,
        file_size=lake.file_size,
        content=lake.content == "on",
        refusals=list(lake.refusals),
        calls_kept=None if calls == "forever" else calls,
        content_kept=None if content == "forever" else content,
        keys=[key.get_secret_value() for key in records.encryption_keys],
        vectors=lake.vectors,
        embedder=embedder,
        drift=None if drift is None else watching(drift),
    )
