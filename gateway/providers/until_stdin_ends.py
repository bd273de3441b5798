"""Run a command until standard input ends, then end it and everything that it started.

    python -m gateway.providers.until_stdin_ends COMMAND [ARGUMENT…]

Whoever holds the other end of the pipe need not say goodbye: the kernel closes it when that process dies, in whatever
way. vLLM alone would stay: its engine outlives its API server, and while it starts it takes no notice of SIGTERM.
The command shares this process's group, so that whoever started it can still end the rest when this process is killed.
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
    """The command's exit status, when it ended by itself; what it has left is then for whoever started us to end."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    asked: list[int] = []
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ending, lambda number, frame: asked.append(number))
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as failure:
        print(failure)
        return 127
    while process.poll() is None and not asked and not _stdin_ended(0.2):
        pass
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    if asked or _stdin_ended(0.0):
        os.killpg(0, signal.SIGKILL)  # whatever is left of the group, and this process with it
    return process.returncode


def _stdin_ended(within: float) -> bool:
    return bool(select.select([sys.stdin], [], [], within)[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
