"""A server that listens on every address of its machine, in a network of its own, where nobody else is.

It gets a network namespace with nothing but loopback, and a process inside passes on what comes in at a socket of
127.0.0.1 outside: a socket belongs to the namespace in which it was made. Where namespaces are forbidden, it runs
without.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
import socket
import struct
import subprocess

_BRING_UP = 0x8914, struct.pack("16sh22x", b"lo", 1)  # SIOCSIFFLAGS with IFF_UP: netdevice(7)
# Some servers want to write their process id below /run.
_IN_OWN_NETWORK = (
    "unshare",
    "--map-root-user",
    "--net",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs run /run && exec "$@"',
    "-",
)


def own_network() -> tuple[str, ...]:
    """The command in front; none on a machine that lets nobody make namespaces, as in some containers."""
    tried = subprocess.run([*_IN_OWN_NETWORK[:4], "true"], capture_output=True, check=False)
    return _IN_OWN_NETWORK if tried.returncode == 0 else ()


def bring_up() -> None:
    """Loopback, from inside."""
    with socket.socket() as any_socket, contextlib.suppress(PermissionError):  # it is up where we have no namespace
        fcntl.ioctl(any_socket, *_BRING_UP)


async def pass_on(*ways: tuple[socket.socket, int]) -> None:
    """What comes in at a listener to that port of the server inside, once it listens there; until SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await asyncio.gather(*(_pass_on(listener, port, over) for listener, port in ways))


async def _pass_on(listener: socket.socket, port: int, over: asyncio.Event) -> None:
    pairs: set[asyncio.Task[None]] = set()

    async def pair(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        pairs.add(this)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, far_writer))
                group.create_task(_copy(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            pairs.discard(this)

    while not over.is_set():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            break
        await asyncio.sleep(0.05)
    await asyncio.start_server(pair, sock=listener)  # whoever came before that waits, instead of trying again later
    await over.wait()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()
