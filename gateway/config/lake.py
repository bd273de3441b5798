"""The lake of finished calls, and what is watched for drift in it."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from gateway.config.quantities import Duration, Size
from gateway.config.section import Credential, Section

Share = Annotated[float, Field(ge=0, le=1)]


_ARROWS = frozenset({"file", "s3", "gs"})  # pyarrow's own


def _fsspecs() -> list[str]:
    """The schemes that fsspec has a package for. Imported here: only a lake somewhere else asks."""
    try:
        import fsspec
    except ImportError:
        raise ValueError("needs fsspec: pip install 'rag-gateway[lake]'") from None
    return list(fsspec.available_protocols())


def _lake_url(value: str) -> str:
    """Raises ValueError, which never repeats the URL: it may hold a secret."""
    parts = urlsplit(value)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a URL has no user, query or fragment here; credentials go into lake.options")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.strip("/"):
            raise ValueError("a local folder is written file:///var/lib/rag-gateway/lake")
    elif not parts.scheme or not parts.netloc:
        raise ValueError("should be file:///FOLDER, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or one of fsspec's")
    elif parts.scheme not in _ARROWS and parts.scheme not in _fsspecs():
        raise ValueError(f"nothing knows the scheme {parts.scheme}: file, s3, gs, or one of fsspec's")
    return value.rstrip("/")


LakeUrl = Annotated[str, AfterValidator(_lake_url)]


class Lake(Section):
    """Finished calls as Parquet files, partitioned by day and tenant, written by a process of its own.

    `url` is `lake` in `data_dir` where none is given. New records come in `every` so often; small files are merged up to
    `file_size`. `content: on` keeps there, too, what `records.content` keeps of prompts and answers. `vectors` is the
    share of calls with recorded content whose question is embedded, for drift. `refusals` are more phrases by which an
    answer refuses. `options` are the object store's: endpoint_override, region, access_key, secret_key, …
    """

    url: LakeUrl | None = None
    every: Duration = 60.0
    file_size: Annotated[Size, Field(ge=10_000)] = 128_000_000
    content: Literal["on", "off"] = "off"
    vectors: Share = 0.0
    refusals: list[Annotated[str, Field(min_length=3, max_length=200)]] = []
    options: dict[Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")], Credential] = {}


class DriftThresholds(Section):
    """The smallest effects that count, from 0 (the same) to 1 (nothing in common)."""

    input: Share = 0.1
    retrieval: Share = 0.15
    features: Share = 0.2
    output: Share = 0.15
    concept: Share = 0.15


class Drift(Section):
    """Each model's last `window` compared with the `reference` before it, `every` so often.

    `alpha`: the share of comparisons without any change that may ring, over all that is compared at once. Nothing is
    said of a model with fewer than `min_calls` calls in either of the two.
    """

    every: Duration = 3_600.0
    window: Duration = 86_400.0
    reference: Duration = 7 * 86_400.0
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    min_calls: Annotated[int, Field(ge=30)] = 100
    thresholds: DriftThresholds = DriftThresholds()
