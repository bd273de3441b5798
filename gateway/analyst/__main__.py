"""python -m gateway.analyst: settings as the first line of its input; it works until that ends."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is told to the gateway, which closes the pipe
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # gives back what is free
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.nice(10)  # calls go first
    line = sys.stdin.buffer.readline()
    if not line:
        return
    import msgspec

    from gateway.analyst.rounds import Rounds
    from gateway.analyst.settings import Settings, Told
    from gateway.telemetry.logs import configure_logging, keep_out_of_logs

    configure_logging()
    ending = threading.Event()

    def watch() -> None:
        while os.read(0, 1024):
            pass
        ending.set()

    def tell(told: Told) -> None:
        try:
            os.write(1, msgspec.json.encode(told) + b"\n")
        except BrokenPipeError:
            ending.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()
    try:
        settings = msgspec.json.decode(line, type=Settings)
        keep_out_of_logs([*settings.keys, *settings.options.values()])
        rounds = Rounds(settings, tell, ending)
    except (ValueError, ImportError) as fault:
        logging.getLogger("gateway.analyst").error("the lake can't be filled: %s", fault)
        sys.exit(1)
    rounds.run()


if __name__ == "__main__":
    main()
