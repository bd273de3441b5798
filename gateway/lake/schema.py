"""The lake's tables: their columns, what each means, and the version that every file's metadata says.

A version adds columns and never changes or removes one, so that files of all versions are read together: what an older
one lacks is NULL. Times are UTC, in microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

VERSION = 2
VERSION_KEY = b"rag_gateway.lake.version"
TABLE_KEY = b"rag_gateway.lake.table"

_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())
_TIME = pa.timestamp("us", tz="UTC")
_COUNT = pa.int64()
_NUMBER = pa.float64()


def _structs(**fields: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct([pa.field(name, type_) for name, type_ in fields.items()]))


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: pa.DataType
    meaning: str


@dataclass(frozen=True, slots=True)
class LakeTable:
    """`time` is the column by whose day rows are put into partitions."""

    name: str
    time: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        metadata = {VERSION_KEY: str(VERSION).encode(), TABLE_KEY: self.name.encode()}
        return pa.schema([pa.field(column.name, column.type) for column in self.columns], metadata)


_CALL_ID = Column("call_id", _TEXT, "The call's id.")
_TENANT = Column("tenant", _TEXT, "Whose call it was.")
_USER = Column("user", _TEXT, "The user it was made for, where one was named.")
_STARTED = Column("started_at", _TIME, "When its first byte came in.")
_CALL_STARTED = Column("call_started_at", _TIME, "When the call's first byte came in; NULL in files of version 1.")

CALLS = LakeTable("calls", "started_at", (
    _CALL_ID,
    Column("request_id", _TEXT, "The caller's own id, where there was one; else the call's."),
    Column("answer_id", _TEXT, "The `id` of its answer."),
    _TENANT,
    Column("key_id", _TEXT, "The key's id; NULL for keys of the configuration file."),
    Column("key_name", _TEXT, "The key's name."),
    _USER,
    Column("endpoint", _TEXT, "The operation, like `chat.completions` or `embeddings`."),
    Column("requested_model", _TEXT, "The model as the client wrote it."),
    Column("model", _TEXT, "The public model."),
    Column("target", _TEXT, "Provider and model that answered."),
    Column("served_model", _TEXT, "The model as the provider reported it."),
    _STARTED,
    Column("status", pa.int32(), "The HTTP status."),
    Column("outcome", _TEXT, "`ok`, `error`, `cancelled` or `blocked`."),
    Column("error_code", _TEXT, "The error's code."),
    Column("prompt_tokens", _COUNT, "Tokens in."),
    Column("completion_tokens", _COUNT, "Tokens out."),
    Column("cached_tokens", _COUNT, "Tokens in that the provider had cached."),
    Column("reasoning_tokens", _COUNT, "Tokens out that were reasoning."),
    Column("usage_estimated", pa.bool_(), "Whether the tokens are an estimate."),
    Column("cost", _NUMBER, "USD; NULL where no price is known."),
    Column("cache", _TEXT, "`hit`, `semantic`, `miss` or `off`."),
    Column("cache_age", _NUMBER, "Seconds since a kept answer was made."),
    Column("finish_reason", _TEXT, "Why the answer ended."),
    Column("duration_ms", _NUMBER, "From the first byte in to the last byte out."),
    Column("first_chunk_ms", _NUMBER, "Until the first chunk of the answer."),
    Column("trace_id", _TEXT, "The trace."),
    Column("revision", _TEXT, "The configuration's revision."),
    Column("sensitivity", _TEXT, "The residency label that was gone by."),
    Column("template", _TEXT, "The prompt template, `name@version`."),
    Column("template_hash", _TEXT, "What the template said, as a digest."),
    Column("arm", _TEXT, "The arm of a model with arms."),
    Column("propensity", _NUMBER, "How likely that arm was to be chosen."),
    Column("purpose", _TEXT, "What a call of the gateway's own was made for."),
    Column("made_for", _TEXT, "The caller's call that it was made for."),
    Column("task", _TEXT, "What a front end asked for beside the conversation, like a title."),
    Column("attempts", _structs(target=_TEXT, outcome=_TEXT, status=pa.int32(), ms=_NUMBER, upstream_id=_TEXT,
                                residency=_TEXT), "Each try at a target."),
    Column("stages", _structs(name=_TEXT, start_ms=_NUMBER, ms=_NUMBER), "Each stage's time."),
    Column("passages", _structs(n=pa.int32(), document_id=_TEXT, version=_TEXT, section_id=_TEXT, collection=_TEXT,
                                score=_NUMBER), "What was found and shown to the model, best first."),
    Column("passage_count", pa.int32(), "How many; NULL where nothing was searched."),
    Column("top_score", _NUMBER, "The best passage's score."),
    Column("feature_service", _TEXT, "Where user features came from."),
    Column("features", _structs(name=_TEXT, value=_TEXT, number=_NUMBER), "The user's features; `number` where it is one."),
    Column("guardrails", _structs(stage=_TEXT, check=_TEXT, action=_TEXT, version=_TEXT, kinds=_TEXTS, would=_TEXT,
                                  failure=_TEXT), "What guardrails found: kinds, never the text."),
    Column("degraded", _TEXTS, "Stages that were passed over because their service was away."),
    Column("left_out", _TEXTS, "Request fields that the target does not take."),
    Column("question_chars", _COUNT, "Length of the last user message, where content is recorded."),
    Column("question_language", _TEXT, "Its language (ISO 639-1), where content is recorded."),
    Column("answer_chars", _COUNT, "Length of the answer, where content is recorded."),
    Column("answer_language", _TEXT, "Its language (ISO 639-1), where content is recorded."),
    Column("refused", pa.bool_(), "Whether the answer refuses or says that it knows nothing, where content is recorded."),
    Column("cited", pa.int32(), "How many passages the answer cites, where content is recorded."),
))  # fmt: skip

FEEDBACK = LakeTable("feedback", "given_at", (
    Column("feedback_id", _COUNT, "Its number."),
    _CALL_ID,
    Column("tenant", _TEXT, "Whose call it was."),
    Column("user", _TEXT, "Who gave it, where that is known."),
    Column("call_user", _TEXT, "The user that the call was made for."),
    Column("given_at", _TIME, "When it was given."),
    Column("score", _NUMBER, "From 0, useless, to 1, just right."),
    Column("label", _TEXT, "One word on it."),
    Column("commented", pa.bool_(), "Whether there is a comment; its text stays in the record store."),
    Column("corrected", pa.bool_(), "Whether there is a correction; its text stays in the record store."),
    _CALL_STARTED,
))  # fmt: skip

QUALITY = LakeTable("quality", "judged_at", (
    _CALL_ID,
    _TENANT,
    Column("user", _TEXT, "The user that the call was made for."),
    Column("judged_at", _TIME, "When it was judged."),
    Column("measure", _TEXT, "What was measured."),
    Column("score", _NUMBER, "From 0, bad, to 1, good."),
    Column("judged_by", _TEXT, "The embedder or model that judged."),
    _CALL_STARTED,
))  # fmt: skip

CONTENTS = LakeTable("contents", "started_at", (
    _CALL_ID,
    _TENANT,
    _USER,
    _STARTED,
    Column("content", pa.binary(), "What was asked, found and answered, as the record store keeps it: JSON, or sealed."),
    Column("sealed", pa.bool_(), "Whether it is encrypted with `records.encryption_keys`."),
))  # fmt: skip

VECTORS = LakeTable("vectors", "started_at", (
    _CALL_ID,
    _TENANT,
    _USER,
    Column("model", _TEXT, "The public model that was asked."),
    _STARTED,
    Column("embedder", _TEXT, "The embedding model."),
    Column("vector", pa.list_(pa.float32()), "The last user message's embedding."),
))  # fmt: skip

TABLES: Mapping[str, LakeTable] = {table.name: table for table in (CALLS, FEEDBACK, QUALITY, CONTENTS, VECTORS)}

NAMED_BY: Mapping[str, tuple[str, ...]] = {
    "calls": ("call_id",), "contents": ("call_id",), "vectors": ("call_id",),
    # A record store that was restored from a backup counts feedback up again from where it was.
    "feedback": ("feedback_id", "call_id"), "quality": ("call_id", "measure"),
}  # fmt: skip
"""What no two rows of a table have in common."""
