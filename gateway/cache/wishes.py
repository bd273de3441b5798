"""What a caller may say of the cache: `Cache-Control` (RFC 9111, section 5.2.1) and our own `x-gateway-cache`.

A caller can only narrow: ask afresh, keep for a shorter time, want more likeness. Nothing here makes an answer
anybody else's. What says less wins where the two headers, or two words of one, differ.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from gateway.config.quantities import duration
from gateway.errors import BadRequest
from gateway.values import CacheWish

_SECONDS = re.compile(r"[0-9]{1,10}")
_SAID = 200  # bytes of a header that are read
_WORDS = (
    "off, refresh, exact, ttl=DURATION such as ttl=60s, and threshold=NUMBER from 0 to 1; several with commas between"
)


_NO_WISH = CacheWish()


def wish(cache_control: bytes | None, own: bytes | None) -> CacheWish | None:
    """What the two headers say; None where that is nothing. Raises BadRequest."""
    for name, header in (("Cache-Control", cache_control), ("x-gateway-cache", own)):
        if header is not None and len(header) > _SAID:
            raise BadRequest(f"The header {name} is longer than {_SAID} bytes.", param=name.lower())
    return _wish(cache_control, own)


@lru_cache(256)  # most callers always say the same
def _wish(cache_control: bytes | None, own: bytes | None) -> CacheWish | None:
    asked = CacheWish()
    for word, value in _directives(cache_control):
        if word == "no-store":
            asked = replace(asked, look_up=False, keep=False)
        elif word == "no-cache":
            asked = replace(asked, look_up=False)
        elif word == "only-if-cached":
            asked = replace(asked, only_if_cached=True)
        elif word == "max-age":
            if not _SECONDS.fullmatch(value):
                raise BadRequest(
                    "max-age in Cache-Control is a whole number of seconds, as in max-age=60.", param="cache-control"
                )
            asked = replace(asked, max_age=float(value) if asked.max_age is None else min(float(value), asked.max_age))
    for word, value in _directives(own):
        if word == "off" and not value:
            asked = replace(asked, look_up=False, keep=False)
        elif word == "refresh" and not value:
            asked = replace(asked, look_up=False)
        elif word == "exact" and not value:
            asked = replace(asked, semantic=False)
        elif word == "ttl":
            asked = replace(asked, ttl=_ttl(value))
        elif word == "threshold":
            asked = replace(asked, threshold=_threshold(value))
        else:
            said = f"{word}={value}" if value else word
            raise BadRequest(f"x-gateway-cache can't be '{said}'; it may be {_WORDS}.", param="x-gateway-cache")
    return None if asked == _NO_WISH else asked


def _directives(header: bytes | None) -> list[tuple[str, str]]:
    """(word, value) of each; words in lower case, values without their quotes (RFC 9111, section 5.2)."""
    if header is None:
        return []
    parts = header.decode("latin-1").split(",")
    pairs = [part.strip().partition("=") for part in parts]
    return [(word.strip().lower(), value.strip().strip('"')) for word, _, value in pairs if word.strip()]


def _ttl(value: str) -> float:
    try:
        return duration(value)
    except ValueError as fault:
        raise BadRequest(f"ttl in x-gateway-cache: {fault}.", param="x-gateway-cache") from None


def _threshold(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:  # nan is not either
        raise BadRequest(
            "threshold in x-gateway-cache is a number from 0 to 1, as in threshold=0.97.", param="x-gateway-cache"
        )
    return number
