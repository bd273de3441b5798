"""What the command `rag-gateway` and `python -m gateway` run."""

from __future__ import annotations

import sys


def main() -> None:
    """The command line, or how to get it: an installation for the client alone has none."""
    try:
        import msgspec  # noqa: F401  where click is there, whatever brought it, this tells a server's installation

        from gateway.cli import main as command_line
    except ModuleNotFoundError as missing:
        if missing.name is not None and missing.name.startswith("gateway."):
            raise
        sys.exit(
            f"This installation is for gateway.client only (there is no {missing.name}). The gateway itself: "
            "pip install 'rag-gateway[server]', or 'rag-gateway[all]' with retrieval, features and guardrails."
        )
    command_line()


if __name__ == "__main__":
    main()
