"""The process that parses one file: `python -m retrieval.parse_worker FILE BYTES SECONDS` prints one JSON object.

Its limits are set before the file is touched and before a parser is imported. `{"text", "title"}`, or `{"error"}`.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path


def main() -> None:
    file, memory, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nothing is ever unpacked to the disk
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        from retrieval.formats import Refused, to_markdown

        try:
            text, title = to_markdown(file)
            answer = {"text": text, "title": title}
        except Refused as refused:
            answer = {"error": str(refused)}
    except MemoryError:
        answer = {"error": f"can't be parsed within {memory // 1_000_000} MB of memory"}
    except RecursionError:
        answer = {"error": "is nested too deeply"}
    except Exception as error:
        # Whatever else a parser stumbles on is a broken file; its own words may hold the file's.
        answer = {"error": f"is broken, or not a {file.suffix.lower()} file ({type(error).__name__})"}
    sys.stdout.buffer.write(json.dumps(answer).encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
