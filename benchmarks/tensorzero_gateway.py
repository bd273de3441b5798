"""Start TensorZero's HTTP gateway from its PyPI wheel, say where it listens, and stay until SIGTERM.

Run with the Python of build/peers/tensorzero: `python tensorzero_gateway.py CONFIG ADDRESS_FILE`. The wheel offers the gateway
for tests under a private name, which is why the version is pinned in peers.py.
"""

import signal
import sys
from pathlib import Path

from tensorzero.tensorzero import _start_http_gateway

# Before the start, so that no signal is lost; the gateway's own threads never take it.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
Path(sys.argv[2]).write_text(f"{gateway.base_url}\n")
signal.sigwait({signal.SIGTERM, signal.SIGINT})
gateway.close()
