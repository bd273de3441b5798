"""Install the gateways that the benchmarks compare with, each in a folder of its own under build/peers/.

    python benchmarks/peers.py [tensorzero] [litellm] [portkey]     all where none is named

Nothing here enters the project's own environment. Installing again is safe: a peer that is there is kept.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parent.parent / "build" / "peers"
TENSORZERO = "tensorzero==2026.6.*"
LITELLM = "litellm[proxy]"
PORTKEY = "1.15.2"
# With the node server of its own range, Portkey 1.15.2 answers every stream with 500; this one is the last that works.
HONO_NODE_SERVER = "1.13.8"


def python_peer(name: str, requirement: str, works: str) -> None:
    """A virtual environment with one requirement; `works` is an import that proves it."""
    python = PEERS / name / "bin" / "python"
    if not (python.exists() and subprocess.run([python, "-c", works], capture_output=True).returncode == 0):
        subprocess.run([sys.executable, "-m", "venv", "--clear", PEERS / name], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
        subprocess.run([python, "-c", works], check=True)
    print(f"{name}: ready in {PEERS / name}", flush=True)


def portkey() -> None:
    if shutil.which("npm") is None:
        raise RuntimeError("npm is not installed; Portkey's gateway needs Node 18 or newer")
    folder = PEERS / "portkey"
    folder.mkdir(parents=True, exist_ok=True)
    package = {
        "private": True,
        "dependencies": {"@portkey-ai/gateway": PORTKEY},
        "overrides": {"@hono/node-server": HONO_NODE_SERVER},
    }
    (folder / "package.json").write_text(json.dumps(package, indent=2) + "\n")
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)
    print(f"portkey: ready in {folder}", flush=True)


INSTALLERS = {
    "tensorzero": lambda: python_peer(
        "tensorzero", TENSORZERO, "from tensorzero.tensorzero import _start_http_gateway"
    ),
    "litellm": lambda: python_peer("litellm", LITELLM, "import litellm.proxy.proxy_cli"),
    "portkey": portkey,
}


def main() -> int:
    wanted = sys.argv[1:] or list(INSTALLERS)
    if unknown := set(wanted) - set(INSTALLERS):
        print(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(INSTALLERS)}", file=sys.stderr)
        return 2
    failed = 0
    for name in wanted:
        try:
            INSTALLERS[name]()
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: not installed: {error}", file=sys.stderr)
            failed = 1
    print("nginx is taken from the system where it is installed (Debian: apt-get install nginx-light)")
    return failed


if __name__ == "__main__":
    sys.exit(main())
