"""A command that ends with whoever started it, in whatever way that one ends.

    python -m retrieval.tethered PARENT_PID COMMAND ARGUMENT…

The kernel is asked before the command replaces this process, since a hook between fork and exec is not safe in a
parent with threads (gRPC's, torch's). Linux only (prctl(2)); elsewhere the command merely runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before it could be asked for
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
