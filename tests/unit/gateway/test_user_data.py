"""What an erasure's receipt promises of the lake is what will be done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.user_data import UserData


@pytest.mark.parametrize(("lake", "promised"), [(True, "within seconds"), (False, "no lake any more")])
async def test_rows_that_nobody_will_remove_are_said_to_stay(lake: bool, promised: str) -> None:
    async def purged(what: object) -> int:
        return 0

    def receipt(tenant: str, user: str, erased: dict[str, int], left: dict[str, str]) -> dict[str, str]:
        return left

    records: Any = SimpleNamespace(
        erase=lambda tenant, user: {}, lake_waits=lambda: True, wipe=lambda: None, keep_receipt=receipt
    )
    known: Any = SimpleNamespace(remove=lambda *who: False)
    journal: Any = SimpleNamespace(flush=lambda: True)
    entities: Any = None
    actor: Any = SimpleNamespace()
    left: Any = await UserData(records, known, journal, purged, None, entities, None, lake=lake).erase(
        "a", "jo", actor, features=False
    )
    assert promised in left["lake"]
