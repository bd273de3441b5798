"""After a rotation of `records.encryption_keys`: what the lake's files hold of prompts and answers, under the first key."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

from gateway.lake.lake import Lake
from gateway.records.contents import Contents
from gateway.records.rewrapping import Rewrapped
from gateway.records.rows import place_of


def rewrap_lake(lake: Lake, contents: Contents) -> Rewrapped:
    """Blocking; safe to break off and to repeat: each file is written anew, whole, or stays. What was kept in clear is
    sealed too. Whoever fills the lake waits meanwhile.

    Raises StoreUnavailable, LakeUnavailable and LeaseLost.
    """
    told = Rewrapped()
    lake.open(by_force=True)
    for file in lake.manifest.live("contents"):
        changed = 0
        for table in lake.read(file, ["call_id", "content"]):
            lake.manifest.keep()
            for kept, new in _rewrapped(contents, table):
                changed += new is not None and new != kept
                told.lost += new is None
        if changed:
            lake.rewrite([file], partial(_resealed, contents))
            told.changed += changed
    lake.manifest.release()
    return told


def _rewrapped(contents: Contents, table: pa.Table) -> list[tuple[bytes, bytes | None]]:
    """Each content, and as it is under the first key: None where no key opens it."""
    rows = zip(table.column("call_id").to_pylist(), table.column("content").to_pylist(), strict=True)
    return [(kept, contents.rewrapped(kept, place_of(call_id))) for call_id, kept in rows]


def _resealed(contents: Contents, table: pa.Table) -> pa.Table:
    new = [kept if sealed is None else sealed for kept, sealed in _rewrapped(contents, table)]
    for name, values in (("content", new), ("sealed", [Contents.is_sealed(one) for one in new])):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return table
