"""Files of other kinds than text to Markdown, each in a process of its own that has little memory and little time.

A parser is the part of this library that strangers' bytes reach deepest: whatever a file does to its parser, it does
to a process that holds nothing else, opens nothing else, and is ended when its time is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from retrieval.loading import Unreadable

_LONGEST_ANSWER = 64_000_000  # bytes of JSON


@dataclass(frozen=True, slots=True)
class Parsed:
    """Markdown, and the title that the file itself has, if any."""

    text: str
    title: str


class Parser:
    """`seconds` of wall clock and `memory` bytes for each file; at most `at_once` of them run."""

    def __init__(self, *, seconds: float = 30.0, memory: int = 1_000_000_000, at_once: int = 2) -> None:
        self._seconds = seconds
        self._memory = memory
        self._slots = asyncio.Semaphore(at_once)

    async def parse(self, file: Path) -> Parsed:
        """Raises Unreadable with the reason."""
        async with self._slots:
            return await self._parse(file)

    async def _parse(self, file: Path) -> Parsed:
        # No variable of ours: a parser needs no credential. Its working directory is nobody's.
        environment = {
            name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "PYTHONPATH") if name in os.environ
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "retrieval.parse_worker", str(file), str(self._memory), str(int(self._seconds) + 1),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env=environment, start_new_session=True, limit=_LONGEST_ANSWER,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._seconds):
                answer = await process.stdout.read(_LONGEST_ANSWER)
                status = await process.wait()
        except TimeoutError:
            raise Unreadable(f"can't be parsed within {self._seconds:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            process._transport.close()  # type: ignore[attr-defined]  # else its pipe waits for the garbage collector
        try:
            told = json.loads(answer)
        except ValueError:
            if status == -signal.SIGXCPU:
                raise Unreadable(f"can't be parsed within {self._seconds:g} s") from None
            raise Unreadable(f"can't be parsed within {self._memory // 1_000_000} MB of memory") from None
        if "error" in told:
            raise Unreadable(told["error"])
        return Parsed(told["text"], told["title"])
