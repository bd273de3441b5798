"""Durations and sizes as people write them: 250ms, 5s, 10m, 1h, 30d; 512kB, 20MB."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_DURATION = r"^\d+(\.\d+)?(ms|s|m|h|d)$"
_SIZE = r"^\d+(\.\d+)?\s*(?i:b|kb|mb|gb|kib|mib|gib)$"


def _duration(value: object) -> object:
    if isinstance(value, str) and re.match(_DURATION, value):
        number, unit = re.fullmatch(r"([\d.]+)(\w+)", value).groups()  # type: ignore[union-attr]  # matched above
        return float(number) * _SECONDS[unit]
    if isinstance(value, float) and not isinstance(value, bool):
        return value  # a default, already in seconds
    raise ValueError("a duration is a number with its unit: 250ms, 5s, 10m, 1h or 30d")


def duration_text(seconds: float) -> str:
    """A duration as people write it, in the largest unit that keeps it whole: 600.0 is 10m."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:g}ms"


def _size(value: object) -> object:
    if isinstance(value, str) and re.match(_SIZE, value):
        number, unit = re.fullmatch(r"([\d.]+)\s*(\w+)", value).groups()  # type: ignore[union-attr]  # as above
        return int(float(number) * _BYTES[unit.lower()])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("a size is a number with its unit: 512kB, 20MB or 1GiB")


Duration = Annotated[
    float, BeforeValidator(_duration), Field(gt=0), WithJsonSchema({"type": "string", "pattern": _DURATION})
]
"""Seconds, written with a unit."""

Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _SIZE}, {"type": "integer"}]}),
]
"""Bytes, written with a unit or as a plain number."""
