"""Run a command until standard input ends, then end it and everything that it started.

    python until_stdin_ends.py COMMAND [ARGUMENT…]

Whoever holds the other end of the pipe need not say goodbye: the kernel closes it when pytest is killed. vLLM alone
would stay: its engine outlives its API server, and while it starts it takes no notice of SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys

import psutil

GRACE = 20.0  # seconds to end by itself after SIGTERM


def main(command: list[str]) -> int:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while process.poll() is None and not select.select([sys.stdin], [], [], 0.2)[0]:
            pass
        return process.returncode or 0
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        _, left = psutil.wait_procs(_session(process.pid), timeout=2)
        for survivor in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                survivor.kill()
        psutil.wait_procs(left, timeout=GRACE)


def _session(leader: int) -> list[psutil.Process]:
    """Every process of the session, also those whose parent is gone already."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader:
                members.append(process)
    return members


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
