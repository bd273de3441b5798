"""What a gateway tells of its knowledge while Milvus hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.config.loading import load_text
from gateway.knowledge_service import KnowledgeService

CONFIGURATION = """
providers: {mock: {kind: openai_compatible, base_url: "http://127.0.0.1:9/v1", api_key: x}}
models: {m: {targets: [mock/m]}}
retrieval: {}
"""


class Knowledge:
    """Open; whether it is well is told when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.looks = 0

    async def healthy(self) -> bool:
        self.looks += 1
        await self.go.wait()
        return True


async def test_a_store_that_hangs_is_told_as_away_and_looked_at_once(tmp_path: Path) -> None:
    service = KnowledgeService(load_text(CONFIGURATION, tmp_path / "gateway.yaml").configuration)
    assert await service.state() == "starting"
    knowledge = service._knowledge = Knowledge()  # type: ignore[assignment]  # what is asked of it here
    service._starting = False
    async with asyncio.timeout(60):
        assert set(await asyncio.gather(service.state(), service.state())) == {"unavailable"}
        assert knowledge.looks == 1
        knowledge.go.set()
        assert await service.state() == "ok"
        assert await service.state() == "ok"
    assert knowledge.looks == 2
