"""Start TensorZero's HTTP gateway from its PyPI wheel, say where it listens, and stay until SIGTERM.

Run with the Python of build/peers/tensorzero: `python tensorzero_gateway.py CONFIG ADDRESS_FILE [STORE]`. The wheel offers the
gateway for tests under a private name, which is why the version is pinned in peers.py. STORE is the program of a Valkey
or Redis 7 for its limits: it runs beside, on the other cores.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tensorzero.tensorzero import _start_http_gateway

# Before the start, so that no signal is lost; the gateway's own threads never take it.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
url = None
if len(sys.argv) > 3:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - own or own)
    # It goes to the background by itself, so that what it spends is not the gateway's.
    settings = ("--port", str(port), "--save", "", "--daemonize", "yes", "--dir", str(Path(sys.argv[2]).parent))
    subprocess.run([sys.argv[3], *settings], check=True, stdout=subprocess.DEVNULL)
    os.sched_setaffinity(0, own)
    url = f"redis://127.0.0.1:{port}"
try:
    gateway = _start_http_gateway(
        config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=url, async_setup=False
    )
    Path(sys.argv[2]).write_text(f"{gateway.base_url}\n")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    gateway.close()
finally:
    if url is not None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"SHUTDOWN NOSAVE\r\n")
