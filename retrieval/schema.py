"""How a collection is laid out in Milvus: rows of sections, and beside them the records of whole documents.

A section's row is found by searches only while the record of its document names the row's version: that is what makes
a replacement one step, whatever number of rows it takes. Records live under a tenant that no reader can have.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymilvus import DataType, Function, FunctionType, MilvusClient

from retrieval.expressions import token_set
from retrieval.passages import RetrievalUnavailable

FORMAT = 2
LONGEST_TEXT = 16_000  # characters; Milvus counts 65,535 bytes
_MOST_ELEMENTS = 4_096  # that an array can have
_NEWEST = (99, 0)

SECTION_FIELDS = (
    "tenant", "document_id", "version", "section_id", "position", "title", "url", "heading", "text", "body_at",
    "sensitivity", "attributes",
)  # fmt: skip

_TOKEN_SETS = ("readers", "attribute_tokens")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How texts become vectors; a collection's vectors mean something to this recipe alone."""

    model: str
    dimension: int
    query_prefix: str = ""
    document_prefix: str = ""

    def __str__(self) -> str:
        prefixes = [f"{name} prefix {text!r}" for name, text in (
            ("query", self.query_prefix), ("document", self.document_prefix)) if text]  # fmt: skip
        return ", ".join((f"{self.model} in {self.dimension} dimensions", *prefixes))

    def physical(self, collection: str) -> str:
        """The name in Milvus of a collection made by this recipe, in this format."""
        parts = [FORMAT, self.model, self.dimension, self.query_prefix, self.document_prefix]
        return f"{collection}__{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]}"


def is_of(physical: str, collection: str) -> bool:
    """Whether this name in Milvus is a form of the collection: of this or another recipe, or of the first format."""
    name, _, digest = physical.rpartition("__")
    return physical == collection or (
        name == collection and len(digest) == 8 and set(digest) <= set("0123456789abcdef")
    )


def has_arrays(described: Mapping[str, Any]) -> bool:
    """Whether the collection keeps its token sets as arrays, by what Milvus tells of it."""
    return any(field["name"] in _TOKEN_SETS and field["type"] == DataType.ARRAY for field in described["fields"])


def with_arrays(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row for a collection that has arrays."""
    return {**row, **{name: [each for each in row[name].split("|") if each] for name in _TOKEN_SETS}}


def with_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as every other part of this library knows it."""
    return {**row, **{name: token_set(row[name]) for name in _TOKEN_SETS if isinstance(row.get(name), list)}}


def create(client: MilvusClient, name: str, dimension: int, *, keywords: bool, exact: bool, timeout: float) -> None:
    """Make the collection. `keywords`: with a BM25 index; raises RetrievalUnavailable where the server has none.

    `exact` compares with every vector. Milvus Lite would choose HNSW, which under a filter, or among vectors that are
    alike, leaves out rows that should be found; and its searches take most of their time elsewhere.

    A server before 2.4 finds no token inside a text (its LIKE knows prefixes only), so that its token sets are arrays.
    And it upserts into the partition of the primary key, where nobody looks for the tenant: no partition key there
    (https://github.com/milvus-io/milvus/pull/30772). Tenants are kept apart by the clause of every read, as anywhere.
    """
    version = _NEWEST if exact else server_version(client, timeout)
    if keywords and version < (2, 5):
        raise RetrievalUnavailable(
            f"Milvus {version[0]}.{version[1]} has no keyword search, 2.5 has: set `bm25: false`, and `mode: dense`"
        )
    arrays = version < (2, 4)
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("tenant", DataType.VARCHAR, max_length=300, is_partition_key=not arrays)
    for field, longest in (("document_id", 4_200), ("version", 64), ("section_id", 4_300), ("title", 4_000)):
        schema.add_field(field, DataType.VARCHAR, max_length=longest)
    for field, longest in (("url", 4_200), ("heading", 16_000), ("sensitivity", 64), ("text_hash", 64)):
        schema.add_field(field, DataType.VARCHAR, max_length=longest)
    schema.add_field("text", DataType.VARCHAR, max_length=65_535, enable_analyzer=keywords)
    for field, longest in zip(_TOKEN_SETS, (65_535, 2_000), strict=True):
        if arrays:
            text = {"element_type": DataType.VARCHAR, "max_length": 32}
            schema.add_field(field, DataType.ARRAY, max_capacity=_MOST_ELEMENTS, **text)
        else:
            schema.add_field(field, DataType.VARCHAR, max_length=longest)
    schema.add_field("attributes", DataType.JSON)
    schema.add_field("position", DataType.INT64)
    schema.add_field("body_at", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    index = MilvusClient.prepare_index_params()
    index.add_index("vector", index_type="FLAT" if exact else "AUTOINDEX", metric_type="COSINE")
    if keywords:
        schema.add_field("keywords", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(
            Function(
                name="bm25",
                function_type=FunctionType.BM25,
                input_field_names=["text"],
                output_field_names=["keywords"],
            )
        )
        index.add_index("keywords", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection(name, schema=schema, index_params=index, timeout=timeout)


def server_version(client: MilvusClient, timeout: float) -> tuple[int, int]:
    """The server's, such as (2, 5); a server that tells none is taken for a new one."""
    told = re.search(r"(\d+)\.(\d+)", client.get_server_version(timeout=timeout))
    return (int(told[1]), int(told[2])) if told else _NEWEST


def row_id(*parts: str | int) -> str:
    """One name of fixed length for each section of each version, whatever stands in the parts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def blank(dimension: int) -> dict[str, Any]:
    """A row that is no section: every field is there, and its vector is near nothing in particular."""
    texts = ("document_id", "version", "section_id", "title", "url", "sensitivity", "text_hash", "text", "readers")
    return {
        **dict.fromkeys((*texts, "attribute_tokens"), ""),
        "heading": "[]",
        "attributes": {},
        "position": -1,
        "body_at": 0,
        "vector": [1.0] + [0.0] * (dimension - 1),
    }
