"""The section `queue` of a provider: how much its server does at a time, and who waits for it how long."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.config.quantities import Duration
from gateway.config.section import Section

_Tenant = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ServerQueue(Section):
    """A fair queue in front of a server of your own.

    `concurrency`: calls that it gets at a time, of all its models together and of all workers of this gateway.
    `max_length`: calls that wait at most; `max_wait`: how long one waits at most. What would wait longer is refused at
    once. `shares`: of the server's time, where tenants wait for it; a tenant that is not named has 1.
    """

    concurrency: Annotated[int, Field(ge=1, le=100_000)]
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    max_wait: Duration = 10.0
    shares: dict[_Tenant, Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)]] = {}
