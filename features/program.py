"""What a Feast repository defines, for processes that do without Feast.

    python -m features.program REPO SETTINGS.yaml [--apply | --registry]

It is a process of its own since definitions are a program, and Feast imports them by the working directory.
"""

from __future__ import annotations

import sys

from features.loading import without_torch


def main() -> int:
    with without_torch():
        from features import describing
    return describing.main()


if __name__ == "__main__":
    sys.exit(main())
