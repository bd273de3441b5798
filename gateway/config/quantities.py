"""Durations and sizes as people write them: 250ms, 5s, 10m, 1h, 30d; 512kB, 20MB."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_DURATION = r"^[0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h|d)$"
_SIZE = r"^[0-9]{1,18}(\.[0-9]{1,9})?\s*([kKmMgG][iI]?)?[bB]$"
_NUMBER_AND_UNIT = re.compile(r"([0-9.]+)\s*([a-zA-Z]+)")


def duration(value: object) -> float:
    """Seconds, from text such as `5s`. Raises ValueError, saying how it is written."""
    if isinstance(value, str) and (parts := _parts(value, _DURATION)):
        return float(parts[0]) * _SECONDS[parts[1]]
    raise ValueError("a duration is a number with its unit: 250ms, 5s, 10m, 1h or 30d")


def duration_text(seconds: float) -> str:
    """A duration as people write it, in the largest unit that keeps it whole: 600.0 is 10m."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:g}ms"


def _size(value: object) -> object:
    if isinstance(value, str) and (parts := _parts(value, _SIZE)):
        return int(float(parts[0]) * _BYTES[parts[1].lower()])
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)  # from an environment variable
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("a size is a number with its unit: 512kB, 20MB or 1GiB")


def _parts(text: str, pattern: str) -> tuple[str, str] | None:
    """The number and its unit, where the whole of `text` fits `pattern`."""
    if re.fullmatch(pattern, text) is None or (found := _NUMBER_AND_UNIT.fullmatch(text)) is None:
        return None
    return found[1], found[2]


Duration = Annotated[
    float, BeforeValidator(duration), Field(gt=0), WithJsonSchema({"type": "string", "pattern": _DURATION})
]
"""Seconds, written with a unit."""

Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _SIZE}, {"type": "integer"}]}),
]
"""Bytes, written with a unit or as a plain number."""
