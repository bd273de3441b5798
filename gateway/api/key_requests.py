"""What requests about keys say."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from gateway.config.access import KeyName, Moment, StoredGrants, TenantName
from gateway.config.quantities import Duration, duration

Overlap = Annotated[
    float,
    BeforeValidator(duration),
    Field(ge=0, le=2_592_000),
    WithJsonSchema({"type": "string", "examples": ["0s", "1h", "7d"]}),
]


class _Life(BaseModel):
    """How long a key lives: until `expires_at`, or for `expires_in` from now; for good where neither is given."""

    model_config = ConfigDict(extra="forbid")

    expires_at: Moment | None = None
    expires_in: Duration | None = None

    @model_validator(mode="after")
    def _one_end(self) -> _Life:
        if self.expires_at is not None and self.expires_in is not None:
            raise ValueError("say `expires_at` or `expires_in`, not both")
        return self

    @property
    def end(self) -> float | None:
        return time.time() + self.expires_in if self.expires_in is not None else self.expires_at


class NewKey(StoredGrants, _Life):
    """A key to make. What is left out is not limited; `scope` says over whom its `role` is."""

    name: KeyName | None = None
    tenant: TenantName | None = None


class KeyChange(StoredGrants, _Life):
    """What shall be otherwise; the rest stays as it is."""

    name: KeyName | None = None


class Rotation(BaseModel):
    """`overlap`: how long the secrets before the new one go on working."""

    model_config = ConfigDict(extra="forbid")

    overlap: Overlap = 3_600.0


class Revocation(BaseModel):
    """`reason` is kept in the audit log."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=1000)] = ""
