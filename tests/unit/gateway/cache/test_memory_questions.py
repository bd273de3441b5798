"""The store in memory is, whatever comes in which order, a list of answers that is looked through one by one."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache.memory_questions import MemoryQuestions
from gateway.cache.protocol import Kept, Origin, Purge
from gateway.cache.questions import EVERYBODY, Asked, KeptAnswer
from gateway.chunks import Chunk

MOST = 12
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["keep", "keep", "keep", "purge", "later", "tidy"]), st.integers(0, 15), st.integers(0, 2),
        st.sampled_from([EVERYBODY, "ada"]),
    ),
    max_size=60,
)  # fmt: skip


@settings(deadline=None)
@given(STEPS)
def test_it_holds_what_a_plain_list_would(steps: list[tuple[str, int, int, str]]) -> None:
    now = 0.0
    store = MemoryQuestions(MOST, clock=lambda: now)
    plain: list[tuple[KeptAnswer, float]] = []  # the oldest first

    async def run() -> None:
        nonlocal now, plain
        for what, number, partition, audience in steps:
            if what == "keep":
                angle = number / 10
                kept = Kept(Chunk(b"{}"), None, now, 5.0, None, Origin(f"m{number % 3}", "t"))
                answer = KeptAnswer(f"{number:02x}", str(now), f"p{partition}", audience, (), now + 5, kept)
                await store.keep(answer, [np.cos(angle), np.sin(angle)])
                plain = [each for each in plain if (each[0].partition, each[0].key) != (answer.partition, answer.key)]
                plain = [*plain, (answer, angle)][-MOST:]
            elif what == "purge":
                assert await store.purge(Purge(model=f"m{number % 3}")) == sum(
                    each[0].kept.origin.model == f"m{number % 3}" for each in plain
                )
                plain = [each for each in plain if each[0].kept.origin.model != f"m{number % 3}"]
            elif what == "later":
                now += 2
            else:
                await store.tidy()
                plain = [each for each in plain if each[0].expires > now]
            assert await store.size() == len(plain)
            for asks in ("ada", "bob"):
                found = await store.alike(Asked("?", f"p{partition}", asks), [1.0, 0.0], 0.5)
                wanted = [
                    (float(np.cos(angle)), answer.key)
                    for answer, angle in plain
                    if answer.partition == f"p{partition}" and answer.audience in (EVERYBODY, asks)
                    and answer.expires > now and np.cos(angle) >= 0.5
                ]  # fmt: skip
                assert [each.answer.key for each in found] == [key for _, key in sorted(wanted, reverse=True)][:5]

    asyncio.run(run())
