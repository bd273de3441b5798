"""Run a command until standard input ends, then end it and everything that it started.

    python -m gateway.providers.until_stdin_ends COMMAND [ARGUMENT…]

Whoever holds the other end of the pipe need not say goodbye: the kernel closes it when that process dies, in whatever
way. vLLM alone would stay: its engine outlives its API server, and while it starts it takes no notice of SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

GRACE = 20.0  # seconds to end by itself after SIGTERM


def main(command: list[str]) -> int:
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as failure:
        print(failure)
        return 127
    try:
        while process.poll() is None and not select.select([sys.stdin], [], [], 0.2)[0]:
            pass
        return process.returncode or 0
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever is left of its group
        process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
