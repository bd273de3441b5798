"""The word that fences passages off in a prompt: nobody outside this process can foretell it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrieval.passages import Passage

_SECRET = secrets.token_bytes(32)


def fence_word(passages: Sequence[Passage]) -> str:
    """16 hexadecimal digits, the same for the same passages while this process lives.

    So an equal prompt is equal to the byte and a provider can cache it; without the process's key the word can't be
    foretold, so no passage can close its fence.
    """
    digest = hmac.new(_SECRET, digestmod=hashlib.sha256)
    for passage in passages:
        digest.update(
            f"{len(passage.text)} {passage.section_id} {passage.version}\n{passage.text}".encode("utf-8", "replace")
        )
    return digest.hexdigest()[:16]
