"""How the record store is kept up to date: the spool between the calls and the database."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.quantities import Duration, Size
from gateway.config.section import Section


class Spool(Section):
    """The records of calls that the store does not have yet, in `data_dir`/spool.

    `when_full`: what happens once `max_bytes` of them wait, or the disk takes none: `drop` loses records and counts
    them, `refuse` answers new calls with 503. It is `refuse` with `durability: strict`, else `drop`.
    """

    max_bytes: Annotated[Size, Field(ge=100_000)] = 1_000_000_000
    when_full: Literal["drop", "refuse"] | None = None


class Retention(Section):
    """For how long a call's record is kept, and for how long what was said in it, where that is recorded at all."""

    calls: Duration | Literal["forever"] = "forever"
    content: Duration | Literal["forever"] = "forever"
