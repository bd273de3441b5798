"""Who makes keys gives away no more templates than their own key may name."""

from __future__ import annotations

import pytest

from gateway.access.granting import bounded
from gateway.errors import Forbidden
from gateway.values import Caller

BOUND = Caller("admin", tenant="a", role="admin", scope="tenant", prompts=frozenset({"summary", "support"}))


def test_what_is_left_out_is_as_for_oneself() -> None:
    assert bounded(BOUND, {})["prompts"] == ["summary", "support"]
    assert bounded(BOUND, {"prompts": ["support"]})["prompts"] == ["support"]
    assert "prompts" not in bounded(Caller("admin", role="admin"), {})


@pytest.mark.parametrize("prompts", [None, ["support", "secret"]])
def test_more_is_refused(prompts: list[str] | None) -> None:
    with pytest.raises(Forbidden, match="may not use all of these prompt templates"):
        bounded(BOUND, {"prompts": prompts})
