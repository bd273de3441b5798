"""What is past its time goes for as long as the gateway runs, whatever befalls one sweep."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.assembly.services import Records


async def test_a_sweep_that_breaks_off_ends_neither_the_others_nor_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.records.retention.EVERY", 0.001)
    swept: list[str] = []

    def wrong() -> dict[str, int]:
        swept.append("retention")
        raise ValueError("a tenant's time that nobody can read")

    parts: dict[str, Any] = dict.fromkeys(("database", "journal", "queries", "routing", "feedback", "responses"))
    records = Records(
        **parts,
        retention=SimpleNamespace(run=wrong),  # type: ignore[arg-type]  # all that is asked of it
        users=SimpleNamespace(erase_late=lambda: swept.append("late")),  # type: ignore[arg-type]
        close=lambda: None,
    )
    running = asyncio.ensure_future(records.sweep())
    try:
        async with asyncio.timeout(60):
            while swept.count("late") < 2:
                assert not running.done(), running
                await asyncio.sleep(0.005)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert swept[:4] == ["retention", "late"] * 2
    assert "stays for another hour" in caplog.text
