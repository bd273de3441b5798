"""Whose rows a key may push."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from features.definitions import Definitions, Feature, View
from gateway.api.features import PushRequest, _of_tenant
from gateway.config.models import Configuration
from gateway.errors import Forbidden

VIEW = View("buyers", ("user_id",), None, (Feature("tier", "String", "buyers"),), "buyers_now")
NUMBERED = Definitions("shop", {}, {"buyers": VIEW}, {"user_id": "INT64"})
OWNED = cast(
    Configuration,
    SimpleNamespace(features=SimpleNamespace(entities={"user_id": "{user}"}), models={}, feature_owner="acme"),
)


def rows(user: Any) -> list[dict[str, Any]]:
    pushed = PushRequest(push_source="buyers_now", rows=[{"user_id": user, "tier": "gold"}])
    return _of_tenant(NUMBERED, OWNED, pushed, "acme", "5")


def test_a_key_of_one_user_writes_of_that_one_however_the_name_is_written() -> None:
    assert [row["user_id"] for user in ("5", 5) for row in rows(user)] == ["5", 5]
    for another in ("6", 6, 5.5, True, None, ["5"], "05"):
        with pytest.raises(Forbidden, match="its own user alone"):
            rows(another)
