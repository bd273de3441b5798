"""A program that takes vLLM's command line and starts, answers, loads, dies and lingers as it is told.

    python vllm_stand_in.py serve MODEL --host H --port P --notes FOLDER [--loading SECONDS]

In FOLDER each start leaves a file with its process's id, and that of a child which takes no notice of SIGTERM, as
vLLM's engine does. A file `crash` there has every start fail; `load` holds what /metrics tells; anything but a
number has /metrics fail.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

asked = argparse.ArgumentParser()
asked.add_argument("serve")
asked.add_argument("model")
asked.add_argument("--host", required=True)
asked.add_argument("--port", type=int, required=True)
asked.add_argument("--notes", type=Path, required=True)
asked.add_argument("--loading", type=float, default=0.0)
options = asked.parse_args()
KEY = os.environ["VLLM_API_KEY"]
print("the key is", KEY, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            load = (options.notes / "load").read_text() if (options.notes / "load").exists() else "0"
            if not load.isdecimal():
                return self._answer(500, b"")
            text = f'vllm:num_requests_running{{engine="0"}} {load}\nvllm:num_requests_waiting{{engine="0"}} 0.0\n'
            return self._answer(200, text.encode())
        return self._answer(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {KEY}":
            return self._answer(401, b'{"error": {"message": "Unauthorized"}}')
        if "sleep" in body["messages"][0]["content"]:
            time.sleep(1.5)
        message = {"role": "assistant", "content": f"I am {os.getpid()}, with {options.model}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return self._answer(200, json.dumps({"id": "x", "model": body["model"], "choices": [choice]}).encode())

    def log_message(self, *told: object) -> None:
        pass

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
(options.notes / f"{time.time_ns()}.start").write_text(f"{os.getpid()} {child.pid}")
if (options.notes / "crash").exists():
    print("there is no GPU", flush=True)
    sys.exit(3)
time.sleep(options.loading)
ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
