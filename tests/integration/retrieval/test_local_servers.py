"""Who owns the two local processes, who shares them, and what is left when their owner goes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from retrieval.embedding import EndpointEmbedder
from retrieval.local_servers import LocalServers, embedding_socket

_HOLD = """
import asyncio, sys
from pathlib import Path
from retrieval.local_servers import LocalServers

async def main():
    async with LocalServers(Path(sys.argv[1]), milvus=True, embeddings=False):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


async def holder(data_dir: Path) -> asyncio.subprocess.Process:
    """Another process that has the servers open, until its standard input ends."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _HOLD, str(data_dir), stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
    return process


def servers_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


async def gone(pids: list[int]) -> None:
    async with asyncio.timeout(60):
        while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            await asyncio.sleep(0.05)


async def end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_the_first_owns_the_others_share_and_nothing_is_left(tmp_path: Path) -> None:
    first = await holder(tmp_path)
    second = await holder(tmp_path)
    owned = servers_of(first.pid)

    assert len(owned) == 1
    assert servers_of(second.pid) == []
    await end(second)
    assert psutil.pid_exists(owned[0])
    await end(first)
    await gone(owned)


async def test_when_the_owner_is_killed_its_servers_end_and_the_next_takes_over(tmp_path: Path) -> None:
    first = await holder(tmp_path)
    second = await holder(tmp_path)
    owned = servers_of(first.pid)
    first.kill()
    await first.wait()
    await gone(owned)

    async with asyncio.timeout(60):
        while not servers_of(second.pid):
            await asyncio.sleep(0.05)
    third = await holder(tmp_path)
    taken = servers_of(second.pid)

    assert servers_of(third.pid) == []
    await end(third)
    await end(second)
    await gone(taken)


async def test_a_server_that_crashed_is_started_again(tmp_path: Path) -> None:
    async with LocalServers(tmp_path, milvus=True, embeddings=False) as servers:
        (child,) = servers._children.values()
        child.kill()
        async with asyncio.timeout(60):
            while servers._children["milvus"].pid == child.pid or not await servers._answer():
                await asyncio.sleep(0.05)
        again = servers._children["milvus"].pid

    assert again != child.pid
    await gone([again])


async def test_a_path_too_long_for_a_socket_is_replaced_by_a_short_one(tmp_path: Path) -> None:
    data_dir = tmp_path / ("d" * 100)
    socket = embedding_socket(data_dir)
    assert len(str(socket)) <= 100
    assert socket == embedding_socket(data_dir) != embedding_socket(tmp_path / ("e" * 100))

    async with LocalServers(data_dir, milvus=False, embeddings=True) as servers:
        (child,) = servers._children.values()
        embedder = EndpointEmbedder("http://embeddings/v1", model="all-MiniLM-L6-v2", dimension=384, socket=socket)
        (vector,) = await embedder.embed(["a text"], kind="query")
        await embedder.aclose()

    assert len(vector) == 384
    assert sum(number * number for number in vector) == pytest.approx(1, abs=1e-4)
    await gone([child.pid])
    socket.unlink(missing_ok=True)
