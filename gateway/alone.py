"""Work on a data folder that one process at a time may do."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

_POLL = 0.2


@contextlib.asynccontextmanager
async def alone(lock: Path) -> AsyncIterator[None]:
    """Wait until no other process is inside with this file; one that dies inside is not, any more.

    Waiting is looking again and again: a thread that waited for the kernel's lock could not be cancelled.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_POLL)
        yield
    finally:
        os.close(held)
