"""Counting tokens: tiktoken's o200k_base where its table lies on this machine, else an estimate that says so.

tiktoken would fetch its table over the network at first use; the gateway must start and count without one, so the
table is used only when it is already in tiktoken's cache (`TIKTOKEN_CACHE_DIR`, or its folder under the temporary one).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import tiktoken

# tiktoken names a cached table by the SHA-1 of its address.
_O200K_BASE = "fb374d419588a4632f3f557e76b4b70aebbca790"


class TokenCounter:
    """`estimated` says that counts are UTF-8 bytes / 4, rounded up: near for English prose, high for other scripts."""

    def __init__(self) -> None:
        folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.path.join(tempfile.gettempdir(), "data-gym-cache")
        self._encoding = tiktoken.get_encoding("o200k_base") if (Path(folder) / _O200K_BASE).is_file() else None

    @property
    def estimated(self) -> bool:
        return self._encoding is None

    def count(self, text: str) -> int:
        if self._encoding is None:
            return -(-len(text.encode("utf-8", "replace")) // 4)
        return len(self._encoding.encode_ordinary(text))
