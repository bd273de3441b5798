"""A request's headers, as the hot paths and all others read them: what says who calls stands there once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.errors import BadRequest

_ONCE: Final = (b"authorization", b"x-api-key")
# RFC 9110, section 5.3: several lines are one list.
_LISTS: Final = (b"cache-control", b"x-gateway-cache", b"tracestate")


def read_headers(lines: Sequence[tuple[bytes, bytes]], user_header: bytes | None) -> dict[bytes, bytes]:
    """The value of each header; of others that stand twice the last. Raises BadRequest.

    A proxy may have checked one line of a credential, or of a user's name, and another reader go by the other.
    """
    headers = dict(lines)
    if len(headers) != len(lines):
        _look_at_repeated(lines, headers, user_header)
    return headers


def credential(headers: dict[bytes, bytes]) -> bytes | None:
    """As the Authorization header has it, in whichever of the two it came."""
    given = headers.get(b"authorization")
    if given is None and (key := headers.get(b"x-api-key")) is not None:
        return b"Bearer " + key
    return given


def _look_at_repeated(
    lines: Sequence[tuple[bytes, bytes]], headers: dict[bytes, bytes], user_header: bytes | None
) -> None:
    first: dict[bytes, bytes] = {}
    for name, value in lines:
        if name not in first:
            first[name] = value
        elif name in _ONCE or name == user_header:
            shown = name.decode("latin-1")
            raise BadRequest(f"The header {shown} stands twice: send it once.", param=shown)
        elif name in _LISTS:
            first[name] = headers[name] = first[name] + b", " + value
