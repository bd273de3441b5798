"""Who comes first where calls wait, as keys say it; and who may say so."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.access.callers import configured
from gateway.access.granting import bounded
from gateway.config.access import Key
from gateway.errors import Forbidden
from gateway.values import Caller


def key(**more: Any) -> Key:
    return Key.model_validate({"name": "batch", "hash": "sha256:" + "0" * 64, **more})


@pytest.mark.parametrize(
    ("written", "has"), [({}, "normal"), ({"priority": "low"}, "low"), ({"priority": "high"}, "high")]
)
def test_a_key_has_the_priority_that_is_written(written: dict[str, Any], has: str) -> None:
    caller = configured(key(**written), {})
    assert isinstance(caller, Caller)
    assert caller.priority == has


def test_there_are_three_of_them() -> None:
    with pytest.raises(ValidationError, match="'high', 'normal' or 'low'"):
        key(priority="urgent")


def test_who_administers_a_tenant_gives_no_priority_above_its_own() -> None:
    admin = Caller("admin", "a", role="admin", scope="tenant")
    assert bounded(admin, {"priority": "low"})["priority"] == "low"
    with pytest.raises(Forbidden, match="priority is `normal`"):
        bounded(admin, {"priority": "high"})
    low = Caller("admin", "a", role="admin", scope="tenant", priority="low")
    assert bounded(low, {})["priority"] == "low"
    anywhere = Caller("admin", "a", role="admin", scope="gateway", priority="low")
    assert bounded(anywhere, {"priority": "high"})["priority"] == "high"
