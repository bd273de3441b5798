"""docs/lake.md tells the columns that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from gateway.lake.schema import TABLES, VERSION

DOCUMENT = Path(__file__).parents[4] / "docs" / "lake.md"


def spelled(type_: pa.DataType) -> str:
    """As the document names types."""
    if pa.types.is_list(type_):
        return f"list of {spelled(type_.value_type)}"
    if pa.types.is_struct(type_):
        return "{" + ", ".join(field.name for field in type_) + "}"
    kinds = {
        "text": pa.types.is_string, "integer": pa.types.is_integer, "number": pa.types.is_floating,
        "boolean": pa.types.is_boolean, "time": pa.types.is_timestamp, "bytes": pa.types.is_binary,
    }  # fmt: skip
    return next(name for name, holds in kinds.items() if holds(type_))


def lines(table: str) -> list[str]:
    return [f"| `{one.name}` | {spelled(one.type)} | {one.meaning} |" for one in TABLES[table].columns]


def test_every_column_is_documented_as_it_is() -> None:
    text = DOCUMENT.read_text("utf-8")
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    told = {part.partition("\n")[0].strip("` "): part for part in sections}
    for name in TABLES:
        found = [line for line in told[name].splitlines() if line.startswith("| `")]
        assert found == lines(name)
    assert f"version {VERSION}" in text
