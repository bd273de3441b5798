"""What a moderation endpoint holds of texts, and what happens when it is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from upstream.guard_models import GuardServer

from gateway.guard_http import HttpPosts
from guardrails.checks.moderation import Moderation
from guardrails.outside import Post
from guardrails.text_checks import CheckUnavailable, Context

_INPUT = Context("input")


@pytest.fixture
def server() -> Iterator[GuardServer]:
    with GuardServer() as server:
        yield server


@pytest.fixture
async def post(server: GuardServer) -> AsyncIterator[Post]:
    posts = HttpPosts()
    yield posts.post(f"{server.root}/v1/moderations", {}, 5.0)
    await posts.aclose()


async def _found(check: Moderation, *texts: str) -> list[list[tuple[str, float]]]:
    return [[(finding.kind, finding.score) for finding in found] for found in await check.judge(texts, _INPUT)]


async def test_what_the_endpoint_holds_is_found_with_its_score(post: Post, server: GuardServer) -> None:
    texts = ("plain", "violence", "", "self-harm and harassment", "\ud800")
    found = await _found(Moderation(post), *texts)
    assert found == [[], [("violence", 0.9)], [], [("harassment", 0.9), ("self-harm/intent", 0.9)], []]
    assert [seen.body for seen in server.requests] == [
        {"model": "omni-moderation-latest", "input": ["plain", "violence", "self-harm and harassment", "?"]}
    ]


async def test_thresholds_stand_above_what_the_endpoint_holds(post: Post) -> None:
    assert await _found(Moderation(post, thresholds={"violence": 0.95}), "violence", "harassment") == [
        [], [("harassment", 0.9)],
    ]  # fmt: skip
    assert await _found(Moderation(post, thresholds={"violence": 0.005}, others=False), "plain", "harassment") == [
        [("violence", 0.01)], [("violence", 0.01)],
    ]  # fmt: skip


async def test_many_texts_go_in_batches(post: Post, server: GuardServer) -> None:
    found = await _found(Moderation(post), *["violence"] * 70)
    assert found == [[("violence", 0.9)]] * 70
    assert [len(seen.body["input"]) for seen in server.requests] == [32, 32, 6]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: [],
        lambda answer: {"results": []},
        lambda answer: {"results": [1]},
        lambda answer: {"results": [{"flagged": False}]},
        lambda answer: {"results": [{"flagged": False, "categories": {}, "category_scores": {"x": "high"}}]},
        lambda answer: {"results": [{"flagged": False, "categories": {}, "category_scores": {"x": True}}]},
        lambda answer: {"results": [{"flagged": True, "categories": {}, "category_scores": {"<script>": 1}}]},
    ],
)
async def test_an_answer_of_another_shape_is_no_answer(post: Post, server: GuardServer, spoil: Any) -> None:
    server.spoil = spoil
    with pytest.raises(CheckUnavailable, match="moderation endpoint"):
        await _found(Moderation(post), "plain")


async def test_an_unknown_category_is_told(post: Post) -> None:
    with pytest.raises(CheckUnavailable, match="`violenze`"):
        await _found(Moderation(post, thresholds={"violenze": 0.5}), "plain")


async def test_an_endpoint_that_fails_or_stalls_is_unavailable(post: Post, server: GuardServer) -> None:
    server.status = 500
    with pytest.raises(CheckUnavailable, match="500"):
        await _found(Moderation(post), "plain")
    server.stalls = True
    posts = HttpPosts()
    hasty = posts.post(f"{server.root}/v1/moderations", {}, 0.05)
    with pytest.raises(CheckUnavailable, match="too long"):
        await _found(Moderation(hasty), "plain")
    await posts.aclose()


def test_settings_that_find_nothing_are_refused() -> None:
    async def post(body: Any) -> Any:
        raise AssertionError("asked")

    with pytest.raises(ValueError, match="from 0 to 1"):
        Moderation(post, thresholds={"violence": 2})
    with pytest.raises(ValueError, match="nothing"):
        Moderation(post, others=False)
    versions = {
        Moderation(post).version,
        Moderation(post, "x").version,
        Moderation(post, thresholds={"a": 0.1}).version,
    }
    assert len(versions) == 3
